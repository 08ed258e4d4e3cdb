"""Conditioning: what the text encoders tell the denoiser, as one frozen value.

Shapes use fixed letters throughout the package: B prompts, T tokens, D width, K concepts, R rank.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

APOSTROPHES = ("'", "\u2019")


class Position(enum.IntEnum):
    """A state's place in a channel; statistics and directions are kept per class.

    START and END hold the meaning of the sentence in bidirectional encoders, END and PAD in causal ones. A language
    model's END is what its chat template puts after the prompt. TEMPLATE is what it puts before the prompt; in a
    causal model the prompt cannot change it. UNREAD is a pad that the denoiser masks. ABSENT is no state at all: it
    fills up a batch of prompts of unequal lengths. TEMPLATE, UNREAD and ABSENT are never scored or edited.
    """

    START = 0
    TOKEN = 1
    END = 2
    PAD = 3
    POOLED = 4
    TEMPLATE = 5
    UNREAD = 6
    ABSENT = 7


SCORED = tuple(Position)[:5]


@dataclass(frozen=True)
class Token:
    """One token of a channel: its text, its class and its characters in the prompt."""

    text: str
    position: Position
    span: tuple[int, int] | None = None  # None for special tokens

    def moved(self, by: int) -> Token:
        """Shift the span, so that it counts from another place."""
        return self if self.span is None else replace(self, span=(self.span[0] + by, self.span[1] + by))


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
        tokens: the tokens of every prompt, T each; none for a pooled vector.
        truncated: per prompt, the text that the encoder did not see.
        lengths: per prompt, how many tokens of words the encoder saw.
    """

    states: Tensor
    positions: Tensor
    tokens: tuple[tuple[Token, ...], ...]
    truncated: tuple[str, ...]
    lengths: tuple[int, ...]

    @property
    def worded(self) -> bool:
        """Whether states belong to words; a pooled vector's does not."""
        return any(self.tokens)

    def padded(self, length: int) -> Channel:
        """Fill the channel up with absent positions to at least `length`."""
        import torch

        missing = length - self.states.shape[1]
        if missing <= 0:
            return self
        return replace(
            self,
            states=torch.nn.functional.pad(self.states, (0, 0, 0, missing)),
            positions=torch.nn.functional.pad(self.positions, (0, missing), value=int(Position.ABSENT)),
            tokens=tuple((*row, *[Token("", Position.ABSENT)] * missing) for row in self.tokens),
        )

    def without_gaps(self) -> Channel:
        """Leave out the positions of pads that were never computed, which hold NaN."""
        pads = (self.positions == Position.PAD) | (self.positions >= Position.UNREAD)
        gaps = self.states.isnan().any(2) & pads
        if not self.worded or not bool(gaps.any()):
            return self
        kept = (~gaps.all(0)).nonzero()[:, 0]
        tokens = tuple(tuple(row[i] for i in kept.tolist()) for row in self.tokens)
        return replace(self, states=self.states[:, kept], positions=self.positions[:, kept], tokens=tokens)

    def rows(self, part: slice) -> Channel:
        """Take some prompts of the batch, as long as the longest of them."""
        positions = self.positions[part]
        used = (positions != Position.ABSENT).any(0).nonzero()
        end = int(used[-1]) + 1 if len(used) else 0
        tokens = tuple(row[:end] for row in self.tokens[part])
        return Channel(self.states[part, :end], positions[:, :end], tokens, self.truncated[part], self.lengths[part])

    def joined(self, others: Sequence[Channel]) -> Channel:
        """Join several batches into one, padded to the longest."""
        import torch

        parts = [part for part in (self, *others) if part.lengths]
        length = max(part.states.shape[1] for part in parts)
        parts = [part.padded(length) for part in parts]
        return Channel(
            torch.cat([part.states for part in parts]),
            torch.cat([part.positions for part in parts]),
            tuple(row for part in parts for row in part.tokens),
            tuple(text for part in parts for text in part.truncated),
            tuple(count for part in parts for count in part.lengths),
        )

    def abreast(self, others: Sequence[Channel], starts: Sequence[int]) -> Channel:
        """Make one prompt of several: put their states side by side along T.

        Spans count from the beginning of the whole text. Of pooled vectors (1, 1, P) only the first is kept.
        """
        import torch

        parts = (self, *others)
        lengths, truncated = (
            (sum(p.lengths[0] for p in parts),),
            (" ".join(filter(None, (p.truncated[0] for p in parts))),),
        )
        if not self.worded:
            return replace(self, truncated=truncated, lengths=lengths)
        tokens = tuple(
            token.moved(start) for part, start in zip(parts, starts, strict=True) for token in part.tokens[0]
        )
        states, positions = (torch.cat([getattr(p, n) for p in parts], 1) for n in ("states", "positions"))
        return Channel(states, positions, (tokens,), truncated, lengths)

    def with_row(self, row: int, other: Channel) -> Channel:
        """Replace one prompt of the batch by `other`, a batch of one."""
        return self.rows(slice(0, row)).joined([other, self.rows(slice(row + 1, None))])

    def towards(self, row: int, other: Channel, share: float) -> Channel:
        """Move one prompt's states towards those of `other`, a batch of one, by a share.

        Where the two differ in length, the states of `other` are spread over the prompt's positions.
        """
        import torch

        here, there = (int((c.positions[i] != Position.ABSENT).sum()) for c, i in ((self, row), (other, 0)))
        spread = torch.linspace(0, there - 1, here).round().long()
        states = self.states.clone()
        states[row, :here] = states[row, :here].lerp(other.states[0, spread.to(states.device)], share)
        return replace(self, states=states)

    def words(self, row: int) -> list[Word]:
        """Merge the sub-words of prompt `row`: tokens whose characters touch are one word."""
        groups: list[list[int]] = []
        previous_end = -1
        for i, token in enumerate(self.tokens[row]):
            if token.span is None or token.span[0] == token.span[1]:
                continue
            before = [self.tokens[row][i] for i in groups[-1]] if groups else []
            if before and (
                token.span == before[-1].span  # a further vector of the same textual inversion
                or (token.span[0] == previous_end and _joins([t.text for t in before], token.text))
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
        spelled = {token.span: token.text for token in reversed(tokens)}  # the first of a textual inversion's tokens
        text = "".join(spelled[span] for span in dict.fromkeys(token.span for token in tokens))
        return Word(text, (start[0], end[1]), tuple(group))


def _joins(word: Sequence[str], token: str) -> bool:
    """Tell whether a token continues the word that it touches: a letter does, and an apostrophe between letters.

    CLIP's tokenizers put the apostrophe before what follows: `assassin`, `'s`.
    """
    if token[:1] in APOSTROPHES and (len(token) == 1 or token[1:].isalnum()):
        return word[-1][-1:].isalnum()
    return token[:1].isalnum() and (word[-1][-1:].isalnum() or (word[-1] in APOSTROPHES and len(word) > 1))


@dataclass(frozen=True)
class Conditioning:
    """Named channels for a batch of prompts.

    A channel that a guard leaves out leaks harm, so guards go through all of `channels`.
    """

    prompts: tuple[str, ...]
    channels: Mapping[str, Channel]

    @property
    def word_channels(self) -> dict[str, Channel]:
        """The channels whose states belong to words."""
        return {name: channel for name, channel in self.channels.items() if channel.worded}

    def words(self, row: int) -> list[Word]:
        """Give the words of a prompt as they are shown, from the channel that saw most of it."""
        return self.reference(row).words(row)

    def reference(self, row: int) -> Channel:
        """Give the word channel that saw most of a prompt."""
        return min(self.word_channels.values(), key=lambda channel: len(channel.truncated[row]))

    def tokens_of(self, row: int, word: Word) -> dict[str, list[int]]:
        """Find the tokens that share characters with a word, per word channel."""
        start, end = word.span
        return {
            name: [i for i, t in enumerate(c.tokens[row]) if t.span and t.span[0] < end and t.span[1] > start]
            for name, c in self.word_channels.items()
        }

    def with_states(self, states: Mapping[str, Tensor]) -> Conditioning:
        """Put new states of the same shape into the named channels.

        Raises:
            ValueError: a channel is unknown or its shape, dtype or device differs.
        """
        channels = dict(self.channels)
        for name, new in states.items():
            if name not in channels:
                raise ValueError(f"there is no channel {name!r}, only {', '.join(channels)}")
            old = channels[name].states
            if (new.shape, new.dtype, new.device) != (old.shape, old.dtype, old.device):
                raise ValueError(
                    f"channel {name!r} must keep {tuple(old.shape)} {old.dtype} on {old.device}, "
                    f"got {tuple(new.shape)} {new.dtype} on {new.device}"
                )
            channels[name] = replace(channels[name], states=new)
        return replace(self, channels=channels)

    def without_gaps(self) -> Conditioning:
        """Leave out what was never computed; see `Channel.without_gaps`."""
        return replace(self, channels={name: channel.without_gaps() for name, channel in self.channels.items()})

    def only(self, row: int) -> Conditioning:
        """Take one prompt of the batch."""
        part = slice(row, row + 1)
        return Conditioning(self.prompts[part], {name: c.rows(part) for name, c in self.channels.items()})

    def joined(self, others: Sequence[Conditioning]) -> Conditioning:
        """Join several batches into one."""
        return Conditioning(
            tuple(p for part in (self, *others) for p in part.prompts),
            {name: c.joined([part.channels[name] for part in others]) for name, c in self.channels.items()},
        )

    def abreast(self, others: Sequence[Conditioning], prompt: str, starts: Sequence[int]) -> Conditioning:
        """Make one prompt of several, each a batch of one; see `Channel.abreast`.

        Args:
            others: the parts that follow this one.
            prompt: the text that all parts make together.
            starts: where each part begins in that text, this one included.
        """
        channels = {n: c.abreast([o.channels[n] for o in others], starts) for n, c in self.channels.items()}
        return Conditioning((prompt,), channels)

    def with_row(self, row: int, other: Conditioning, share: float) -> Conditioning:
        """Move one prompt of the batch towards `other`, a batch of one, by a share from 0 to 1.

        A share of 1 takes over the text and tokens of `other`, too.
        """
        pairs = {name: (old, other.channels[name]) for name, old in self.channels.items()}
        if share < 1:
            return replace(self, channels={n: old.towards(row, new, share) for n, (old, new) in pairs.items()})
        prompts = (*self.prompts[:row], *other.prompts, *self.prompts[row + 1 :])
        return Conditioning(prompts, {n: old.with_row(row, new) for n, (old, new) in pairs.items()})
