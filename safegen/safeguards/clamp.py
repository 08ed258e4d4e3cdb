"""The analytic clamp: a one-sided projection into the benign range, over every position.

Two steps for a concept whose gate is open. First, every state of every channel (start, words, end,
pads, pooled) is brought back into the range that benign states keep to along the concept's whitened
directions. A position whose own score is high is brought all the way to the benign mean of those
directions, so that the intensity adapts to the word (after Qiu et al. 2024; the half-space form of
Li et al. 2025; LEACE, arXiv 2306.03819). Then, if the gate is still above the benign mean, the whole
embedding moves there by the shortest way inside those directions. Prompts with closed gates are untouched.
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

ONSET, FULL = 1.0, 2.5  # own score, in benign deviations, where the pull to the mean begins and is complete
STEPS = 8
MIDDLE = 0.5  # share of benign prompts with a lower gate where an open gate is moved to


class ClampedSafeguard(Safeguard):
    """A method that edits along directions, with the clamp as its last resort."""

    def verify(
        self, conditioning: Conditioning, rows: Sequence[int], context: SafeguardContext, strength: float
    ) -> Conditioning:
        """Clamp at full strength under the concepts that still object to a repaired prompt, then ask again.

        Raises:
            GuardError: classifier or verifier object even then.
        """
        if strength < 1:
            return conditioning
        objections = context.scorer.objections(conditioning)
        if not any(objections[row] for row in rows):
            return conditioning
        for column, name in enumerate(context.scorer.names):
            if left := [row for row in rows if name in objections[row]]:
                conditioning = clamped(conditioning, left, context.scorer, column, 1.0)
        return super().verify(conditioning, rows, context, strength)


class Clamp(ClampedSafeguard):
    """Clamp every state into the range of benign ones along a concept's directions."""

    name = "clamp"

    def check(self, context: SafeguardContext) -> None:
        """Raises:
        DirectionError: a concept's file holds nothing to clamp along.
        """
        check_directed(context)
        clampable(context.scorer.directions())

    def repair(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], context: SafeguardContext, strength: float
    ) -> Conditioning:
        """Repair the prompts with an open gate; the rest keep their states bit for bit."""
        for column, name in enumerate(context.scorer.names):
            rows = [i for i, sheet in enumerate(sheets) if sheet.concepts[name].flagged]
            if rows:
                conditioning = clamped(conditioning, rows, context.scorer, column, strength)
        return conditioning


def clampable(directions: Sequence[Direction]) -> None:
    """Raises:
    DirectionError: one of the directions has no basis in any class of positions.
    """
    for direction in directions:
        if not any(name.endswith(".dual") for name in direction.tensors):
            raise DirectionError(
                f"the direction {direction.concept!r} holds no basis to clamp along",
                f"Learn it again: safegen directions learn {direction.concept}, "
                "with this --model, --lora and --directions.",
            )


def clamped(
    conditioning: Conditioning, rows: Sequence[int], scorer: Scorer, column: int, strength: float
) -> Conditioning:
    """Both steps of one concept on the prompts `rows`, in every channel."""
    states = {}
    for name, (probes, channel) in scorer.pairs(conditioning).items():
        own, direction = probes.own(channel)[..., column], probes.directions[column]
        boxes = channel.states.clone()
        for row in rows:
            boxes[row] = boxed(channel, row, own[row], direction, strength)
        states[name] = lower(replace(channel, states=boxes), rows, probes, column, strength)
    return conditioning.with_states(states)


def lower(channel: Channel, rows: Sequence[int], probes: Probes, column: int, strength: float) -> Tensor:
    """Move the classifier of `rows` down to the benign middle where it is above; gives states (B, T, D).

    In the fewest benign deviations, by Newton-like steps: of all moves inside the concept's basis that
    would lower the gate to its target were it linear, the shortest; repeated, because it is not.
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
    # The moves are constants to a gradient; the states that they are added to are not.
    closed = channel.states.clone()
    closed[list(rows)] += (strength * moved[list(rows)]).to(start.dtype)
    return closed


def _inside(channel: Channel, slope: Tensor, direction: Direction) -> Tensor:
    """A slope (B, T, D) turned into the steepest move inside the concept's basis, in benign deviations.

    All positions of a class move alike, for the gate sees their mean.
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


def boxed(channel: Channel, row: int, own: Tensor, direction: Direction, strength: float) -> Tensor:
    """One prompt's states (T, D) brought into the concept's benign range, by the share `strength`.

    `own` (T,) are the positions' own scores, which set how far into the range each is pulled.
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
