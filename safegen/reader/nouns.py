"""The nouns of a prompt: whom and what they name, and the other forms that they may take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from safegen.reader import english, roles
from safegen.reader.chunks import Chunk, parse
from safegen.reader.grammar import WORDS
from safegen.reader.kinds import NOUN, PLACE, PRONOUN, VERBS
from safegen.reader.reading import OPEN, SURE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Parts = tuple[int | str, ...]  # words that stay, by their number, and new ones
TOUCHED = 0.25  # chance from which on a noun may need another word
# What a plain word for somebody costs, one with no attribute, and what is left of a body, as a log-likelihood.
NEUTRAL, BARE, MAIMED = -1.0, -4.0, -10.0


class Nouns:
    """The chunks of a prompt, and what its nouns name.

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
        """Tell whether a chunk names a person or an animal; what is somebody's own does if it says whose."""
        if chunk is None or chunk.kind != NOUN:
            return chunk is not None and chunk.kind == PRONOUN
        worn = self.words[chunk.first - 1 : chunk.first] == ["in"] and english.is_worn(self.words[chunk.head])
        return self.is_own(chunk) or (english.is_being(self.words[chunk.head]) and not worn)

    def is_animal(self, word: int) -> bool:
        """Tell whether a word names an animal."""
        return english.is_being(self.words[word]) and not english.is_person(self.words[word])

    def is_own(self, chunk: Chunk) -> bool:
        """Tell whether a noun names what somebody has that cannot be seen without them: their arm, their way."""
        noun = self.words[chunk.head]
        owner = self.owner(chunk)
        if owner is None or self.is_bodily(chunk):
            return owner is not None
        owned = english.is_being(self.words[owner].removesuffix("'s"))
        seen = english.is_being(noun) or (english.is_thing(noun) and not self.is_harmful(chunk))
        return owned and not seen

    def is_bodily(self, chunk: Chunk | None) -> bool:
        """Tell whether a chunk names what somebody has of a body, or on it; *a temple* and *a chest* are none."""
        if chunk is None or chunk.kind != NOUN:
            return False
        noun = self.words[chunk.head]
        named = self.words[chunk.first] in WORDS["article"] and self.owner(chunk) is None
        return roles.is_of_a_body(noun) and not (named and noun in roles.HOMONYMS)

    def named(self, at: int) -> Iterator[int]:
        """Give a noun and those before it that it only describes: *an owl*, *a box* in *a box with an owl*."""
        yield at
        while self.is_kind(at - 1, PLACE) and self.is_kind(at - 2, NOUN, *VERBS):
            at -= 2 if self.is_kind(at - 2, NOUN) else 3
            if not self.is_kind(at, NOUN):
                break
            yield at

    def lost(self, first: int, last: int, *, harmful: bool = False) -> int:
        """Count who would be lost with some chunks and is not harmful, or may be."""
        found = 0
        for chunk in self.chunks[max(first, 0) : last + 1]:
            compared = self.words[max(0, chunk.first - 1)] in ("as", "like")
            if chunk.kind == NOUN and self.is_somebody(chunk) and not compared:
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
        own = self.is_own(chunk)
        if whole and not own:
            yield tuple(chunk.words), 0.0
        if chunk.kind != NOUN or max(self.chances[chunk.first : chunk.last + 1]) < TOUCHED:
            return
        attributes = [i for i in chunk.words if i != chunk.head]
        if noun == "on":  # with nothing on
            return
        harmful = {i for i in attributes if roles.means(self.words[i]) and self.chances[i] >= OPEN}
        denied = next((i for i in attributes if self.words[i] == "no"), None)  # *no owls* says nothing of owls alone
        harmful |= set() if denied is None else {i for i in attributes if i >= denied}
        for i in (i for i in attributes if self.words[i] == "-"):  # what a hyphen joins goes together
            harmful |= {i - 1, i, i + 1} if harmful & {i - 1, i + 1} else set()
        harmless = [i for i in attributes if i not in harmful and not (harmful and self.words[i] == ",")]
        if owner is not None and own:
            yield (*(i for i in harmless if i < owner), self.words[owner].split("'")[0]), NEUTRAL
            return
        if len(harmless) < len(attributes):
            yield (*harmless, chunk.head), MAIMED if self.is_bodily(chunk) and not english.is_worn(noun) else 0.0
        touched = {i for i in attributes if roles.means(self.words[i]) and self.chances[i] >= TOUCHED}
        if touched > harmful and english.is_being(noun):
            yield (*(i for i in attributes if i not in touched), chunk.head), BARE
        yield from self._others(chunk, harmless)

    def _others(self, chunk: Chunk, harmless: Sequence[int]) -> Iterator[tuple[Parts, float]]:
        """Give who else a noun may stand for: somebody, or an animal, among its attributes, and a plain word."""
        noun = self.words[chunk.head]
        people = [i for i in harmless if english.is_person(self.words[i]) and not english.is_adjective(self.words[i])]
        apart = bool(people) and (people[-1] < chunk.head - 1 or english.is_being(noun))  # a witch hunt is no witch
        if apart and (self.is_harmful(chunk) or not english.is_being(noun)):
            yield tuple(i for i in harmless if i <= people[-1]), 0.0
        animal = chunk.head - 1
        if (roles.is_of_a_body(noun) or noun in roles.CORPSES) and animal in harmless and self.is_animal(animal):
            led = self.words[chunk.first] in WORDS["article"] or english.is_plural(self.words[animal])
            named = (*(i for i in harmless if i < animal), *(() if led else ("a",)), animal)
            yield named, NEUTRAL
        begins = chunk.first == 0 or not self.words[chunk.first - 1][0].isalnum()
        led = english.is_plural(noun) or self.words[chunk.first] in roles.LED or begins
        if led and english.is_person(noun) and self.is_somebody(chunk) and roles.plain(noun) != noun:
            yield (*(i for i in harmless if roles.suits_anybody(self.words[i])), roles.plain(noun)), NEUTRAL
