"""The safe region: half-spaces that constrain the whole embedding and move only what violates them.

After "Responsible Diffusion Models via Constraining Text Embeddings within Safe Regions" (Li et al.
2025, arXiv 2505.15427), in the form that needs the text encoder alone. A state e of a class with benign
mean m is safe where <e - m, w> <= b: w is the probe that tells harmful states of the class from benign
ones, and b is where benign text has its 95th percentile. What is beyond is moved onto the border, not
along w, which benign text hardly varies along, but by the move that is shortest as benign text varies:
along C w, with C its covariance. The paper discovers its direction through the denoiser; this form cannot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safegen.conditioning import Position
from safegen.errors import DirectionError
from safegen.safeguards import by_concept

if TYPE_CHECKING:
    from safegen.conditioning import Conditioning
    from safegen.directions import Direction
    from safegen.safeguards import Tools
    from safegen.sheets import ScoreSheet

BORDER = 0.05  # share of benign states beyond a border


@dataclass(frozen=True)
class HalfSpace:
    """The constraint of one position class."""

    mean: Tensor  # (D,)
    normal: Tensor  # (D,) from safe to harmful
    move: Tensor  # (D,) that changes the value along the normal by one
    border: Tensor  # (1,)

    @classmethod
    def around(cls, benign: Tensor, normal: Tensor) -> HalfSpace:
        """The half-space across `normal` that all but a few of the benign states (N, D) are inside of."""
        mean = benign.mean(0)
        values = (benign - mean) @ normal
        along = (benign - mean).T @ values
        return cls(mean, normal, along / values.square().sum(), values.quantile(1 - BORDER).reshape(1))

    def excess(self, states: Tensor) -> Tensor:
        """How far states (..., D) are beyond the border, (..., 1); zero inside."""
        return torch.relu((states - self.mean) @ self.normal.unsqueeze(-1) - self.border)

    def tensors(self, key: str) -> dict[str, Tensor]:
        """The parts under the names of a direction file, which has the normal as its probe `own`."""
        return {
            f"{key}.region_mean": self.mean,
            f"{key}.region_move": self.move,
            f"{key}.region_border": self.border,
        }


def constrained(states: Tensor, positions: Tensor, spaces: Mapping[Position, HalfSpace], strength: float) -> Tensor:
    """States (B, T, D) brought inside; those that are inside keep every bit."""
    for position, space in spaces.items():
        excess = space.excess(states)
        beyond = (positions == position).unsqueeze(-1) & (excess > 0)
        states = torch.where(beyond, states - strength * excess * space.move, states)
    return states


def half_spaces(direction: Direction, device: torch.device | None = None) -> dict[Position, HalfSpace]:
    """A direction's constraints, on a device.

    Raises:
        DirectionError: the file holds none.
    """
    spaces = {}
    for position in Position:
        key = position.name.lower()
        if f"{key}.region_move" in direction.tensors:
            names = ("region_mean", "own", "region_move", "region_border")
            spaces[position] = HalfSpace(*(direction.tensors[f"{key}.{name}"].to(device) for name in names))
    if not spaces:
        raise DirectionError(
            f"the direction {direction.concept!r} holds no safe region",
            f"Learn it again: safegen directions learn {direction.concept}",
        )
    return spaces


class Region:
    """See the module."""

    name = "region"

    def check(self, tools: Tools) -> None:
        """Raises:
        DirectionError: a concept's file holds no region.
        """
        for direction in tools.scorer.directions():
            half_spaces(direction)

    def edit(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], tools: Tools, strength: float
    ) -> Conditioning:
        """States outside an open concept's region moved onto its border."""
        if strength == 0:
            return conditioning

        def change(direction: Direction, states: Tensor, positions: Tensor) -> Tensor:
            return constrained(states, positions, half_spaces(direction, states.device), strength)

        return by_concept(conditioning, sheets, tools.scorer, change)
