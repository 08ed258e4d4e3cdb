"""Probes: the scores that the directions of several concepts give one channel.

A raw cosine says nothing (an empty prompt can score above an attack), so every score is a probe's value in standard
deviations over benign text: over prompts of like length for the classifier, over positions of the same class for
words. All of it is differentiable and stays on the model's device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safegen.conditioning import SCORED, Channel, Position
from safegen.directions.direction import BINS

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.directions.direction import Direction


@dataclass(frozen=True)
class Features:
    """The features of a channel that heads see: the mean state per position class, and which prompts have the class."""

    means: Mapping[Position, Tensor]  # (B, D) each
    present: Mapping[Position, Tensor]  # (B,) booleans


def features(channel: Channel) -> Features:
    """Reduce states (B, T, D) to means; classes that no prompt has are left out."""
    means, present = {}, {}
    states = channel.states.float()
    for position in SCORED:
        mask = channel.positions == position
        if bool(mask.any()):
            means[position] = (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
            present[position] = mask.any(1)
    return Features(means, present)


def bins_of(channel: Channel) -> Tensor:
    """Find the length bin (B,) of every prompt, by its word tokens."""
    return bin_lengths(lengths_of(channel))


def lengths_of(channel: Channel) -> Tensor:
    """Count the word tokens (B,) of every prompt."""
    import torch

    return torch.tensor(channel.lengths, device=channel.states.device)


def bin_lengths(lengths: Tensor) -> Tensor:
    """Turn token counts (B,) into the indices of their bins, see `BINS`."""
    return sum((lengths > edge).long() for edge in BINS)  # type: ignore[return-value]


def _alike(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Fill tensors up with zeros to the largest one's shape: heads learned with less effort have fewer hidden units."""
    import torch

    largest = [max(sizes) for sizes in zip(*(t.shape for t in tensors), strict=True)]
    return [
        torch.nn.functional.pad(t, [n for a, b in zip(largest[::-1], t.shape[::-1], strict=True) for n in (0, a - b)])
        for t in tensors
    ]


class Probes:
    """The directions of one channel, stacked into matrices so that all concepts cost as much as one."""

    def __init__(self, directions: Sequence[Direction]) -> None:
        self.directions = tuple(directions)
        self._stacked: dict[str, Tensor] = {}

    def stack(self, key: str, like: Tensor) -> Tensor | None:
        """Stack a named tensor of all directions, (K, ...) on the device of `like`; None if one lacks it."""
        import torch

        place = f"{key}@{like.device}"
        if place not in self._stacked:
            if any(key not in d.tensors for d in self.directions):
                return None
            self._stacked[place] = torch.stack(_alike([d.tensors[key] for d in self.directions])).to(like.device)
        return self._stacked[place]

    def raw(self, part: Features, head: str = "gate") -> Tensor:
        """Compute every concept's head (B, K) as uncalibrated log-odds, see `safegen.learning.heads`."""
        import torch

        total: Tensor | None = None
        for position, mean in part.means.items():
            key = f"{position.name.lower()}.{head}"
            weights, centres = self.stack(key, mean), self.stack(f"{key}_centre", mean)
            if weights is None or centres is None:
                continue
            value = torch.einsum("bkd,khd->bkh", mean.unsqueeze(1) - centres, weights)
            # A class of which a prompt has no position counts as the benign mean.
            value = torch.where(part.present[position][:, None, None], value, 0.0)
            total = value if total is None else total + value
        if total is None:
            raise ValueError(f"no direction has a {head} for the positions of this channel")
        hidden = torch.nn.functional.gelu(total + self._table(f"{head}.bias", total))
        return (hidden * self._table(f"{head}.out", total)).sum(-1)

    def calibrated(self, raw: Tensor, bins: Tensor, head: str = "gate") -> tuple[Tensor, Tensor]:
        """Give a head's values in benign standard deviations, and its thresholds, both (B, K)."""
        scale, lines = self._table(f"{head}.scale", raw)[:, bins], self._table(f"{head}.thresholds", raw)
        return (raw - scale[..., 0].T) / scale[..., 1].T, lines[:, bins].T

    def percentiles(self, raw: Tensor, bins: Tensor) -> Tensor:
        """Give the share (B, K) of benign prompts of like length with a lower classifier value, in percent."""
        import torch

        own = self._table("gate.quantiles", raw)[:, bins].transpose(0, 1).contiguous()  # (B, K, Q), from 0 to 1
        below = torch.searchsorted(own, raw.unsqueeze(-1).contiguous(), right=True)
        return below.squeeze(-1) * 100.0 / own.shape[-1]

    def level(self, share: float, bins: Tensor) -> Tensor:
        """Give the classifier's raw value (B, K) that the given share of benign prompts of like length stays under."""
        quantiles = self._table("gate.quantiles", bins)
        return quantiles[:, bins, round(share * (quantiles.shape[-1] - 1))].T

    def _table(self, key: str, like: Tensor) -> Tensor:
        table = self.stack(key, like)
        assert table is not None  # a direction file without its calibration is refused when it is read
        return table

    def own(self, channel: Channel) -> Tensor:
        """Compute the token score (B, T, K) of every position, in standard deviations over benign text of its class."""
        import torch

        states = channel.states.float()
        scores = torch.zeros(*states.shape[:2], len(self.directions), device=states.device)
        for position in SCORED:
            key = position.name.lower()
            probes, scale = self.stack(f"{key}.own", states), self.stack(f"{key}.own_scale", states)
            if probes is not None and scale is not None:
                value = (states @ probes.T - scale[:, 0]) / scale[:, 1]
                scores = torch.where((channel.positions == position).unsqueeze(-1), value, scores)
        return scores

    def own_percentiles(self, own: Tensor, channel: Channel) -> Tensor:
        """Give the share (B, T, K) of benign positions of the same class with a lower token score, in percent."""
        import torch

        values, shares = own.flatten(0, 1).T.contiguous(), torch.zeros_like(own)
        for position in SCORED:
            quantiles = self.stack(f"{position.name.lower()}.own_quantiles", own)  # (K, Q)
            if quantiles is not None:
                below = torch.searchsorted(quantiles, values, right=True).T.view_as(own)
                here = (channel.positions == position).unsqueeze(-1)
                shares = torch.where(here, below * 100.0 / quantiles.shape[-1], shares)
        return shares
