"""The heads of a concept: small networks from class means to the log-odds of harm.

A line cannot tell "a kitchen knife" from "a knife on a cutting board" and stay quiet on captions; one
hidden layer can. It is trained on whitened means with as much noise as benign text itself has, and
every one of its matrices is folded back into the space of the states.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safegen.learning.linear import whitening

HIDDEN = 64
STEPS, BATCH = 800, 512
POSITIVE = 128  # of a batch
RATE, DECAY = 2e-3, 0.05
NOISE = 1.0  # benign standard deviations


def train(positive: Tensor, negative: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """A head from harmful and benign means, (N, D) each.

    Returns:
        `weight` (H, D), `centre` (D,), `bias` (H,) and `out` (H,): the log-odds are
        `out . gelu(weight (x - centre) + bias)`; a constant does not matter to what is calibrated.
    """
    centre, white, _ = whitening(negative)
    positive, negative = (positive - centre) @ white, (negative - centre) @ white
    # A generator of its own: what else runs in the process neither disturbs it nor is disturbed.
    draw = torch.Generator().manual_seed(seed)
    hidden, out = nn.Linear(positive.shape[1], HIDDEN), nn.Linear(HIDDEN, 1)
    with torch.no_grad():
        for parameter in (*hidden.parameters(), *out.parameters()):
            bound = (hidden if parameter.shape[-1] != HIDDEN else out).in_features ** -0.5
            parameter.copy_((2 * torch.rand(parameter.shape, generator=draw) - 1) * bound)
    parameters = [*hidden.parameters(), *out.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    labels = (torch.arange(BATCH) < POSITIVE).float()
    for _ in range(STEPS):
        batch = torch.cat([_drawn(positive, POSITIVE, draw), _drawn(negative, BATCH - POSITIVE, draw)])
        noisy = batch + NOISE * torch.randn(batch.shape, generator=draw)
        loss = F.binary_cross_entropy_with_logits(out(F.gelu(hidden(noisy)))[:, 0], labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    weight = hidden.weight.detach() @ white
    return {"weight": weight, "centre": centre, "bias": hidden.bias.detach(), "out": out.weight.detach()[0]}


def split(head: dict[str, Tensor], name: str, keys: Sequence[str]) -> dict[str, Tensor]:
    """A head's tensors by the names of a direction file: per class in `keys`, and of the whole."""
    tensors = {f"{name}.bias": head["bias"], f"{name}.out": head["out"]}
    for key, weight, centre in zip(
        keys, head["weight"].chunk(len(keys), dim=1), head["centre"].chunk(len(keys)), strict=True
    ):
        tensors[f"{key}.{name}"], tensors[f"{key}.{name}_centre"] = weight.contiguous(), centre
    return tensors


def _drawn(points: Tensor, count: int, draw: torch.Generator) -> Tensor:
    return points[torch.randint(0, len(points), (count,), generator=draw)]
