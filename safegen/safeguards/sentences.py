"""One vector for a text, in every channel: the mean state of its words, or the pooled vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from safegen.conditioning import Channel, Position
from safegen.scoring.probes import features

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.safeguards import SafeguardContext


def sentences(context: SafeguardContext, texts: Sequence[str]) -> dict[str, Tensor]:
    """Give, by channel, one vector (N, D) per text: the mean state of its words, or the pooled vector."""
    return {name: sentence(channel) for name, channel in context.family.encode_words(texts).channels.items()}


def sentence(channel: Channel) -> Tensor:
    """Give one vector (N, D) per prompt of a channel, see `sentences`."""
    means = features(channel).means
    return means[Position.TOKEN if channel.worded else Position.POOLED]
