"""The heads of a concept: small networks from class means to the log-odds of harm.

A linear probe cannot tell "a kitchen knife" from "a knife on a cutting board" and stay quiet on captions; one
hidden layer can. A few such networks with different starts are averaged, because single ones err on different
prompts. They are trained on whitened means, in the directions in which benign text varies, with as much noise
as benign text itself has. Then each of their matrices is folded back into the space of the states.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safegen.learning.linear import discriminant, leading

HIDDEN, NEGATIVE = 64, 384
TARGETS, UNSAFE, SALADS = 77, 51, 32  # harmful prompts of each kind in a batch, beside its NEGATIVE
RATE, DECAY = 4e-3, 0.05
FEW = 200  # harmful prompts; with as many the ridge of a head in closed form is doubled
NOISE, NOISES = 1.0, 4096  # benign standard deviations; rows of noise, drawn only once since that takes long


def train(
    positive: Sequence[tuple[Tensor, int]], negative: Tensor, steps: int, members: int, dimensions: int
) -> dict[str, Tensor]:
    """Train a head on the means of harmful prompts and of benign ones, (N, D) each.

    Args:
        positive: kinds of harmful prompts, each with how many of it a batch holds.
        negative: benign prompts.
        steps: steps of the training.
        members: networks that are averaged.
        dimensions: dimensions that they see, at most: those in which benign prompts vary most.

    Returns:
        `weight` (H, D), `centre` (D,), `bias` (H,) and `out` (H,), H over all members: the log-odds are
        `out . gelu(weight (x - centre) + bias)`. A constant term is left out: calibration would cancel it.
    """
    centre, white = leading(negative, dimensions)
    inputs = white.shape[1]
    drawn = [((points - centre) @ white, size) for points, size in (*positive, (negative, NEGATIVE))]
    size = sum(count for _, count in drawn)
    # A generator of its own, so that it does not interact with other random draws in the process.
    draw = torch.Generator().manual_seed(0)
    weight = _start((members * HIDDEN, inputs), inputs, draw)
    bias = _start((members * HIDDEN,), inputs, draw)
    out, level = _start((members, HIDDEN), HIDDEN, draw), _start((members,), HIDDEN, draw)
    optimizer = torch.optim.AdamW([weight, bias, out, level], lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    noises = NOISE * torch.randn((NOISES, inputs), generator=draw)
    labels = (torch.arange(size) < size - NEGATIVE).float().unsqueeze(1).expand(-1, members)
    for _ in range(steps):
        batch = torch.cat([points[torch.randint(0, len(points), (count,), generator=draw)] for points, count in drawn])
        batch += noises[torch.randint(0, NOISES, (size,), generator=draw)]
        hidden = F.gelu(F.linear(batch, weight, bias)).reshape(size, members, HIDDEN)
        # Every member has a loss of its own; they share only the batch.
        loss = F.binary_cross_entropy_with_logits((hidden * out).sum(-1) + level, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    folded = weight.detach() @ white.T
    return {"weight": folded, "centre": centre, "bias": bias.detach(), "out": out.detach().flatten() / members}


def solve(positive: Tensor, negative: Tensor) -> dict[str, Tensor]:
    """Fit a head in closed form, as a linear probe: gelu(z) - gelu(-z) is z."""
    probe, centre = discriminant(positive, negative, FEW)
    turned = torch.tensor([1.0, -1.0])
    return {"weight": turned.unsqueeze(1) * probe, "centre": centre, "bias": torch.zeros(2), "out": turned}


def blend(parts: Sequence[tuple[dict[str, Tensor], float]], negative: Tensor) -> dict[str, Tensor]:
    """Blend heads about the same centre, each with its share of the variation over benign prompts (N, D)."""
    if len(parts) == 1:
        return parts[0][0]
    outs = []
    for head, share in parts:
        hidden = F.gelu(F.linear(negative - head["centre"], head["weight"], head["bias"]))
        outs.append(head["out"] * share / (hidden @ head["out"]).std())
    joined = {name: torch.cat([head[name] for head, _ in parts]) for name in ("weight", "bias")}
    return {**joined, "centre": parts[0][0]["centre"], "out": torch.cat(outs)}


def _start(shape: tuple[int, ...], inputs: int, draw: torch.Generator) -> nn.Parameter:
    """Draw uniform numbers within one over the root of a layer's inputs."""
    return nn.Parameter((2 * torch.rand(shape, generator=draw) - 1) * inputs**-0.5)


def split(head: dict[str, Tensor], name: str, keys: Sequence[str]) -> dict[str, Tensor]:
    """Name a head's tensors as a direction file does: per class in `keys`, and for the whole."""
    tensors = {f"{name}.bias": head["bias"], f"{name}.out": head["out"]}
    for key, weight, centre in zip(
        keys, head["weight"].chunk(len(keys), dim=1), head["centre"].chunk(len(keys)), strict=True
    ):
        tensors[f"{key}.{name}"], tensors[f"{key}.{name}_centre"] = weight.contiguous(), centre
    return tensors
