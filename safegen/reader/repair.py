"""A prompt without its harm: each harmful phrase gives way as a whole, and the rest stays as it was written.

What takes its place is, in this order, what a recipe names as safe for the very phrase, what recipes name for
phrases near it in meaning and of the same form, or nothing, with the small words that led to it. The reader reads
every attempt, with a stricter line around what was touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safegen.attribution import tidy
from safegen.reader.forms import folded
from safegen.reader.phrases import Phrases, form_of

if TYPE_CHECKING:
    from safegen.reader.reader import Reader, Reading, Span

ROUNDS = 6  # phrases that a prompt may lose, one after the other
NEAR = 12  # phrases near in meaning that are tried
STRICT, AROUND = 0.7, 60  # share of the line, so many characters on either side of what was touched
LEADING = re.compile(r"(?:\b(?:an?|the)\s+)$", re.IGNORECASE)
LINKS = re.compile(
    r"(?:\b(?:and|with|of|next to|beside|near|by|or|holding|carrying|on|in|under|at|behind|showing|wearing)\s+)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Edit:
    """One phrase of a prompt and what took its place."""

    old: str
    new: str
    concept: str


@dataclass(frozen=True)
class Repair:
    """A repaired text with its edits; `left` are the concepts that still object to it."""

    text: str
    edits: tuple[Edit, ...]
    left: tuple[str, ...] = ()


class Repairer:
    """Repairs texts by a reader and the phrases of the recipes."""

    def __init__(self, reader: Reader, phrases: Phrases) -> None:
        self.reader, self.phrases = reader, phrases

    def repair(self, text: str, names: Sequence[str]) -> Repair:
        """Repair a text under the named concepts, the worst phrase first."""
        edits: list[Edit] = []
        reading = self.reader.read([text])[0]
        for _ in range(ROUNDS):
            spans = [span for span in reading.spans if span.concept in names]
            if not spans:
                break
            worst = max(spans, key=lambda span: span.score)
            reading, edit = self._replaced(reading, worst, names)
            edits.append(edit)
        left = tuple(dict.fromkeys(span.concept for span in reading.spans if span.concept in names))
        return Repair(reading.text, tuple(edits), left)

    def _replaced(self, reading: Reading, span: Span, names: Sequence[str]) -> tuple[Reading, Edit]:
        """Replace one phrase by the first candidate that reads well enough, else by the best."""
        tried = list(self._candidates(reading, span))
        found = self.reader.read([text for text, _, _ in tried])
        heights = [self._height(other, at, names) for other, (_, _, at) in zip(found, tried, strict=True)]
        chosen = next((i for i, height in enumerate(heights) if height < STRICT), None)
        best = chosen if chosen is not None else min(range(len(tried)), key=lambda i: heights[i])
        return found[best], Edit(reading.text[slice(*span.span)], tried[best][1], span.concept)

    def _height(self, reading: Reading, at: int, names: Sequence[str]) -> float:
        """Measure the highest word near a place, as a share of its line."""
        columns = [self.reader.concepts.index(name) for name in names]
        near = [i for i, word in enumerate(reading.words) if abs(word.span[0] - at) <= AROUND]
        if not near:
            return 0.0
        return float((reading.scores[near][:, columns] / self.reader.lines[columns]).max())

    def _candidates(self, reading: Reading, span: Span) -> Iterator[tuple[str, str, int]]:
        """Give texts without the phrase, what stands in its place, and where; the best first."""
        text = reading.text
        for phrase, start, end in self.phrases.at(folded_words(reading), span.span, span.concept):
            yield self._fitted(text, start, end, phrase.safe)
        start, end = widened(text, span.span)
        old = text[start:end]
        for phrase in self.phrases.near(self.reader, old, span.concept, form_of(old))[:NEAR]:
            yield self._fitted(text, start, end, phrase.safe)
        dropped = LINKS.sub("", text[:start]) + text[end:]
        yield tidy(dropped) or self.phrases.any(span.concept), "", start
        if tidy(text[:start] + text[end:]) != tidy(dropped):
            yield tidy(text[:start] + text[end:]), "", start
        yield self.phrases.any(span.concept), self.phrases.any(span.concept), 0

    @staticmethod
    def _fitted(text: str, start: int, end: int, safe: str) -> tuple[str, str, int]:
        if text[start : start + 1].isupper() and safe:
            safe = safe[0].upper() + safe[1:]
        return articled(text[:start] + safe + text[end:], start), safe, start


def widened(text: str, span: tuple[int, int]) -> tuple[int, int]:
    """Take the article before a phrase into it."""
    start, end = span
    if match := LEADING.search(text[:start]):
        start = match.start()
    return start, end


def articled(text: str, at: int) -> str:
    """Set the article before a replaced phrase right: *an* before a vowel, none doubled."""
    text = re.sub(r"\b(an?|the)\s+(an?|the|his|her|their|some|two|three)\b", r"\2", text, flags=re.IGNORECASE)
    head, tail = text[: max(0, at - 3)], text[max(0, at - 3) :]
    tail = re.sub(r"\ban(?= [bcdfgjklmnpqrstvwxyz])", "a", tail, count=1)
    tail = re.sub(r"\ba(?= [aeio])", "an", tail, count=1)
    return " ".join((head + tail).split())


def folded_words(reading: Reading) -> list[tuple[str, tuple[int, int]]]:
    """Give the words of a reading as recipes spell them, with their places."""
    return [(folded(word.text)[0], word.span) for word in reading.words]
