"""Weights on words of a prompt: cut to the window that reads them, and multiplied into its states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from safegen.prompts.emphasis import Weight

if TYPE_CHECKING:
    from safegen.conditioning import Conditioning

Weights = tuple[Weight, ...]


def weigh(conditioning: Conditioning, weights: Sequence[Weights]) -> Conditioning:
    """Multiply every word's states by its weight in all worded channels; pooled vectors have no words.

    Args:
        conditioning: B prompts.
        weights: the weights of each prompt; without any, the same conditioning comes back.
    """
    if not any(weights):
        return conditioning
    states = {}
    for name, channel in conditioning.word_channels.items():
        states[name] = channel.states.clone()
        for row, row_weights in enumerate(weights):
            for i, token in enumerate(channel.tokens[row]):
                value = next((w.value for w in row_weights if token.span and w.meets(token.span)), 1.0)
                if value != 1:
                    states[name][row, i] *= value
    return conditioning.with_states(states)


def cut_weights(weights: Sequence[Weight], span: tuple[int, int]) -> Weights:
    """Keep the weights inside a part of a text, with spans counted from the part's beginning."""
    return tuple(w.within(span).moved(-span[0]) for w in weights if w.meets(span))
