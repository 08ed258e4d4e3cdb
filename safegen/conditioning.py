"""Conditioning: what the text encoders tell the denoiser, as one frozen value.

Shapes use fixed letters throughout the package: B prompts, T tokens, D width, K concepts, R rank.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Position(enum.IntEnum):
    """Where in a channel a state stands; statistics and directions are kept per class.

    START and END hold the sentence in bidirectional encoders, END and PAD in causal ones.
    """

    START = 0
    TOKEN = 1
    END = 2
    PAD = 3
    POOLED = 4


@dataclass(frozen=True)
class Token:
    """One token of a channel: its text, its class and its characters in the prompt."""

    text: str
    position: Position
    span: tuple[int, int] | None = None  # None for special tokens


@dataclass(frozen=True)
class Word:
    """A word of the prompt with the tokens that spell it."""

    text: str
    span: tuple[int, int]
    tokens: tuple[int, ...]  # positions in the channel


@dataclass(frozen=True)
class Channel:
    """One text encoder's output as the denoiser receives it.

    Attributes:
        states: (B, T, D), or (B, 1, P) for a pooled vector.
        positions: (B, T) integers, the `Position` of every state.
        tokens: the tokens of every prompt, T each; empty for a pooled vector.
        truncated: per prompt, the text that the encoder did not see.
    """

    states: Tensor
    positions: Tensor
    tokens: tuple[tuple[Token, ...], ...] = ()
    truncated: tuple[str, ...] = ()

    def words(self, row: int) -> list[Word]:
        """Sub-words of prompt `row` merged: tokens whose characters touch are one word."""
        groups: list[list[int]] = []
        previous_end = -1
        for i, token in enumerate(self.tokens[row]):
            if token.span is None or token.span[0] == token.span[1]:
                continue
            if (
                groups
                and token.span[0] == previous_end
                and token.text[:1].isalnum()
                and _joins(self.tokens[row][groups[-1][-1]])
            ):
                groups[-1].append(i)
            else:
                groups.append([i])
            previous_end = token.span[1]
        return [self._word(row, group) for group in groups]

    def _word(self, row: int, group: list[int]) -> Word:
        tokens = [self.tokens[row][i] for i in group]
        start, end = tokens[0].span, tokens[-1].span
        assert start is not None
        assert end is not None
        return Word("".join(t.text for t in tokens), (start[0], end[1]), tuple(group))


def _joins(token: Token) -> bool:
    return token.text[-1:].isalnum()


@dataclass(frozen=True)
class Conditioning:
    """Named channels for a batch of prompts.

    A channel that a guard leaves out is a leak, so guards walk over all of `channels`.
    """

    prompts: tuple[str, ...]
    channels: Mapping[str, Channel]

    def with_states(self, states: Mapping[str, Tensor]) -> Conditioning:
        """The same conditioning with new states for the named channels, shapes kept.

        Raises:
            ValueError: a channel is unknown or its shape, dtype or device differs.
        """
        channels = dict(self.channels)
        for name, new in states.items():
            old = channels[name].states
            if (new.shape, new.dtype, new.device) != (old.shape, old.dtype, old.device):
                raise ValueError(
                    f"channel {name!r} must keep {tuple(old.shape)} {old.dtype} on {old.device}, "
                    f"got {tuple(new.shape)} {new.dtype} on {new.device}"
                )
            channels[name] = replace(channels[name], states=new)
        return replace(self, channels=channels)
