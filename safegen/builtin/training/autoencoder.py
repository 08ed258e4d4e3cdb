"""The autoencoder: 128x128 pixels to 16x16x8 latents, a stock `AutoencoderKL` of 3 M parameters.

A run that begins with the shipped weights trains the decoder alone: the latents stay what the denoiser knows.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from safegen.builtin import world
from safegen.builtin.training.checkpointing import Progress, device, halved
from safegen.builtin.training.muon import Muon

SHIPPED = Path(__file__).parents[1] / "weights" / "pipeline"
BATCH = 16
NO_VARIANCE = -30.0  # the logarithm of a variance, where diffusers cuts it off
LATENT_NOISE = 0.1  # the decoder learns to tolerate small errors of the denoiser


def build() -> AutoencoderKL:
    """Make the untrained network."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 96, 128),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=2,  # few groups: normalising channel by channel would lose flat colours
        sample_size=world.SIZE,
        mid_block_add_attention=False,
    )


def to_tensor(pictures: list[Image.Image]) -> Tensor:
    """Turn pictures into pixels (B, 3, H, W) in [-1, 1]."""
    stacked = np.stack([np.asarray(p, dtype=np.float32) for p in pictures])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2) / 127.5 - 1


def crowded(rng: random.Random) -> tuple[Image.Image, list[world.Thing]]:
    """Draw four glyphs at once, at most one of them a person: it teaches more per picture than a scene of the world."""
    shown = list(world.sample(rng, pair_share=0.0).things)
    shown += rng.sample(list(world.things().values()), 3)
    picture = Image.new("RGB", (world.SIZE, world.SIZE), rng.choice(list(world.grounds().values())))
    for i, thing in enumerate(rng.sample(shown, 4)):
        figure = world.stamp(thing.glyph, world.GLYPH)
        picture.paste(figure, (world.GLYPH * (i % 2), world.GLYPH * (i // 2)), figure)
    return picture, shown


def apart(model: AutoencoderKL, latents: Tensor, pixels: Tensor) -> Tensor:
    """Decode latents, and measure how far they are from pixels: L2 and some L1, and L2 of the gradients.

    Gradients are squared: their sum is what sharpness is measured by. As L1 they outweighed colour.
    """
    with halved(pixels.device.type):
        decoded = model.decode(latents).sample.float()
    edges = sum(F.mse_loss(decoded.diff(dim=d), pixels.diff(dim=d)) for d in (2, 3))
    loss: Tensor = 4 * (F.mse_loss(decoded, pixels) + edges) + 0.5 * F.l1_loss(decoded, pixels)
    return loss


def loss_of(model: AutoencoderKL, pixels: Tensor) -> Tensor:
    """Measure what becomes of pixels that are encoded and decoded; the latents are weakly pulled to unit scale."""
    with halved(pixels.device.type):
        latents = model.encode(pixels).latent_dist.mean.float()
    scale = (latents.mean((0, 2, 3)) ** 2 + (latents.std((0, 2, 3)) - 1) ** 2).mean()
    loss: Tensor = apart(model, latents + LATENT_NOISE * torch.randn_like(latents), pixels) + 0.05 * scale
    return loss


def begin() -> AutoencoderKL:
    """Make the network of a new run: the shipped one with a frozen encoder if there is one, else a fresh one."""
    if not (SHIPPED / "vae").is_dir():
        return build()
    return decoder_only(AutoencoderKL.from_pretrained(SHIPPED / "vae", torch_dtype=torch.float32))


def decoder_only(model: AutoencoderKL) -> AutoencoderKL:
    """Let the decoder alone be taught; **changes the model**."""
    model.requires_grad_(True)
    model.encoder.requires_grad_(False)
    model.quant_conv.requires_grad_(False)
    return model


def trained(runs: Path) -> AutoencoderKL:
    """Load the autoencoder, frozen: polished if it was, else of this run, else the shipped one."""
    ours = (runs / stage / "model" for stage in ("polish", "autoencoder"))
    found = next((part for part in ours if part.is_dir()), SHIPPED / "vae")
    vae = AutoencoderKL.from_pretrained(found, torch_dtype=torch.float32)
    return vae.to(device(), memory_format=torch.channels_last).eval().requires_grad_(False)


def fix_variance(model: AutoencoderKL) -> None:
    """Make every sample of an encoding its mean; **changes the model**.

    Only the mean is trained. Pipelines that begin from a picture sample, and would add noise that means nothing.
    """
    _, variance = model.quant_conv.weight.data.chunk(2)
    variance.zero_()
    model.quant_conv.bias.data.chunk(2)[1].fill_(NO_VARIANCE)


def train(folder: Path, steps: int, minutes: float) -> None:
    """Train, or go on training, under `folder`."""
    model = begin().to(device(), memory_format=torch.channels_last)
    run = Progress(model, folder, steps, peak_lr=2e-2, minutes=minutes, decay=0.99, optimizer=Muon)
    for step in run:
        rng = random.Random(step)
        pictures = [crowded(rng)[0] if i % 2 else world.render(world.sample(rng)) for i in range(BATCH)]
        pixels = to_tensor(pictures).to(device(), memory_format=torch.channels_last)
        loss = loss_of(model, pixels)
        run.update(loss)
        if step % 20 == 0:
            print(f"autoencoder {step} loss {loss.item():.4f}", flush=True)
    fix_variance(run.average)
    run.average.save_pretrained(folder / "model")
