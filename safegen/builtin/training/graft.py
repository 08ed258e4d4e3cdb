"""The shipped denoiser, put on a text encoder that was taught further: what it knows of pictures is kept.

Cross-attention is composed with the linear map that brings the new states nearest to the shipped ones. The pooled text
learns to say of every name, and of every phrase that surely means a thing, what it said of the thing's first name.
Training goes on from there.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional as F

from safegen.builtin import world
from safegen.builtin.training import causal, denoiser
from safegen.builtin.training.autoencoder import SHIPPED
from safegen.builtin.training.checkpointing import Progress, device
from safegen.builtin.training.meanings import nicknames

SCENES = 24_000  # captions of the world that the pooled text learns from
ALIGNED = 2_000  # captions that the map of states is fitted on
BATCH, RIDGE = 128, 1e-3


def twins(rng: random.Random, more: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """Draw a caption, and the same with every thing's first name."""
    seed = rng.random()
    plain = world.sample(random.Random(seed), plain=1.0)
    return world.sample(random.Random(seed), plain=0.2, more=more).caption, plain.caption


def fitted(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
    """Fit the linear map (D, D) from our states (T, D) to theirs."""
    left, right = torch.cat(list(ours)), torch.cat(list(theirs))
    gram = left.T @ left
    gram += RIDGE * gram.trace() / len(gram) * torch.eye(len(gram))
    fit: Tensor = torch.linalg.solve(gram, left.T @ right)
    print(f"graft: {len(left)} states, error {float(((left @ fit - right) ** 2).sum() / (right**2).sum()):.3f}")
    return fit


def composed(weights: dict[str, Tensor], fit: Tensor) -> dict[str, Tensor]:
    """Put the map in front of every key and value that comes from the text."""
    text = [k for k in weights if k.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))]
    return {k: v @ fit.T if k in text else v for k, v in weights.items()}


def train(folder: Path, steps: int, minutes: float) -> None:
    """Graft, and write the denoiser where its training begins."""
    torch.manual_seed(0)
    teacher = UNet2DConditionModel.from_pretrained(SHIPPED / "unet", torch_dtype=torch.float32).requires_grad_(False)
    theirs, ours = causal.load(), causal.load(folder.parent)
    rng, more = random.Random("graft"), nicknames(folder.parent)
    print(f"graft: {sum(map(len, more.values()))} phrases that mean {len(more)} things", flush=True)
    pairs = [twins(rng, more) for _ in range(SCENES)]
    said, plain = ([pair[side] for pair in pairs] for side in (0, 1))
    lengths = [len(ids) + 2 for ids in ours[0](plain[:ALIGNED]).input_ids]
    fit = fitted(
        *(
            [state[:length] for state, length in zip(causal.encode(*encoder, plain[:ALIGNED]), lengths, strict=True)]
            for encoder in (ours, theirs)
        )
    )
    model = denoiser.build()
    model.load_state_dict(composed(dict(teacher.state_dict()), fit))
    parts = range(0, SCENES, BATCH)
    wanted = torch.cat([teacher.add_embedding(causal.encode(*theirs, plain[i : i + BATCH])) for i in parts])
    states = torch.cat([causal.encode(*ours, said[i : i + BATCH]).half() for i in parts])
    pooled = model.add_embedding.to(device())
    run = Progress(pooled, folder, steps, peak_lr=2e-3, minutes=minutes, decay=0.99)
    for step in run:
        rows = torch.randint(0, SCENES, (BATCH,))
        given = states[rows].float()
        given += denoiser.TEXT_NOISE * given.std() * torch.randn_like(given) * torch.rand(BATCH, 1, 1)
        loss = F.mse_loss(pooled(given.to(device())), wanted[rows].to(device())) / wanted.var()
        run.update(loss)
        if step % 50 == 0:
            print(f"graft {step} loss {loss.item():.4f}", flush=True)
    model.add_embedding.load_state_dict(run.average.state_dict())
    model.save_pretrained(folder / "model")
