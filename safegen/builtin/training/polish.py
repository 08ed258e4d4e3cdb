"""The decoder's last lesson: what the denoiser leaves a little blurred should be decoded as sharp as it was rendered.

Half of each batch are scenes whose latents are noised, and denoised again as a pipeline does it; the decoder learns to
make the rendered scene of them. The other half is rendered pictures, only encoded, so that they are decoded as before.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from safegen.builtin import world
from safegen.builtin.training import autoencoder, causal, denoiser
from safegen.builtin.training.autoencoder import to_tensor
from safegen.builtin.training.checkpointing import Progress, device, halved
from safegen.builtin.training.muon import Muon

BATCH, FRESH, POOL = 16, 8, 512  # pictures a step; pictures denoised at once, every `EVERY` steps; pictures kept
EVERY, PEAK = 4, 1e-2
STEPS, GUIDANCE = 20, 3.0  # as the model draws by default
DEEPEST = 4  # of `STEPS`, the first from which a noised scene is denoised: noised further, it could become another


class Drawings:
    """Scenes with their latents as the denoiser leaves them."""

    def __init__(self, runs: Path, vae: AutoencoderKL) -> None:
        self.vae, (self.tokenizer, encoder) = vae, causal.load(runs)
        self.encoder = encoder.to(device())
        self.unet = denoiser.trained(runs).to(device())
        self.noising = denoiser.scheduler()
        self.noising.set_timesteps(STEPS)
        self.scale = denoiser.scale(runs)
        self.silence = causal.encode(self.tokenizer, self.encoder, [""])
        self.pool: list[tuple[world.Scene, Tensor]] = []

    @torch.no_grad()
    def draw(self, rng: random.Random) -> None:
        """Put some more scenes into the pool, in the place of the oldest."""
        scenes = [world.sample(rng) for _ in range(FRESH)]
        states = causal.encode(self.tokenizer, self.encoder, [scene.caption for scene in scenes])
        states = torch.cat([self.silence.expand_as(states), states])
        with halved(device().type):
            latents = self.vae.encode(to_tensor([world.render(s) for s in scenes]).to(device())).latent_dist.mean
            latents = latents.float() * self.scale
            times = self.noising.timesteps[rng.randrange(DEEPEST, STEPS) :]
            latents = self.noising.add_noise(latents, torch.randn_like(latents), times[:1].expand(FRESH))
            for time in times:
                silent, told = self.unet(latents.repeat(2, 1, 1, 1), time, states).sample.float().chunk(2)
                latents = self.noising.step(silent + GUIDANCE * (told - silent), time, latents).prev_sample
        self.pool = [*self.pool, *zip(scenes, latents / self.scale, strict=True)][-POOL:]

    def some(self, rng: random.Random, count: int) -> tuple[Tensor, Tensor]:
        """Choose pictures of the pool: their latents (B, 8, 16, 16) and what they should be (B, 3, H, W)."""
        picked = [rng.choice(self.pool) for _ in range(count)]
        pixels = to_tensor([world.render(scene) for scene, _ in picked])
        return torch.stack([latents for _, latents in picked]), pixels.to(device())


def train(folder: Path, steps: int, minutes: float) -> None:
    """Train the decoder, or go on training it, under `folder`."""
    vae = autoencoder.trained(folder.parent)
    drawings = Drawings(folder.parent, vae)
    model = autoencoder.decoder_only(autoencoder.trained(folder.parent)).to(device(), memory_format=torch.channels_last)
    run = Progress(model, folder, steps, PEAK, minutes, decay=0.99, optimizer=Muon)
    total = 0.0
    for step in run:
        rng = random.Random(step)
        if step % EVERY == 0 or not drawings.pool:
            drawings.draw(rng)
        drawn, pixels = drawings.some(rng, BATCH // 2)
        other = to_tensor([autoencoder.crowded(rng)[0] for _ in range(BATCH // 2)]).to(device())
        with torch.no_grad(), halved(device().type):
            latents = torch.cat([drawn, vae.encode(other).latent_dist.mean.float()])
        loss = autoencoder.apart(model, latents, torch.cat([pixels, other]))
        run.update(loss)
        total += loss.item()
        if step % 20 == 19:
            print(f"polish {step + 1} loss {total / 20:.4f}", flush=True)
            total = 0.0
    run.average.save_pretrained(folder / "model")
