"""A prompt without its harm: each harmful phrase gives way as a whole, and the rest stays as it was written.

What takes its place is what a recipe names as safe for the very phrase, else what recipes name for phrases near it
in meaning and of the same form, or nothing, with the small words that led to it. The reader reads every attempt, with
a stricter line around what was touched; of those that it finds calm, the one stays that keeps the most of the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safegen.attribution import tidy
from safegen.reader import grammar
from safegen.reader.forms import folded
from safegen.reader.phrases import Phrases

if TYPE_CHECKING:
    from safegen.reader.reader import Reader, Reading, Span
    from safegen.reader.words import Word

ROUNDS = 6  # phrases that a prompt may lose, one after the other
NEAR = 12  # phrases near in meaning that are tried
HEAD, LONG = 3, 12  # words at most, of what takes the place of the worst word's phrase alone and of a whole span
DROPPED = 2  # how many words a phrase is worth that nothing takes the place of
STRICT, AROUND = 0.7, 60  # share of the line, so many characters on either side of what was touched
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
class Attempt:
    """A text that a prompt may become: what gave way, what took its place and where, and how many words that cost."""

    text: str
    old: str
    new: str
    at: int
    lost: int


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
        """Replace one phrase by what is calm and keeps the most of the prompt, else by what is calmest."""
        tried = list(self._attempts(reading, span))
        found = self.reader.read([attempt.text for attempt in tried])
        heights = [self._height(other, attempt.at, names) for other, attempt in zip(found, tried, strict=True)]
        calm = [i for i, height in enumerate(heights) if height < STRICT]
        best = min(calm, key=lambda i: tried[i].lost) if calm else heights.index(min(heights))
        return found[best], Edit(tried[best].old, tried[best].new, span.concept)

    def _height(self, reading: Reading, at: int, names: Sequence[str]) -> float:
        """Measure the highest word near a place, as a share of its line."""
        columns = [self.reader.concepts.index(name) for name in names]
        near = [i for i, word in enumerate(reading.words) if abs(word.span[0] - at) <= AROUND]
        if not near:
            return 0.0
        return float((reading.scores[near][:, columns] / self.reader.lines[columns]).max())

    def _attempts(self, reading: Reading, span: Span) -> Iterator[Attempt]:
        """Give what the text may become, what is likeliest to read well first."""
        text, whole = reading.text, grammar.widened(reading.text, span.span)
        for phrase, start, end in self.phrases.at(folded_words(reading), span.span, span.concept):
            if not _apart(reading.words, start, end) or grammar.leads(phrase.harmful) != grammar.leads(phrase.safe):
                continue
            covers = start <= span.span[0] and end >= span.span[1]
            yield fitted(text, (start, end), phrase.safe, lost=0 if covers else _count(text[start:end]))
        for place, most in places(reading, span, self.reader.concepts):
            yield from self._near(text, place, span.concept, most)
        start, end = whole
        links = LINKS.sub("", text[:start])
        for rest in (links + text[end:], text[:start] + text[end:]):
            if kept := tidy(rest):
                yield Attempt(kept, text[start:end], "", start, _count(text) - _count(kept) + DROPPED)
        safe = self.phrases.any(span.concept)
        yield Attempt(safe, text, safe, 0, _count(text) + DROPPED)

    def _near(self, text: str, place: tuple[int, int], concept: str, most: int) -> Iterator[Attempt]:
        """Give the text with what recipes name as safe for phrases near one of its own in meaning, and of its form."""
        old = text[slice(*place)]
        owned = grammar.OWNER.match(old)
        # What is somebody's is a thing like any other, but keeps its owner.
        asked = f"a {old[owned.end() :]}" if owned else old
        for phrase in self.reader.nearest(asked, self.phrases.alike(concept, asked, most))[:NEAR]:
            safe = owned.group() + grammar.ARTICLE.sub("", phrase.safe, count=1) if owned else phrase.safe
            yield fitted(text, place, safe, lost=_count(old))


def fitted(text: str, place: tuple[int, int], safe: str, lost: int) -> Attempt:
    """Put a safe phrase in a place of a text, with the article and the capital that belong there."""
    start, end = place
    if text[start : start + 1].isupper() and safe:
        safe = safe[0].upper() + safe[1:]
    return Attempt(grammar.articled(text[:start] + safe + text[end:], start), text[start:end], safe, start, lost)


def places(reading: Reading, span: Span, concepts: Sequence[str]) -> Iterator[tuple[tuple[int, int], int]]:
    """Give what may be replaced of a span, the least first, and how many words may take its place.

    They are the verb alone, or the noun with its article and adjectives, that its worst word stands in; what a
    preposition leads; and the whole.
    """
    words, scores = reading.words, reading.scores[:, concepts.index(span.concept)]
    inside = [i for i, w in enumerate(words) if w.span[0] < span.span[1] and w.span[1] > span.span[0]]
    content = [i for i in inside if words[i].text.lower() not in grammar.LEADING] or inside
    worst = max(content, key=lambda i: scores[i])
    if grammar.acts(words[worst].text):
        place = grammar.verb(words, worst)
        yield place, _count(reading.text[slice(*place)])
    elif (found := grammar.noun(words, worst, HEAD)) is not None:
        yield found, HEAD
    led = [i for i in inside if i <= worst and words[i].text.lower() in grammar.WORDS["preposition"]]
    if led:
        yield (words[led[-1]].span[0], span.span[1]), LONG
    yield grammar.widened(reading.text, span.span), LONG


def _apart(words: Sequence[Word], start: int, end: int) -> bool:
    """Tell whether a phrase is one by itself: what is before and behind it begins or ends another."""
    before = [w.text for w in words if w.span[1] <= start]
    behind = [w.text for w in words if w.span[0] >= end]
    return grammar.parts(*before[-1:], *behind[:1])


def _count(text: str) -> int:
    return len(text.split())


def folded_words(reading: Reading) -> list[tuple[str, tuple[int, int]]]:
    """Give the words of a reading as recipes spell them, with their places."""
    return [(folded(word.text)[0], word.span) for word in reading.words]
