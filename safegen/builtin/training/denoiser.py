"""The denoiser: a stock `UNet2DConditionModel` on 16x16x8 latents, v-prediction, 10% of texts dropped."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file
from torch import Tensor

from safegen.builtin import world
from safegen.builtin.training import autoencoder, causal
from safegen.builtin.training.autoencoder import SHIPPED, to_tensor
from safegen.builtin.training.checkpointing import Progress, device, halved
from safegen.builtin.training.meanings import nicknames

BATCH = 32
FRESH = 3  # new scenes per step (a third of its cost); the rest of the batch comes from the pool
PEAK = 4e-4  # learning rate
START, POOL = 2_048, 8_192  # scenes kept, as latents and text states: at first, and at most
TEXT_LAYERS = ("attn2.to_k", "attn2.to_v", "time_emb_proj", "add_embedding")
TEXT_SHARE = 6.0
PLAIN = 0.4  # how often a caption calls a thing by its first name: seldom, so that all English is learned
TEXT_NOISE = 0.15  # share of the text states' deviation: states near a word's should mean the same thing
BLEND = 0.15  # most of another caption that states hold: what they mean most should be drawn, and nothing between


def build() -> UNet2DConditionModel:
    """Make the untrained network.

    The text reaches it twice: through cross-attention at 8x8, and pooled by attention into the
    time embedding (`addition_embed_type="text"`), which names the things to every block at once.
    """
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=8,
        out_channels=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 192, 224),
        layers_per_block=1,
        cross_attention_dim=causal.WIDTH,
        attention_head_dim=8,
        addition_embed_type="text",
        addition_embed_type_num_heads=8,
        encoder_hid_dim=None,
        resnet_time_scale_shift="scale_shift",
    )


def begin(runs: Path) -> UNet2DConditionModel:
    """Load the weights of a new run: what was grafted, else the shipped ones, else fresh ones."""
    for known in (runs / "graft" / "model", SHIPPED / "unet"):
        if known.is_dir():
            return UNet2DConditionModel.from_pretrained(known, torch_dtype=torch.float32)
    return build()


def trained(runs: Path) -> UNet2DConditionModel:
    """Load the averaged weights of a run, finished or not; the shipped ones if there is none. They are frozen."""
    model, file = build(), runs / "denoiser" / "checkpoint.safetensors"
    if not file.exists():
        return UNet2DConditionModel.from_pretrained(SHIPPED / "unet", torch_dtype=torch.float32).requires_grad_(False)
    model.load_state_dict(
        {k.removeprefix("average."): v for k, v in load_file(file).items() if k.startswith("average.")}
    )
    return model.eval().requires_grad_(False)


def scale(runs: Path) -> float:
    """Read the factor by which a run multiplies latents; without a run, that of the shipped autoencoder."""
    if (file := runs / "denoiser" / "scale.json").exists():
        return float(json.loads(file.read_text()))
    return float(AutoencoderKL.load_config(SHIPPED / "vae")["scaling_factor"])


def groups(model: UNet2DConditionModel) -> list[dict[str, Any]]:
    """Give the layers where text enters a greater share of the learning rate.

    Without it, a network learns grounds and places in thousands of steps and hardly a thing.
    """
    text = [p for n, p in model.named_parameters() if any(layer in n for layer in TEXT_LAYERS)]
    known = {id(p) for p in text}
    rest = [p for p in model.parameters() if id(p) not in known]
    return [{"params": text, "share": TEXT_SHARE}, {"params": rest, "share": 1.0}]


def scheduler() -> DDIMScheduler:
    """Make a noise schedule down to zero signal, so that grounds of any colour are reached."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


