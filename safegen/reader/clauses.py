"""The clauses of a prompt: its chunks, which of them belong to the harmful situation, and how they hang together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from safegen.reader import english, roles
from safegen.reader.chunks import AND, DOES, DOING, LINK, NOUN, PLACE, PRONOUN, REFLEXIVE, SIGN, VERBS, Chunk, parse
from safegen.reader.gaps import OPEN, SURE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Parts = tuple[int | str, ...]  # words that stay, by their number, and new ones
FURTHER = 7  # how many chunks a phrase reaches behind its worst word, at most
TOUCHED = 0.25  # chance from which on a noun may need another word
NEUTRAL, NEARBY = -1.0, -1.0  # what a plain word for somebody costs, and *near*, as a log-likelihood


class Clauses:
    """The chunks of a prompt.

    Args:
        words: the words of the prompt, in small letters.
        chances: (words,) how likely each word belongs to the situation.
    """

    def __init__(self, words: Sequence[str], chances: NDArray[np.float32]) -> None:
        self.words, self.chances, self.chunks = words, chances, parse(words)

    def __len__(self) -> int:
        return len(self.chunks)

    def chunk(self, at: int) -> Chunk | None:
        """Give a chunk; None before the first and behind the last."""
        return self.chunks[at] if 0 <= at < len(self.chunks) else None

    def holding(self, word: int) -> int:
        """Find the chunk that holds a word."""
        return next(i for i, chunk in enumerate(self.chunks) if chunk.last >= word)

    def is_kind(self, at: int, *kinds: str) -> bool:
        """Tell whether there is a chunk, and it is of one of some kinds."""
        chunk = self.chunk(at)
        return chunk is not None and chunk.kind in kinds

    def first_word(self, at: int) -> str:
        """Give the first word of a chunk; nothing where there is none."""
        chunk = self.chunk(at)
        return "" if chunk is None else self.words[chunk.first]

    def likelihood(self, gone: Sequence[int]) -> float:
        """Sum up how much likelier than not the words that go, and mean something, belong to the situation."""
        import numpy as np

        sure = np.clip(self.chances[[at for at in gone if roles.means(self.words[at])]], 1 - SURE, SURE)
        return float(np.log(sure / (1 - sure)).sum())

    def is_harmful(self, chunk: Chunk) -> bool:
        """Tell whether a chunk's head belongs to the situation."""
        return bool(self.chances[chunk.head] >= OPEN)

    def owner(self, chunk: Chunk) -> int | None:
        """Find whose body, or whose thing, a noun names."""
        return next((i for i in range(chunk.head - 1, chunk.first - 1, -1) if self.words[i].endswith("'s")), None)

    def is_somebody(self, chunk: Chunk | None) -> bool:
        """Tell whether a chunk names a person or an animal; a part of a body does if it says whose."""
        if chunk is None or chunk.kind != NOUN:
            return chunk is not None and chunk.kind == PRONOUN
        if self.words[chunk.head] in roles.OF_A_BODY:
            return self.owner(chunk) is not None
        return english.is_being(self.words[chunk.head])

    def lost(self, first: int, last: int, *, harmful: bool = False) -> int:
        """Count who would be lost with some chunks and is not harmful, or may be."""
        found = 0
        for chunk in self.chunks[first : last + 1]:
            if chunk.kind == NOUN and self.is_somebody(chunk):
                owner = self.owner(chunk)
                found += harmful or self.chances[chunk.head if owner is None else owner] < OPEN
        return found

    def forms(self, chunk: Chunk, *, whole: bool = False) -> Iterator[tuple[Parts, float]]:
        """Give other forms of a noun, each with its cost: without harmful attributes, its owner, a plain word.

        Args:
            chunk: the noun.
            whole: whether the noun as it stands is given, too; not if it is a part of somebody's body.
        """
        noun, owner = self.words[chunk.head], self.owner(chunk)
        bodily = owner is not None and noun in roles.OF_A_BODY
        if whole and not bodily:
            yield tuple(chunk.words), 0.0
        if chunk.kind != NOUN or max(self.chances[chunk.first : chunk.last + 1]) < TOUCHED:
            return
        attributes = [i for i in chunk.words if i != chunk.head]
        harmful = {i for i in attributes if roles.means(self.words[i]) and self.chances[i] >= OPEN}
        for i in (i for i in attributes if self.words[i] == "-"):  # what a hyphen joins goes together
            harmful |= {i - 1, i, i + 1} if harmful & {i - 1, i + 1} else set()
        harmless = [i for i in attributes if i not in harmful]
        if owner is not None and bodily:
            yield (*(i for i in harmless if i < owner), self.words[owner].split("'")[0]), NEUTRAL
            return
        if len(harmless) < len(attributes):
            yield (*harmless, chunk.head), 0.0
        people = [i for i in harmless if english.is_being(self.words[i])]
        if people and (self.is_harmful(chunk) or not english.is_being(noun)):
            yield tuple(i for i in harmless if i <= people[-1]), 0.0
        if english.is_person(noun) and roles.plain(noun) != noun:
            yield (*(i for i in harmless if roles.suits_anybody(self.words[i])), roles.plain(noun)), NEUTRAL

    def ends(self, at: int, *, acts: bool = False) -> Iterator[int]:
        """Give the chunks with which a phrase around a chunk may end, so that what is behind it can stay as it is.

        Args:
            at: the chunk.
            acts: whether what is behind may be what somebody before the phrase does.
        """
        for end in range(at, min(at + FURTHER, len(self))):
            if end > at and (self.is_kind(end, LINK) or (self.is_kind(end, SIGN) and not self._goes_too(end + 1))):
                break
            if self.is_kind(end, PLACE, AND) or (end > at and self.is_kind(end, SIGN)):
                continue
            behind, goal = self.chunk(end + 1), self.chunk(end + 2)
            if behind is None or behind.kind in (SIGN, LINK) or (acts and behind.kind in (DOING, DOES)):
                yield end
            elif behind.kind == PLACE and goal is not None and goal.kind not in (SIGN, REFLEXIVE):
                bodily = goal.kind == NOUN and self.words[goal.head] in roles.OF_A_BODY
                yield from () if bodily else (end,)

    def segment(self, at: int) -> tuple[int, int]:
        """Find the first and the last chunk between the signs around a chunk."""
        left = next((i for i in range(at - 1, -1, -1) if self.is_kind(i, SIGN)), -1)
        right = next((i for i in range(at + 1, len(self)) if self.is_kind(i, SIGN)), len(self))
        return left + 1, right - 1

    def _goes_too(self, start: int) -> bool:
        """Tell whether all up to the next sign belongs to the situation."""
        if self.chunk(start) is None:
            return False
        _, end = self.segment(start)
        words = [i for chunk in self.chunks[start : end + 1] for i in chunk.words if roles.means(self.words[i])]
        return bool(words) and all(self.chances[i] >= OPEN for i in words)

    def needs(self, at: int) -> bool:
        """Tell whether a chunk needs what is right before it: *of* a noun, *while* a deed."""
        return self.first_word(at) == "of" or (self.is_kind(at, LINK) and self.first_word(at) in roles.MEANWHILE)

    def joint(self, end: int) -> tuple[int, Parts, float]:
        """Give the last word that goes with a phrase, and *near* where what follows was the goal of a movement."""
        for at in range(end + 1, len(self) - 1):
            place, goal = self.chunks[at], self.chunks[at + 1]
            if place.kind not in (PLACE, NOUN, AND):
                break
            word = self.words[place.first]
            goes = word in roles.DIRECTIONS or (word == "at" and self.is_somebody(goal))
            if place.kind == PLACE and (word in roles.INTO or (at == end + 1 and goes)):
                between = range(self.chunks[end].last + 1, place.first)
                return place.last, (*between, self._near(place)), NEARBY
        if self.first_word(end + 1) == "," and self.is_kind(end + 2, PLACE, DOING):
            return self.chunks[end + 1].last, (), 0.0
        return self.chunks[end].last, (), 0.0

    def _near(self, place: Chunk) -> str:
        if self.words[place.first] in roles.ALONG:
            return "on"
        return "by" if "near" in self.words[place.last : place.last + 6] else "near"

    def saying(self, at: int) -> int | None:
        """Find the chunk, before a chunk and behind the last sign, that says that something is said or written."""
        first, _ = self.segment(at)
        return next((i for i in range(at, first - 1, -1) if self.words[self.chunks[i].head] in roles.SAYING), None)

    def deeds(self, at: int) -> Iterator[int]:
        """Give the deeds that a chunk may belong to: what somebody does, as whom or to whom it names."""
        if self.is_kind(at, NOUN) and self.is_kind(at + 1, *VERBS):
            yield at + 1
        for verb in range(at, -1, -1):
            if self.is_kind(verb, SIGN, LINK):
                break
            if self.is_kind(verb, *VERBS):
                yield verb
