"""The analytic clamp: a one-sided projection into the benign range, over every position.

Two steps for a concept whose gate is open. First, every state of every channel (start, words, end,
pads, pooled) is brought back into the range that benign states keep to along the concept's whitened
directions. A position whose own score is high is brought all the way to the benign mean of those
directions, so that the intensity adapts to the word (after Qiu et al. 2024; the half-space form of
Li et al. 2025; LEACE, arXiv 2306.03819). Then, if the gate is still above the benign mean, the whole
embedding moves there by the shortest way. Prompts with closed gates are untouched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safegen.conditioning import Channel, Conditioning, Position
from safegen.scoring import gate, token_scores

if TYPE_CHECKING:
    from safegen.directions import Direction
    from safegen.scoring import ScoreSheet

ONSET, FULL = 1.0, 2.5  # own score, in benign deviations, where the pull to the mean begins and is complete


class Clamp:
    """See the module."""

    name = "clamp"

    def edit(
        self,
        conditioning: Conditioning,
        sheets: Sequence[ScoreSheet],
        directions: Sequence[Direction],
        strength: float,
    ) -> Conditioning:
        """Repair the prompts with an open gate; the rest keep their states bit for bit."""
        if strength == 0 or not any(sheet.flagged for sheet in sheets):
            return conditioning
        for direction in directions:
            rows = [i for i, sheet in enumerate(sheets) if sheet.concepts[direction.concept].flagged]
            if rows:
                conditioning = close(boxed(conditioning, rows, direction, strength), rows, direction, strength)
        return conditioning


def boxed(conditioning: Conditioning, rows: Sequence[int], direction: Direction, strength: float) -> Conditioning:
    """The first step: the prompts `rows` brought into the concept's benign range."""
    states = {}
    for name, channel in conditioning.channels.items():
        states[name] = channel.states.clone()
        for row in rows:
            states[name][row] = clamp(channel.states[row], channel, row, name, direction, strength)
    return conditioning.with_states(states)


def close(conditioning: Conditioning, rows: Sequence[int], direction: Direction, strength: float) -> Conditioning:
    """The second step: gates of `rows` that are above the benign mean lowered to it."""
    gates = sum(gate(direction, name, channel) for name, channel in conditioning.channels.items())
    assert isinstance(gates, Tensor)
    excess = torch.zeros_like(gates)
    excess[list(rows)] = torch.relu(gates - direction.tensors["gate.scale"][0].to(gates.device))[list(rows)]
    states = {}
    for name, channel in conditioning.channels.items():
        moved = channel.states.clone()
        for position in Position:
            shift = direction.tensors.get(f"{name}.{position.name.lower()}.shift")
            if shift is not None:
                step = strength * excess[:, None, None] * shift.to(moved.device)
                here = (channel.positions == position).unsqueeze(-1) & (excess > 0)[:, None, None]
                moved = torch.where(here, (moved.float() - step).to(moved.dtype), moved)
        states[name] = moved
    return conditioning.with_states(states)


def clamp(states: Tensor, channel: Channel, row: int, name: str, direction: Direction, strength: float) -> Tensor:
    """One prompt's states (T, D) brought into the concept's benign range, by the share `strength`."""
    own = token_scores(direction, name, channel)[row]
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
