"""The judge's training: renders, clean or spoiled as a generator spoils them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from PIL import Image, ImageFilter
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from safegen.builtin import judge, world
from safegen.builtin.training.autoencoder import crowded, trained
from safegen.builtin.training.checkpointing import Progress, device, halved

BATCH = 32
BLURRED = 1 / 5  # of scenes; nothing is to be seen in them


def labels_of(things: Sequence[world.Thing]) -> Tensor:
    """Make the multi-hot target of a picture's things, in the order of `judge.label_names`."""
    names = {name for t in things for name in ((*t.label.split("/"),) if t.is_person else (t.label,))}
    return torch.tensor([float(n in names) for n in judge.label_names()])


def example(rng: random.Random) -> tuple[Image.Image, Tensor]:
    """Draw a picture and its target.

    Half of the pictures are crowded; some are blurred past recognition, and their target is empty.
    """
    if rng.random() < 0.5:
        picture, shown = crowded(rng)
        return picture, labels_of(shown)
    scene = world.sample(rng, people_share=0.3)
    picture, target = world.render(scene), labels_of(scene.things)
    if rng.random() < BLURRED:
        return picture.filter(ImageFilter.GaussianBlur(rng.uniform(5, 18))), torch.zeros_like(target)
    if rng.random() < 0.5:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.8)))
    if rng.random() < 0.5:
        shift = (rng.randint(-4, 4), rng.randint(-4, 4))
        moved = Image.new("RGB", picture.size, scene.shade)
        moved.paste(picture, shift)
        picture = moved
    return picture, target


@torch.no_grad()
def spoil(pixels: Tensor, vae: AutoencoderKL) -> Tensor:
    """Pass a quarter of the pictures through the autoencoder with noisy latents; put sensor noise on all."""
    part = len(pixels) // 4
    with halved(pixels.device.type):
        latents = vae.encode(pixels[:part]).latent_dist.mean
        amount = 0.5 * torch.rand(part, 1, 1, 1, device=pixels.device)
        decoded = vae.decode(latents + amount * torch.randn_like(latents)).sample.float()
    pixels = torch.cat([decoded, pixels[part:]])
    return pixels + 0.05 * torch.rand(len(pixels), 1, 1, 1, device=pixels.device) * torch.randn_like(pixels)


def begin() -> judge.Network:
    """Make the network of a new run; it goes on from the shipped one, where labels that both know keep their rows."""
    labels = judge.label_names()
    model = judge.Network(len(labels))
    if not judge.WEIGHTS.is_dir():
        return model
    shipped = judge.Judge.load()
    model.trunk.load_state_dict(shipped.network.trunk.state_dict())
    for row, label in enumerate(labels):
        if label in shipped.labels:
            for ours, theirs in zip(model.head.parameters(), shipped.network.head.parameters(), strict=True):
                ours.data[row] = theirs.data[shipped.labels.index(label)]
    return model


def train(folder: Path, steps: int, minutes: float) -> None:
    """Train, or go on training, under `folder`; with the autoencoder beside it, or the shipped one."""
    vae = trained(folder.parent)
    labels = judge.label_names()
    model = begin().to(device()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = Progress(model, folder, steps, peak_lr=2e-3, minutes=minutes, decay=0.995)
    for step in run:
        rng = random.Random(1_000_000 + step)
        pictures, targets = zip(*(example(rng) for _ in range(BATCH)), strict=True)
        pixels = judge.as_pixels(list(pictures)).to(device(), memory_format=torch.channels_last)
        with halved(device().type):
            logits = model(spoil(pixels, vae)).float()
        loss = F.binary_cross_entropy_with_logits(logits, torch.stack(targets).to(device()), reduction="sum") / BATCH
        run.update(loss)
        if step % 100 == 0:
            print(f"judge {step} loss {loss.item():.4f}", flush=True)
    out = folder / "model"
    out.mkdir(exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in run.average.state_dict().items()}, out / "model.safetensors")
    (out / "labels.json").write_text(json.dumps(labels))
