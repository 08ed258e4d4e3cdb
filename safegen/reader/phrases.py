"""The phrases of all recipes with what is safe in their place: by their words, by their form, by their meaning."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safegen import concepts
from safegen.reader import lexicon
from safegen.reader.words import split

if TYPE_CHECKING:
    from pathlib import Path

    from safegen.reader.reader import Reader

ARTICLES = ("a", "an", "the")
_PREPOSITIONS = frozenset(
    ("with", "in", "on", "at", "under", "over", "by", "from", "of", "to", "into", "beside", "behind", "near", "through")
) | {"against", "without", "about", "around", "off"}
_COUNTS = frozenset(("two", "three", "four", "five", "six", "seven", "some", "many", "several", "few", "both")) | {
    *("her", "his", "their", "its", "my", "your")
}


@dataclass(frozen=True)
class Phrase:
    """A harmful phrase, what is safe in its place, and its words without an article."""

    harmful: str
    safe: str
    concept: str
    words: tuple[str, ...]
    form: tuple[str, bool]


class Phrases:
    """All phrases of some recipes."""

    def __init__(self, phrases: Sequence[Phrase]) -> None:
        self.phrases = phrases
        self._first: dict[str, list[Phrase]] = {}
        for phrase in phrases:
            self._first.setdefault(phrase.words[0], []).append(phrase)

    @classmethod
    @functools.lru_cache(maxsize=8)
    def load(cls, folder: Path | None = None) -> Phrases:
        """Read the recipes that ship, and the user's own; the recipes' own lines come first."""
        found = []
        root = concepts.directions_folder()
        for name in concepts.known(folder):
            pairs = [*concepts.load(name, folder).targets.items(), *lexicon.phrases(root, name)]
            for harmful, safe in pairs:
                if phrase := _phrase(harmful, safe, name):
                    found.append(phrase)
        return cls(found)

    def at(
        self, words: Sequence[tuple[str, tuple[int, int]]], span: tuple[int, int], concept: str
    ) -> Iterator[tuple[Phrase, int, int]]:
        """Give the phrases that stand in a text across a span, the longest first, with their characters."""
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
        # A part of the span is no match for the whole of it: what is left of it would still be harm.
        for covers, _, _, phrase, start, end in sorted(found, key=lambda f: f[:3], reverse=True):
            if covers or end - start >= 0.6 * (span[1] - span[0]):
                yield phrase, min(start, span[0]) if not covers else start, max(end, span[1])

    def near(self, reader: Reader, text: str, concept: str, form: tuple[str, bool]) -> list[Phrase]:
        """Find the concept's phrases of the same form nearest to a text in meaning."""
        alike = [phrase for phrase in self.phrases if phrase.concept == concept and phrase.form == form]
        return reader.nearest(text, alike)

    def any(self, concept: str) -> str:
        """Give a safe phrase of the concept, where nothing else is left of a prompt."""
        return next(p.safe for p in self.phrases if p.concept == concept and p.form[0] == "article")


def form_of(text: str) -> tuple[str, bool]:
    """Tell the grammatical form of a phrase, as far as its first and last word show it."""
    words = [word.text.lower() for word in split(text) if word.spoken]
    if not words:
        return "other", False
    first = words[0]
    plural = words[-1].endswith("s") and not words[-1].endswith("ss")
    if first in ARTICLES:
        return "article", plural
    if first in _PREPOSITIONS:
        return "preposition", False
    if first in _COUNTS:
        return "count", plural
    for ending in ("ing", "ed"):
        if first.endswith(ending) and len(first) > len(ending) + 2:
            return ending, False
    return "other", plural


def _phrase(harmful: str, safe: str, concept: str) -> Phrase | None:
    words = [word.text.lower() for word in split(harmful)]
    bare = words[1:] if words and words[0] in ARTICLES else words
    if not bare or not re.search(r"\w", harmful):
        return None
    return Phrase(harmful, safe.strip(), concept, tuple(bare), form_of(harmful))
