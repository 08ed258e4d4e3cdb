"""The targets of recipes with their safe phrases, found in a text by their words."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safegen.directions import recipes
from safegen.directions.recipes import Concept
from safegen.reader.grammar import ARTICLES, bare

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Phrase:
    """A recipe's target, the safe phrase for its place, and its words without an article."""

    harmful: str
    safe: str
    concept: str
    words: tuple[str, ...]


class Phrases:
    """The phrases of some recipes."""

    def __init__(self, phrases: Sequence[Phrase]) -> None:
        self.phrases = phrases
        self._first: dict[str, list[Phrase]] = {}
        for phrase in phrases:
            self._first.setdefault(phrase.words[0], []).append(phrase)

    @classmethod
    @functools.lru_cache(maxsize=8)
    def load(cls, folder: Path | None = None) -> Phrases:
        """Read the targets of the shipped recipes and the user's own."""
        found = (
            _phrase(harmful, safe, name)
            for name in recipes.known(folder)
            for harmful, safe in Concept.load(name, folder).targets.items()
        )
        return cls([phrase for phrase in found if phrase])

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

    def replaced(
        self, words: Sequence[tuple[str, tuple[int, int]]], span: tuple[int, int], concept: str
    ) -> frozenset[int]:
        """Find, by their index, the words of those phrases that the safe phrase does not keep."""
        found = set()
        for phrase, start, end in self.at(words, span, concept):
            kept = {*ARTICLES, *phrase.safe.lower().split()}
            found |= {i for i, (word, place) in enumerate(words) if start <= place[0] < end and word not in kept}
        return frozenset(found)

    def any(self, concept: str) -> str:
        """Give a safe phrase of the concept, for a prompt of which nothing else is left."""
        return next(p.safe for p in self.phrases if p.concept == concept and p.safe.split()[0].lower() in ARTICLES)


def _phrase(harmful: str, safe: str, concept: str) -> Phrase | None:
    words = tuple(word.text for word in bare(harmful))
    if not any(word[0].isalnum() for word in words):
        return None
    return Phrase(harmful, safe.strip(), concept, words)
