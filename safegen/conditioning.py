"""Conditioning: what the text encoders tell the denoiser, as one frozen value.

Shapes use fixed letters throughout the package: B prompts, T tokens, D width, K concepts, R rank.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor


T = TypeVar("T")
APOSTROPHES = ("'", "\u2019")


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
                and _joins([self.tokens[row][i].text for i in groups[-1]], token.text)
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


def _joins(word: Sequence[str], token: str) -> bool:
    """Whether a token goes on with a word that it touches: letters, and an apostrophe between letters."""
    if token in APOSTROPHES:
        return word[-1][-1:].isalnum()
    return token[:1].isalnum() and (word[-1][-1:].isalnum() or (word[-1] in APOSTROPHES and len(word) > 1))


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

    def with_values(self, states: Mapping[str, Tensor]) -> Conditioning:
        """The same conditioning with states of another precision, to compute with."""
        return replace(self, channels={n: replace(c, states=states[n]) for n, c in self.channels.items()})

    def only(self, row: int) -> Conditioning:
        """One prompt of the batch."""
        part = slice(row, row + 1)
        return Conditioning(
            self.prompts[part],
            {
                name: Channel(c.states[part], c.positions[part], c.tokens[part], c.truncated[part])
                for name, c in self.channels.items()
            },
        )

    def joined(self, others: Sequence[Conditioning]) -> Conditioning:
        """One batch of several."""
        import torch

        parts = [self, *others]
        return Conditioning(
            tuple(p for part in parts for p in part.prompts),
            {
                name: Channel(
                    torch.cat([part.channels[name].states for part in parts]),
                    torch.cat([part.channels[name].positions for part in parts]),
                    tuple(row for part in parts for row in part.channels[name].tokens),
                    tuple(text for part in parts for text in part.channels[name].truncated),
                )
                for name in self.channels
            },
        )

    def with_row(self, row: int, other: Conditioning, share: float) -> Conditioning:
        """The batch with one prompt moved towards `other`, a batch of one, by a share from 0 to 1.

        A whole move takes over the other's text and tokens, too.
        """
        channels = {}
        for name, old in self.channels.items():
            new, states = other.channels[name], old.states.clone()
            if share < 1:
                states[row] = states[row].lerp(new.states[0], share)
                channels[name] = replace(old, states=states)
                continue
            states[row], positions = new.states[0], old.positions.clone()
            positions[row] = new.positions[0]
            channels[name] = Channel(
                states, positions, _swapped(old.tokens, row, new.tokens), _swapped(old.truncated, row, new.truncated)
            )
        prompts = _swapped(self.prompts, row, other.prompts) if share >= 1 else self.prompts
        return Conditioning(prompts, channels)


def _swapped(values: tuple[T, ...], row: int, one: tuple[T, ...]) -> tuple[T, ...]:
    return (*values[:row], *one, *values[row + 1 :])
