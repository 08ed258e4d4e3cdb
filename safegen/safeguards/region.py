"""The safe region: half-spaces that constrain the whole embedding, and move only states outside them.

The method follows "Responsible Diffusion Models via Constraining Text Embeddings within Safe Regions" (Li et al.
2025, arXiv 2505.15427; no code is public). A concept has many sides, so its region has many borders. A
state e of a class with benign mean m is safe where W (e - m) <= b. W has a row per side, along which harmful
states of that side differ from benign ones; nearly all benign states stay below b. A state beyond a border moves in
proportion to its distance:

    e' = e - strength * max(0, W (e - m) - b) U

U has a row per border, which gives the direction of the move. It is learned from the text encoder alone, or further
through the denoiser's own predictions (`safegen.learning.region`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safegen.conditioning import Position
from safegen.errors import DirectionError
from safegen.safeguards.learned import LearnedSafeguard

if TYPE_CHECKING:
    from safegen.directions.direction import Direction

PARTS = ("region_mean", "region_normals", "region_borders", "region_moves")


@dataclass(frozen=True)
class HalfSpaces:
    """The constraints of one position class."""

    mean: Tensor  # (D,)
    normals: Tensor  # (R, D) from safe to harmful
    borders: Tensor  # (R,)
    moves: Tensor  # (R, D), subtracted from a state for every unit that it is beyond a border

    def excess(self, states: Tensor) -> Tensor:
        """Measure how far states (..., D) are beyond every border (..., R); zero inside."""
        return torch.relu((states - self.mean) @ self.normals.T - self.borders)

    def tensors(self, key: str) -> dict[str, Tensor]:
        """Give the parts under the names of a direction file."""
        parts = (self.mean, self.normals, self.borders, self.moves)
        return {f"{key}.{name}": part.detach() for name, part in zip(PARTS, parts, strict=True)}


def constrain(states: Tensor, positions: Tensor, spaces: Mapping[Position, HalfSpaces], strength: float) -> Tensor:
    """Move states (B, T, D) towards the region; those inside keep every bit."""
    for position, space in spaces.items():
        excess = space.excess(states)
        beyond = (positions == position).unsqueeze(-1) & (excess > 0).any(-1, keepdim=True)
        states = torch.where(beyond, states - strength * excess @ space.moves, states)
    return states


def half_spaces(direction: Direction, device: torch.device | None = None) -> dict[Position, HalfSpaces]:
    """Load a direction's constraints onto a device.

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


class SafeRegion(LearnedSafeguard[dict[Position, HalfSpaces]]):
    """Move states that are outside a region of half-spaces towards it (Li et al. 2025)."""

    name = "region"

    def part(self, direction: Direction, device: torch.device | None = None) -> dict[Position, HalfSpaces]:
        """Load the region, see `half_spaces`."""
        return half_spaces(direction, device)

    def change(self, part: dict[Position, HalfSpaces], states: Tensor, positions: Tensor, strength: float) -> Tensor:
        """Move the states towards the region."""
        return constrain(states, positions, part, strength)
