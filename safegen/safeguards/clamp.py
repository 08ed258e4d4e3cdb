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
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safegen.conditioning import Channel, Conditioning, Position
from safegen.scoring import Scorer, bins_of, reduced, worded

if TYPE_CHECKING:
    from safegen.directions import Direction
    from safegen.safeguards import Tools
    from safegen.sheets import ScoreSheet

ONSET, FULL = 1.0, 2.5  # own score, in benign deviations, where the pull to the mean begins and is complete
STEPS = 8
MIDDLE = 0.5  # share of benign prompts with a lower gate where an open gate is moved to


class Clamp:
    """See the module."""

    name = "clamp"

    def edit(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], tools: Tools, strength: float
    ) -> Conditioning:
        """Repair the prompts with an open gate; the rest keep their states bit for bit."""
        if strength == 0:
            return conditioning
        for column, name in enumerate(tools.scorer.names):
            rows = [i for i, sheet in enumerate(sheets) if sheet.concepts[name].flagged]
            if rows:
                conditioning = clamped(conditioning, rows, tools.scorer, column, strength)
        return conditioning


def clamped(
    conditioning: Conditioning, rows: Sequence[int], scorer: Scorer, column: int, strength: float
) -> Conditioning:
    """Both steps of one concept on the prompts `rows`."""
    own = {name: scorer.own(name, channel)[..., column] for name, channel in conditioning.channels.items()}
    direction = scorer.directions[column]
    states = {}
    for name, channel in conditioning.channels.items():
        states[name] = channel.states.clone()
        for row in rows:
            states[name][row] = boxed(channel, row, name, own[name][row], direction, strength)
    return close(conditioning.with_states(states), rows, scorer, column, strength)


def close(
    conditioning: Conditioning, rows: Sequence[int], scorer: Scorer, column: int, strength: float
) -> Conditioning:
    """Gates of `rows` that are above the benign middle moved to it, in the fewest benign deviations.

    Newton-like steps: of all moves inside the concept's basis that would lower the gate to its target
    were it linear, the shortest; repeated, because it is not.
    """
    target = scorer.level(MIDDLE, bins_of(worded(conditioning)[1]))[list(rows), column]
    start, direction = conditioning, scorer.directions[column]
    for _ in range(STEPS):
        states = {n: c.states.detach().float().requires_grad_() for n, c in conditioning.channels.items()}
        with torch.enable_grad():
            raw = scorer.raw(reduced(conditioning.with_values(states)))[list(rows), column]
            slopes = torch.autograd.grad(raw.sum(), list(states.values()))
        excess = torch.relu(raw.detach() - target)
        if not bool((excess > 1e-3).any()):
            break
        moves = {n: _inside(conditioning.channels[n], n, s, direction) for n, s in zip(states, slopes, strict=True)}
        gain = sum((slope * moves[n]).sum((1, 2)) for n, slope in zip(states, slopes, strict=True))
        assert isinstance(gain, Tensor)
        share = torch.zeros_like(gain)
        share[list(rows)] = excess / gain[list(rows)].clamp(min=1e-6)
        conditioning = conditioning.with_states(
            {
                n: (s.detach() - share[:, None, None] * moves[n]).to(conditioning.channels[n].states.dtype)
                for n, s in states.items()
            }
        )
    return _towards(start, conditioning, rows, strength)


def _inside(channel: Channel, name: str, slope: Tensor, direction: Direction) -> Tensor:
    """A slope (B, T, D) turned into the steepest move inside the concept's basis, in benign deviations.

    All positions of a class move alike, for the gate sees their mean.
    """
    moves = torch.zeros_like(slope)
    for position in Position:
        dual = direction.tensors.get(f"{name}.{position.name.lower()}.dual")
        if dual is None:
            continue
        here = (channel.positions == position).unsqueeze(-1)
        total = torch.where(here, slope, 0.0).sum(1) @ dual.to(slope.device).T @ dual.to(slope.device)  # (B, D)
        moves = torch.where(here, total.unsqueeze(1), moves)
    return moves


def _towards(start: Conditioning, end: Conditioning, rows: Sequence[int], strength: float) -> Conditioning:
    """From one conditioning towards another by the share `strength`, on the prompts `rows` alone."""
    states = {}
    for name, channel in start.channels.items():
        states[name] = channel.states.clone()
        change = end.channels[name].states[list(rows)].float() - channel.states[list(rows)].float()
        states[name][list(rows)] += (strength * change).to(channel.states.dtype)
    return start.with_states(states)


def boxed(channel: Channel, row: int, name: str, own: Tensor, direction: Direction, strength: float) -> Tensor:
    """One prompt's states (T, D) brought into the concept's benign range, by the share `strength`.

    `own` (T,) are the positions' own scores, which set how far into the range each is pulled.
    """
    states = channel.states[row]
    pull = ((own - ONSET) / (FULL - ONSET)).clamp(0, 1).unsqueeze(-1)  # (T, 1)
    result = states
    for position in Position:
        key = f"{name}.{position.name.lower()}"
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
