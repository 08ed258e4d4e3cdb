"""The safe region: half-spaces that constrain the whole embedding and move only what violates them.

After "Responsible Diffusion Models via Constraining Text Embeddings within Safe Regions" (Li et al.
2025, arXiv 2505.15427), in the form that needs the text encoder alone. A state e of a class with benign
mean m is safe where <e - m, a> >= b; where it falls short, it is moved along a by what it lacks. Per
position class a is the mean way from contrastive phrases to their counterparts, and b where benign
text has its 5th percentile. The paper discovers its direction through the denoiser; this form cannot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safegen.conditioning import Position
from safegen.errors import DirectionError

if TYPE_CHECKING:
    from safegen.conditioning import Conditioning
    from safegen.directions import Direction
    from safegen.safeguards import Tools
    from safegen.sheets import ScoreSheet

BORDER = 0.05  # share of benign states beyond a border


@dataclass(frozen=True)
class HalfSpaces:
    """The constraints of one position class."""

    mean: Tensor  # (D,)
    rows: Tensor  # (R, D) orthonormal, from harmful to safe
    border: Tensor  # (R,)

    @classmethod
    def around(cls, benign: Tensor, rows: Tensor) -> HalfSpaces:
        """Borders where all but a few of the benign states (N, D) are inside."""
        mean = benign.mean(0)
        return cls(mean, rows, ((benign - mean) @ rows.T).quantile(BORDER, dim=0))

    def lack(self, states: Tensor) -> Tensor:
        """How far states (..., D) are outside, (..., R); zero inside."""
        return torch.relu(self.border - (states - self.mean) @ self.rows.T)

    def tensors(self, key: str) -> dict[str, Tensor]:
        """The parts under the names of a direction file."""
        return {f"{key}.region": self.rows, f"{key}.region_mean": self.mean, f"{key}.region_border": self.border}


def constrained(states: Tensor, positions: Tensor, spaces: Mapping[Position, HalfSpaces], strength: float) -> Tensor:
    """States (B, T, D) brought inside; those that are inside keep every bit."""
    for position, space in spaces.items():
        lack = space.lack(states)
        outside = (positions == position).unsqueeze(-1) & (lack > 0).any(-1, keepdim=True)
        states = torch.where(outside, states + strength * lack @ space.rows, states)
    return states


def half_spaces(direction: Direction, channel: str, like: Tensor) -> dict[Position, HalfSpaces]:
    """A direction's constraints for one channel, on the device of `like`.

    Raises:
        DirectionError: the file holds none.
    """
    spaces = {}
    for position in Position:
        key = f"{channel}.{position.name.lower()}"
        if f"{key}.region" in direction.tensors:
            parts = (direction.tensors[f"{key}.{part}"] for part in ("region_mean", "region", "region_border"))
            spaces[position] = HalfSpaces(*(part.to(like.device) for part in parts))
    if not spaces:
        raise DirectionError(
            f"the direction {direction.concept!r} holds no safe region",
            f"Learn it again: safegen directions learn {direction.concept}",
        )
    return spaces


class Region:
    """See the module."""

    name = "region"

    def edit(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], tools: Tools, strength: float
    ) -> Conditioning:
        """States outside an open concept's region moved onto its border.

        Raises:
            DirectionError: an open concept's file holds no region.
        """
        if strength == 0:
            return conditioning
        for direction in tools.scorer.directions:
            rows = [i for i, sheet in enumerate(sheets) if sheet.concepts[direction.concept].flagged]
            if not rows:
                continue
            states = {}
            for name, channel in conditioning.channels.items():
                spaces = half_spaces(direction, name, channel.states)
                new = constrained(channel.states[rows].float(), channel.positions[rows], spaces, strength)
                states[name] = channel.states.clone()
                states[name][rows] = new.to(channel.states.dtype)
            conditioning = conditioning.with_states(states)
        return conditioning
