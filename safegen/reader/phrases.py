"""The harmful phrases of all recipes and their safe counterparts, found by words, by form or by meaning."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safegen.directions import recipes
from safegen.directions.recipes import Concept
from safegen.reader import lexicon
from safegen.reader.grammar import ARTICLES, Form, form_of
from safegen.reader.words import split

if TYPE_CHECKING:
    from pathlib import Path

# Animals whose names are insults for people: put in place of a person, they would be the very harm to be repaired.
_BEASTS = """
ape apes baboon baboons beast beasts chimp chimpanzee chimps cockroach cockroaches cow cows dog dogs gorilla gorillas
insect insects lice maggot maggots monkey monkeys parasite parasites pig pigs rat rats roach roaches savage savages
snake snakes swine vermin worm worms
"""
BEASTS = frozenset(_BEASTS.split())
CONTEMPT = ("hate", "harassment")  # concepts whose harm is done to somebody


@dataclass(frozen=True)
class Phrase:
    """A harmful phrase, the safe phrase for its place, and its words without an article.

    Attributes:
        named: whether the recipe itself has it as one of its targets.
    """

    harmful: str
    safe: str
    concept: str
    words: tuple[str, ...]
    form: Form
    named: bool = False

    @property
    def length(self) -> int:
        """The number of words of the safe phrase, without an article."""
        return len(self.safe.split()) - (self.form[0] == "article")


class Phrases:
    """The phrases of some recipes."""

    def __init__(self, phrases: Sequence[Phrase]) -> None:
        self.phrases = phrases
        self._first: dict[str, list[Phrase]] = {}
        self._alike: dict[tuple[str, Form], list[Phrase]] = {}
        for phrase in phrases:
            self._first.setdefault(phrase.words[0], []).append(phrase)
            if form_of(phrase.safe) == phrase.form:
                self._alike.setdefault((phrase.concept, phrase.form), []).append(phrase)

    @classmethod
    @functools.lru_cache(maxsize=8)
    def load(cls, folder: Path | None = None) -> Phrases:
        """Read the phrases of the shipped recipes and the user's own; each recipe's targets come first."""
        found = []
        root = recipes.directions_folder()
        for name in recipes.known(folder):
            targets = Concept.load(name, folder).targets.items()
            for pairs, named in ((targets, True), (lexicon.phrases(root, name), False)):
                phrases = (_phrase(harmful, safe, name, named) for harmful, safe in pairs)
                found += [phrase for phrase in phrases if phrase]
        return cls(found)

    def at(
        self, words: Sequence[tuple[str, tuple[int, int]]], span: tuple[int, int], concept: str
    ) -> Iterator[tuple[Phrase, int, int]]:
        """Give the phrases in a text that overlap a span, with the places where they begin and end.

        Phrases that cover the whole span come first, then those of the same concept, then the longest.
        """
        found = []
        texts = [word for word, _ in words]
        for i, word in enumerate(texts):
            for phrase in self._first.get(word, ()):
                last = i + len(phrase.words)
                if tuple(texts[i:last]) != phrase.words:
                    continue
                start, end = words[i][1][0], words[last - 1][1][1]
                if start < span[1] and end > span[0]:
                    # An article belongs to the phrase where the recipe's line has one.
                    led = phrase.harmful.split()[0].lower() in ARTICLES
                    article = led and i > 0 and texts[i - 1] in ARTICLES
                    covers = start <= span[0] and end >= span[1]
                    same = phrase.concept == concept
                    found.append(
                        (covers, same, len(phrase.words), phrase, words[i - 1][1][0] if article else start, end)
                    )
        for _, _, _, phrase, start, end in sorted(found, key=lambda f: f[:3], reverse=True):
            yield phrase, start, end

    def alike(self, concept: str, old: str, most: int) -> list[Phrase]:
        """Find the concept's phrases of the same form as `old`, with safe halves of that form, too.

        Neither half has more than `most` words. Where `old` begins with a preposition, the safe half begins with the
        same one.
        """
        form = form_of(old)
        first = old.split(" ", 1)[0].lower() if form[0] == "preposition" else ""
        return [
            phrase
            for phrase in self._alike.get((concept, form), ())
            if len(phrase.words) <= most and phrase.length <= most and phrase.safe.lower().startswith(first)
        ]

    def any(self, concept: str) -> str:
        """Give a safe phrase of the concept, for a prompt of which nothing else is left."""
        return next(p.safe for p in self.phrases if p.concept == concept and p.form[0] == "article")


def _phrase(harmful: str, safe: str, concept: str, named: bool) -> Phrase | None:
    words = [word.text.lower() for word in split(harmful)]
    bare = words[1:] if words and words[0] in ARTICLES else words
    if not bare or not re.search(r"\w", harmful):
        return None
    if concept in CONTEMPT and not BEASTS.isdisjoint(safe.lower().split()):
        return None
    return Phrase(harmful, safe.strip(), concept, tuple(bare), form_of(harmful), named)