class Scenes:
    """A pool of encoded scenes; a few of them are replaced at every step."""

    def __init__(self, vae: AutoencoderKL, runs: Path, seed: int) -> None:
        self.vae, self.rng, self.more = vae, random.Random(seed), nicknames(runs)
        self.tokenizer, encoder = causal.load(runs)
        self.encoder = encoder.to(device())
        parts = [self._draw(64) for _ in range(START // 64)]
        self.latents = torch.empty(POOL, *parts[0][0].shape[1:], dtype=torch.half, device=device())
        self.texts = torch.empty(POOL, *parts[0][1].shape[1:], dtype=torch.half, device=device())
        self.latents[:START] = torch.cat([p[0] for p in parts])
        self.texts[:START] = torch.cat([p[1] for p in parts])
        self.scale = float(1 / self.latents[:START].float().std())
        self.silence = causal.encode(self.tokenizer, self.encoder, [""])[0].half()
        self.filled = self.next = START

    @torch.no_grad()
    def _draw(self, count: int) -> tuple[Tensor, Tensor]:
        scenes = [world.sample(self.rng, plain=PLAIN, more=self.more) for _ in range(count)]
        pixels = to_tensor([world.render(s) for s in scenes]).to(device(), memory_format=torch.channels_last)
        with halved(device().type):
            latents = self.vae.encode(pixels).latent_dist.mean
            texts = causal.encode(self.tokenizer, self.encoder, [s.caption for s in scenes])
        return latents.half(), texts.half()

    def batch(self) -> tuple[Tensor, Tensor]:
        """Draw latents (B, 8, 16, 16) at unit scale and text states (B, 77, 256)."""
        fresh = (torch.arange(FRESH) + self.next) % POOL
        self.latents[fresh], self.texts[fresh] = self._draw(FRESH)
        self.next = (self.next + FRESH) % POOL
        self.filled = min(POOL, self.filled + FRESH)
        picks = torch.cat([fresh, torch.randint(0, self.filled, (BATCH - FRESH,))])
        latents = self.latents[picks].float() * self.scale
        texts = self.texts[picks].float()
        texts += BLEND * torch.rand(BATCH, 1, 1, device=texts.device) * (texts.roll(1, 0) - texts)
        texts += TEXT_NOISE * texts.std() * torch.randn_like(texts) * torch.rand(BATCH, 1, 1, device=texts.device)
        silent = torch.rand(BATCH, device=texts.device) < 0.1
        texts[silent] = self.silence.float()
        return latents, texts


def loss_of(model: UNet2DConditionModel, noising: DDIMScheduler, latents: Tensor, texts: Tensor) -> Tensor:
    """Compute the v-prediction error with min-SNR weights (Hang et al. 2023, gamma 5)."""
    count = len(latents)
    # Train more at high noise, where the picture is decided, than at low noise, where it is polished.
    t = (1000 * torch.rand(count, device=latents.device) ** 0.8).long().clamp(max=999)
    noise = torch.randn_like(latents)
    noisy = noising.add_noise(latents, noise, t)
    target = noising.get_velocity(latents, noise, t)
    with halved(latents.device.type):
        predicted = model(noisy.contiguous(memory_format=torch.channels_last), t, texts).sample
    alpha = noising.alphas_cumprod.to(latents.device)[t]
    snr = alpha / (1 - alpha)
    weight = snr.clamp(max=5.0) / (snr + 1) + 0.25 * (1 - alpha)
    error = ((predicted.float() - target) ** 2).mean((1, 2, 3))
    loss: Tensor = (weight * error).mean() / weight.mean()
    return loss


def train(folder: Path, steps: int, minutes: float) -> None:
    """Train, or go on training, under `folder`; with the autoencoder beside it, or the shipped one."""
    vae = autoencoder.trained(folder.parent)
    model = begin(folder.parent).to(device(), memory_format=torch.channels_last)
    if device().type == "cpu":
        # The fused attention's bf16 backward is several times slower than two matrix products there.
        model.set_attn_processor(AttnProcessor())
    run = Progress(model, folder, steps, peak_lr=PEAK, minutes=minutes, decay=0.9985, groups=groups(model))
    scenes = Scenes(vae, folder.parent, seed=run.step)
    if (file := folder / "scale.json").exists():  # a resumed run keeps the scale that it began with
        scenes.scale = scale(folder.parent)
    noising = scheduler()
    file.write_text(json.dumps(round(scenes.scale, 4)))
    print(f"denoiser from step {run.step}, latent scale {scenes.scale:.4f}", flush=True)
    total = 0.0
    for step in run:
        loss = loss_of(model, noising, *scenes.batch())
        run.update(loss)
        total += loss.item()
        if step % 50 == 49:
            print(f"denoiser {step + 1} loss {total / 50:.4f}", flush=True)
            total = 0.0
    run.average.save_pretrained(folder / "model")
