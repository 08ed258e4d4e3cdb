"""The safe region as a half-space: the whole embedding constrained, only violators moved.

After "Responsible Diffusion Models via Constraining Text Embeddings within Safe Regions" (Li et al.
2025, arXiv 2505.15427), in the form that needs the text encoder alone: per position class one
direction, learned from contrastive phrases, and a border where benign text has its 95th percentile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from safegen.conditioning import Position

if TYPE_CHECKING:
    from safegen.conditioning import Conditioning
    from safegen.safeguards import Tools
    from safegen.sheets import ScoreSheet

BORDER = 1.645  # benign standard deviations: the 95th percentile of a normal


class Region:
    """See the module."""

    name = "region"

    def edit(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], tools: Tools, strength: float
    ) -> Conditioning:
        """States beyond the border of an open concept's half-space moved onto it."""
        if strength == 0:
            return conditioning
        for column, direction in enumerate(tools.scorer.directions):
            rows = torch.tensor([sheet.concepts[direction.concept].flagged for sheet in sheets])
            if not bool(rows.any()):
                continue
            states = {}
            for name, channel in conditioning.channels.items():
                over = torch.relu(tools.scorer.own(name, channel)[..., column] - BORDER)  # (B, T)
                over = over * rows.to(over.device).unsqueeze(-1)
                moved = channel.states.float()
                for position in Position:
                    key = f"{name}.{position.name.lower()}"
                    if f"{key}.own" not in direction.tensors:
                        continue
                    own = direction.tensors[f"{key}.own"].to(over.device)
                    spread = direction.tensors[f"{key}.own_scale"][1].to(over.device)
                    step = strength * over * spread * (channel.positions == position)
                    moved = moved - step.unsqueeze(-1) * own / own.square().sum()
                states[name] = torch.where((over > 0).unsqueeze(-1), moved.to(channel.states.dtype), channel.states)
            conditioning = conditioning.with_states(states)
        return conditioning
