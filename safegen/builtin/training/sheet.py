"""A contact sheet of every stage: scenes as rendered, through the autoencoder, and drawn from their captions.

``python -m safegen.builtin.training sheet`` writes it to `docs/embedded.png`, from the weights that ship.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from safegen.builtin import world
from safegen.builtin.training.autoencoder import to_tensor
from safegen.models import loading
from safegen.models.catalog import EMBEDDED_GUIDANCE, EMBEDDED_STEPS

OUT = Path(__file__).parents[3] / "docs" / "embedded.png"
COLUMNS, SEED, GAP = 12, 2026, 4


def scenes(rng: random.Random) -> list[world.Scene]:
    """Draw scenes of one and of two things, named plainly, with their ground."""
    benign = [t for t in world.things().values() if not t.category]
    found = []
    for i in range(COLUMNS):
        picked = rng.sample(benign, 1 + i % 2)
        ground = rng.choice(list(world.grounds()))
        named = " and ".join(world.with_article(t.names[0]) for t in picked)
        caption = f"{named} on a {ground} background"
        found.append(world.Scene(tuple(picked), ground, caption, world.grounds()[ground]))
    return found


@torch.no_grad()
def decoded(pipe: Any, pictures: list[Image.Image]) -> list[Image.Image]:
    """Pass pictures through the autoencoder."""
    latents = pipe.vae.encode(to_tensor(pictures).to(pipe.vae.dtype)).latent_dist.mean
    found: list[Image.Image] = pipe.image_processor.postprocess(pipe.vae.decode(latents).sample)
    return found


def joined(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Put rows of pictures on one sheet."""
    step = world.SIZE + GAP
    sheet = Image.new("RGB", (step * len(rows[0]) - GAP, step * len(rows) - GAP), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            sheet.paste(picture, (x * step, y * step))
    return sheet


def train(_: Path, __: int, ___: float) -> None:
    """Draw the sheet."""
    pipe, shown = loading.load(offline=True, device="cpu"), scenes(random.Random(SEED))
    renders = [world.render(scene) for scene in shown]
    drawn = pipe(
        [scene.caption for scene in shown],
        num_inference_steps=EMBEDDED_STEPS,
        guidance_scale=EMBEDDED_GUIDANCE,
        generator=[torch.Generator().manual_seed(SEED + i) for i in range(COLUMNS)],
    ).images
    joined([renders, decoded(pipe, renders), drawn]).save(OUT, optimize=True)
