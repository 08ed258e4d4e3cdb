"""The analytic clamp: a one-sided projection into the benign range, over every position.

It has two steps for a concept that is flagged. First, every state of every channel (start, words, end,
pads, pooled) is brought back into the range of benign states along the concept's whitened
directions. A position with a high token score is brought all the way to the benign mean of those
directions, so that the intensity adapts to the word (after Qiu et al. 2024; the half-space form of
Li et al. 2025; LEACE, arXiv 2306.03819). Then, if the classifier is still above its benign middle, the whole
embedding moves there by the shortest way inside those directions. Prompts that are not flagged stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safegen.conditioning import SCORED, Channel, Conditioning
from safegen.errors import DirectionError
from safegen.safeguards import Safeguard, check_directed
from safegen.scoring.probes import Probes, bins_of, features
from safegen.scoring.scorer import Scorer

if TYPE_CHECKING:
    from safegen.directions.direction import Direction
    from safegen.safeguards import SafeguardContext
    from safegen.scoring.scores import ScoreSheet

ONSET, FULL = 1.0, 2.5  # token scores, in benign deviations, at which the pull to the mean begins and is complete
STEPS = 8
MIDDLE = 0.5  # share of benign prompts with a lower classifier value at the value that a flagged prompt is moved to


class ClampedSafeguard(Safeguard):
    """A method that edits along directions, with the clamp as its last resort."""

    def verify(
        self, conditioning: Conditioning, rows: Sequence[int], context: SafeguardContext, strength: float
    ) -> Conditioning:
        """Clamp at full strength under the concepts that a repaired prompt is still over, then verify again.

        Raises:
            GuardError: the classifier or the verifier objects even then.
        """
        if strength < 1:
            return conditioning
        objections = context.scorer.objections(conditioning, context.cautions(conditioning.prompts))
        if not any(objections[row] for row in rows):
            return conditioning
        for column, name in enumerate(context.scorer.names):
            if left := [row for row in rows if name in objections[row]]:
                conditioning = clamp_rows(conditioning, left, context.scorer, column, 1.0)
        return super().verify(conditioning, rows, context, strength)


class Clamp(ClampedSafeguard):
    """Clamp every state into the range of benign ones along a concept's directions."""

    name = "clamp"

    def check(self, context: SafeguardContext) -> None:
        """Check that every concept has directions with a basis to clamp along.

        Raises:
            DirectionError: a concept has none.
        """
        check_directed(context)
        clampable(context.scorer.directions())

    def repair(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], context: SafeguardContext, strength: float
    ) -> Conditioning:
        """Clamp the flagged prompts; the others keep their states bit for bit."""
        for column, name in enumerate(context.scorer.names):
            rows = [i for i, sheet in enumerate(sheets) if sheet.concepts[name].flagged]
            if rows:
                conditioning = clamp_rows(conditioning, rows, context.scorer, column, strength)
        return conditioning


def clampable(directions: Sequence[Direction]) -> None:
    """Check that directions have a basis to clamp along.

    Raises:
        DirectionError: a direction has no basis in any position class.
    """
    for direction in directions:
        if not any(name.endswith(".dual") for name in direction.tensors):
            raise DirectionError(
                f"the direction {direction.concept!r} holds no basis to clamp along",
                f"Learn it again: safegen directions learn {direction.concept}, "
                "with this --model, --lora and --directions.",
            )


def clamp_rows(
    conditioning: Conditioning, rows: Sequence[int], scorer: Scorer, column: int, strength: float
) -> Conditioning:
    """Clamp the prompts `rows` under one concept, with both steps, in every channel."""
    states = {}
    for name, (probes, channel) in scorer.pairs(conditioning).items():
        own, direction = probes.own(channel)[..., column], probes.directions[column]
        boxes = channel.states.clone()
        for row in rows:
            boxes[row] = pull_into_range(channel, row, own[row], direction, strength)
        states[name] = lower(replace(channel, states=boxes), rows, probes, column, strength)
    return conditioning.with_states(states)


def lower(channel: Channel, rows: Sequence[int], probes: Probes, column: int, strength: float) -> Tensor:
    """Move `rows` until the classifier is at its benign middle, where it is above; give states (B, T, D).

    The move takes as few benign deviations as possible, in Newton-like steps. Each step is the shortest move inside
    the concept's basis that would bring a linear classifier to the target; the classifier is not linear, so it is
    repeated.
    """
    target = probes.level(MIDDLE, bins_of(channel))[list(rows), column]
    start, direction = channel.states.detach(), probes.directions[column]
    moved = torch.zeros_like(start, dtype=torch.float32)
    for _ in range(STEPS):
        states = (start + moved).to(start.dtype).float().requires_grad_()
        with torch.enable_grad():
            raw = probes.raw(features(replace(channel, states=states)))[list(rows), column]
            (slope,) = torch.autograd.grad(raw.sum(), [states])
        excess = torch.relu(raw.detach() - target)
        if not bool((excess > 1e-3).any()):
            break
        move = _inside(channel, slope, direction)
        gain = (slope * move).sum((1, 2))
        share = torch.zeros_like(gain)
        share[list(rows)] = excess / gain[list(rows)].clamp(min=1e-6)
        moved -= share[:, None, None] * move
    # A gradient treats the moves as constants, but runs through the states that they are added to.
    closed = channel.states.clone()
    closed[list(rows)] += (strength * moved[list(rows)]).to(start.dtype)
    return closed


def _inside(channel: Channel, slope: Tensor, direction: Direction) -> Tensor:
    """Turn a slope (B, T, D) into the steepest move inside the concept's basis, in benign deviations.

    All positions of a class move alike, because the classifier sees their mean.
    """
    moves = torch.zeros_like(slope)
    for position in SCORED:
        dual = direction.tensors.get(f"{position.name.lower()}.dual")
        if dual is None:
            continue
        here = (channel.positions == position).unsqueeze(-1)
        total = torch.where(here, slope, 0.0).sum(1) @ dual.to(slope.device).T @ dual.to(slope.device)  # (B, D)
        moves = torch.where(here, total.unsqueeze(1), moves)
    return moves


def pull_into_range(channel: Channel, row: int, own: Tensor, direction: Direction, strength: float) -> Tensor:
    """Bring one prompt's states (T, D) into the concept's benign range, by the share `strength`.

    `own` (T,) are the token scores, which set how far into the range each state is pulled.
    """
    states = channel.states[row]
    pull = ((own - ONSET) / (FULL - ONSET)).clamp(0, 1).unsqueeze(-1)  # (T, 1)
    result = states
    for position in SCORED:
        key = position.name.lower()
        where = (channel.positions[row] == position).unsqueeze(-1)
        if f"{key}.basis" not in direction.tensors or not bool(where.any()):
            continue
        part = {
            k: direction.tensors[f"{key}.{k}"].to(states.device) for k in ("mean", "basis", "dual", "floor", "ceiling")
        }
        coordinates = (states.float() - part["mean"]) @ part["basis"].T  # (T, R)
        ceiling, floor = part["ceiling"] * (1 - pull), part["floor"] * (1 - pull)
        excess = torch.relu(coordinates - ceiling) - torch.relu(floor - coordinates)
        moved = states.float() - strength * excess @ part["dual"]
        result = torch.where(where, moved.to(states.dtype), result)
    return result
