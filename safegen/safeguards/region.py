"""The safe region: half-spaces that constrain the whole embedding and move only what violates them.

After "Responsible Diffusion Models via Constraining Text Embeddings within Safe Regions" (Li et al.
2025, arXiv 2505.15427; no code is public). A concept has many sides, so its region has many borders: a
state e of a class with benign mean m is safe where W (e - m) <= b, with a row of W per side, across
which harmful states of that side differ from benign ones, and b where nearly all benign states keep.
What is beyond moves in proportion to how far it is beyond:

    e' = e - strength * max(0, W (e - m) - b) U

U, a row per border, says where to: learned from the text encoder alone, or further through the
denoiser's own predictions (`safegen.learning.region`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safegen.conditioning import Position
from safegen.errors import DirectionError
from safegen.safeguards import by_concept, check_directed
from safegen.safeguards.clamp import ClampedSafeguard

if TYPE_CHECKING:
    from safegen.conditioning import Conditioning
    from safegen.directions.direction import Direction
    from safegen.safeguards import SafeguardContext
    from safegen.scoring.scores import ScoreSheet

PARTS = ("region_mean", "region_normals", "region_borders", "region_moves")


@dataclass(frozen=True)
class HalfSpaces:
    """The constraints of one position class."""

    mean: Tensor  # (D,)
    normals: Tensor  # (R, D) from safe to harmful
    borders: Tensor  # (R,)
    moves: Tensor  # (R, D) that a state takes for every unit that it is beyond a border

    def excess(self, states: Tensor) -> Tensor:
        """How far states (..., D) are beyond every border, (..., R); zero inside."""
        return torch.relu((states - self.mean) @ self.normals.T - self.borders)

    def tensors(self, key: str) -> dict[str, Tensor]:
        """The parts under the names of a direction file."""
        parts = (self.mean, self.normals, self.borders, self.moves)
        return {f"{key}.{name}": part.detach() for name, part in zip(PARTS, parts, strict=True)}


def constrained(states: Tensor, positions: Tensor, spaces: Mapping[Position, HalfSpaces], strength: float) -> Tensor:
    """States (B, T, D) moved towards the region; those that are inside keep every bit."""
    for position, space in spaces.items():
        excess = space.excess(states)
        beyond = (positions == position).unsqueeze(-1) & (excess > 0).any(-1, keepdim=True)
        states = torch.where(beyond, states - strength * excess @ space.moves, states)
    return states


def half_spaces(direction: Direction, device: torch.device | None = None) -> dict[Position, HalfSpaces]:
    """A direction's constraints, on a device.

    Raises:
        DirectionError: the file holds none.
    """
    spaces = {}
    for position in Position:
        key = position.name.lower()
        if all(f"{key}.{part}" in direction.tensors for part in PARTS):
            spaces[position] = HalfSpaces(*(direction.tensors[f"{key}.{part}"].to(device) for part in PARTS))
    if not spaces:
        raise DirectionError(
            f"the direction {direction.concept!r} holds no safe region",
            f"Learn it: safegen directions learn {direction.concept} --method region, "
            "with this --model, --lora and --directions.",
        )
    return spaces


class SafeRegion(ClampedSafeguard):
    """Move states that are outside a region of half-spaces towards it (Li et al. 2025)."""

    name = "region"

    def check(self, context: SafeguardContext) -> None:
        """Raises:
        DirectionError: a concept's file holds no region.
        """
        check_directed(context)
        for direction in context.scorer.directions():
            half_spaces(direction)

    def repair(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], context: SafeguardContext, strength: float
    ) -> Conditioning:
        """States outside an open concept's region moved towards it."""

        def change(direction: Direction, states: Tensor, positions: Tensor) -> Tensor:
            return constrained(states, positions, half_spaces(direction, states.device), strength)

        return by_concept(conditioning, sheets, context.scorer, change)
