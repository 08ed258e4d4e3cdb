"""Repairs of a prompt: each harmful phrase is replaced as a whole, and the rest stays as it was written.

The replacement is a recipe's safe phrase for the very phrase, recipes' safe phrases for phrases near it in meaning, a
harmless stand-in for the old word, or nothing. The reader reads every attempt, with a stricter line around the
replacement, and tells whether the words there fit together. Of the attempts that are calm, the one is taken that
reads well and loses the least.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safegen.reader import grammar, lexicon
from safegen.reader.editing import tidy
from safegen.reader.forms import fold
from safegen.reader.phrases import Phrase, Phrases
from safegen.reader.rewording import changes
from safegen.reader.syntax import ADJECTIVE, NOUN, PREPOSITIONS, Run, Syntax

if TYPE_CHECKING:
    from safegen.reader.reader import Reader
    from safegen.reader.reading import Reading, Span
    from safegen.reader.words import Word

ROUNDS = 6  # how many phrases of a prompt may be replaced, one after the other
NEAR = 8  # how many phrases near in meaning are tried in every place
HEAD, LONG = 3, 12  # the most words in the place of a noun phrase or verb alone, and of a longer phrase
STRICT, AROUND = 0.65, 60  # the stricter line as a share of the line, and how many characters it reaches to each side
# Costs of an attempt, counted in harmless words lost: words that do not fit together; a phrase, or all between two
# signs, dropped; a stand-in; the whole prompt replaced; a height near the line; a phrase farther in meaning. Losing a
# word that carries harm costs up to `CARRIED` less.
STRANGE, DROPPED, CLAUSE, STANDIN, WHOLE, HIGH, FAR, CARRIED = 6.0, 1.5, 4.0, 0.8, 5.0, 3.0, 0.05, 0.3
# Somebody gives way to a thing, or a thing to somebody.
LOST_PERSON, NEW_PERSON = 2.0, 1.0
TWICE = re.compile(r"\b(\w+)\W+\1\b", re.IGNORECASE)
LINKS = re.compile(
    r"(?:\b(?:and|with|of|next to|beside|near|by|or|holding|carrying|on|in|under|at|behind|showing|wearing)\s+)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Edit:
    """One phrase of a prompt, and its replacement."""

    old: str
    new: str
    concept: str


@dataclass(frozen=True)
class Attempt:
    """A text that a prompt may become: the old phrase, the new one, its place, and the cost."""

    text: str
    old: str
    new: str
    at: int
    cost: float

    @property
    def place(self) -> tuple[int, int]:
        """The characters that are new."""
        return self.at, self.at + len(self.new)


@dataclass(frozen=True)
class Repair:
    """A repaired text with its edits; `left` are the concepts under which it is still over a line."""

    text: str
    edits: tuple[Edit, ...]
    left: tuple[str, ...] = ()


class Repairer:
    """The repair of texts with a reader and the phrases of the recipes."""

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
        """Replace one phrase: by what a recipe says of the very phrase if that is calm, else by the best attempt."""
        found = self._best(reading, self._named(reading, span), span, names)
        if found is None or found[1] >= STRICT:
            found = self._best(reading, self._attempts(reading, span), span, names) or found
        assert found is not None  # the last attempt is a whole phrase of the recipe
        return found[0], found[2]

    def _best(
        self, reading: Reading, attempts: Iterator[Attempt], span: Span, names: Sequence[str]
    ) -> tuple[Reading, float, Edit] | None:
        """Choose among attempts: of what is calm, take what reads well and keeps the most; else take the calmest.

        It comes with its height as a share of the line, and its edit.
        """
        twice = {match.group().lower() for match in TWICE.finditer(reading.text)}
        tried = [
            attempt
            for attempt in dict.fromkeys(attempts)
            if all(match.group().lower() in twice for match in TWICE.finditer(attempt.text))
        ]
        if not tried:
            return None
        found = self.reader.read([attempt.text for attempt in tried])
        heights = [self._height(other, attempt.at, names) for other, attempt in zip(found, tried, strict=True)]
        calm = [i for i, height in enumerate(heights) if height < STRICT]
        best = heights.index(min(heights))
        if calm:
            strange = self.reader.strangeness([(tried[i].text, tried[i].place) for i in calm])
            costs = [tried[i].cost + STRANGE * s + HIGH * heights[i] for i, s in zip(calm, strange, strict=True)]
            best = calm[costs.index(min(costs))]
        return found[best], heights[best], Edit(tried[best].old, tried[best].new, span.concept)

    def _height(self, reading: Reading, at: int, names: Sequence[str]) -> float:
        """Measure the highest word near a place, as a share of its line."""
        columns = [self.reader.concepts.index(name) for name in names]
        near = [i for i, word in enumerate(reading.words) if abs(word.span[0] - at) <= AROUND]
        if not near:
            return 0.0
        return float((reading.scores[near][:, columns] / self.reader.lines[columns]).max())

    def _named(self, reading: Reading, span: Span) -> Iterator[Attempt]:
        """Give what the recipes that name a phrase of the text as their target would have in its place."""
        for phrase, start, end in self._known(reading, span):
            if phrase.named:
                yield fit_in(reading.text, (start, end), phrase.safe, 0.0)

    def _known(self, reading: Reading, span: Span) -> Iterator[tuple[Phrase, int, int]]:
        """Give the recipes' phrases that stand in the text and are no part of a longer one."""
        for phrase, start, end in self.phrases.at(folded_words(reading), span.span, span.concept):
            if _apart(reading.words, start, end) and grammar.leads(phrase.harmful) == grammar.leads(phrase.safe):
                yield phrase, start, end

    def _attempts(self, reading: Reading, span: Span) -> Iterator[Attempt]:
        """Give the texts that a text may become without a harmful span."""
        text = reading.text
        losses = losses_of(reading, span, self.reader.concepts)
        for phrase, start, end in self._known(reading, span):
            yield fit_in(text, (start, end), phrase.safe, 0.0 if phrase.named else _lost(losses, start, end))
        syntax = Syntax(reading.words, self.reader.tags(reading.words))
        inside, worst = words_of(reading, span, self.reader.concepts)
        found = list(dict.fromkeys(places(text, syntax, worst, inside)))
        for ((start, end), _), near in zip(found, self._near(text, found, span.concept), strict=True):
            lost = _lost(losses, start, end)
            for far, safe in enumerate(near):
                odd = exchanged(text[start:end], safe)
                yield fit_in(text, (start, end), safe, lost + 1 + FAR * far + odd)
        for change in changes(text, syntax, worst, inside):
            lost = _lost(losses, *change.span) - kept_words(text[slice(*change.span)], change.new)
            if change.new:
                odd = change.odd + exchanged(text[slice(*change.span)], change.new)
                yield fit_in(text, change.span, change.new, lost + STANDIN + odd)
            else:
                yield from cut_out(text, change.span, lost + DROPPED)
        for place, _ in found:
            yield from cut_out(text, place, _lost(losses, *place) + DROPPED)
        clause = syntax.span(syntax.clause(worst))
        yield from cut_out(text, clause, _lost(losses, *clause) + CLAUSE)
        safe = self.phrases.any(span.concept)
        yield Attempt(safe, text, safe, 0, _lost(losses, 0, len(text)) + WHOLE)

    def _near(self, text: str, found: Sequence[tuple[tuple[int, int], int]], concept: str) -> Iterator[list[str]]:
        """Give, for each place of a text, recipes' safe phrases near in meaning and of the same form."""
        olds = [text[slice(*place)] for place, _ in found]
        owners = [match.group() if (match := grammar.OWNER.match(old)) else "" for old in olds]
        # A thing that somebody owns is replaced like any other, but keeps its owner.
        asked = [f"a {old[len(owner) :]}" if owner else old for old, owner in zip(olds, owners, strict=True)]
        choices = [self.phrases.alike(concept, old, most) for old, (_, most) in zip(asked, found, strict=True)]
        nearest = self.reader.nearest(list(zip(asked, choices, strict=True)), NEAR)
        for owner, phrases in zip(owners, nearest, strict=True):
            yield [owner + grammar.ARTICLE.sub("", p.safe, count=1) if owner else p.safe for p in phrases]


def fit_in(text: str, place: tuple[int, int], safe: str, cost: float) -> Attempt:
    """Put a safe phrase in a place of a text, with the article and the capital that belong there."""
    start, end = place
    if text[start : start + 1].isupper() and safe:
        safe = safe[0].upper() + safe[1:]
    return Attempt(grammar.fix_articles(text[:start] + safe + text[end:], start), text[start:end], safe, start, cost)


def cut_out(text: str, place: tuple[int, int], cost: float) -> Iterator[Attempt]:
    """Leave out a place of a text and the link before it; give nothing if no text is left.

    Only the part between the commas around it is tidied; the rest stays as the user wrote it.
    """
    before, behind = text[: place[0]], text[place[1] :]
    first, last = before.rfind(",") + 1, behind.find(",") % (len(behind) + 1)
    seam = tidy(LINKS.sub("", before[first:]) + behind[:last])
    head = before[:first].rstrip(" ,")
    kept = ", ".join(part for part in (head, seam, behind[last + 1 :].strip()) if part)
    if kept:
        yield Attempt(kept, text[slice(*place)], "", min(place[0], len(kept)), cost)


def exchanged(old: str, new: str) -> float:
    """Tell what it costs if somebody gives way to a thing, or a thing to somebody."""
    persons = lexicon.person_words()
    before, after = (any(word in persons for word in phrase.lower().split()) for phrase in (old, new))
    return LOST_PERSON if before and not after else NEW_PERSON if after and not before else 0.0


def kept_words(old: str, new: str) -> float:
    """Count the words that a phrase and its replacement share."""
    return float(len(set(new.lower().split()) & set(old.lower().split())))


def words_of(reading: Reading, span: Span, concepts: Sequence[str]) -> tuple[Run, int]:
    """Find the first and the last word of a span, and the worst of its words that mean something."""
    scores = reading.scores[:, concepts.index(span.concept)]
    inside = [i for i, w in enumerate(reading.words) if w.span[0] < span.span[1] and w.span[1] > span.span[0]]
    content = [i for i in inside if reading.words[i].text.lower() not in grammar.LEADING] or inside
    return (inside[0], inside[-1]), max(content, key=lambda i: scores[i])


def places(text: str, syntax: Syntax, worst: int, inside: Run) -> Iterator[tuple[tuple[int, int], int]]:
    """Give the places that a recipe's phrase may take, and the most words that it may have there.

    These are the worst word's verb alone, or its noun phrase; all that follows a verb or a preposition, with it; and
    the span with its article.
    """
    # Recipes' phrases are matched by a verb's ending, so it has to show the form: *clubs* may be a thing.
    if syntax.is_verb(worst):
        if grammar.acts(syntax.text(worst)):
            place = syntax.span(syntax.verb(worst))
            yield place, len(text[slice(*place)].split())
    elif syntax.is_(worst, NOUN, ADJECTIVE):
        yield syntax.span(syntax.noun_phrase(worst)), HEAD
    last = syntax.clause_end(max(worst, inside[1]))
    for i in range(inside[0], worst + 1):
        if (syntax.is_verb(i) and grammar.acts(syntax.text(i))) or syntax.text(i) in PREPOSITIONS:
            yield syntax.span((i, inside[1])), LONG
            yield syntax.span((i, last)), LONG
    if not any(syntax.is_verb(i) and not grammar.acts(syntax.text(i)) for i in range(inside[0], inside[1] + 1)):
        yield grammar.widen(text, syntax.span(inside)), LONG


def _apart(words: Sequence[Word], start: int, end: int) -> bool:
    """Tell whether a phrase stands by itself: the words before and after it belong to other phrases."""
    before = [w.text for w in words if w.span[1] <= start]
    behind = [w.text for w in words if w.span[0] >= end]
    return grammar.parts(*before[-1:], *behind[:1])


def losses_of(reading: Reading, span: Span, concepts: Sequence[str]) -> list[tuple[tuple[int, int], float]]:
    """Tell what losing each word costs: 1 for a harmless word, and less the more of the harm it carries."""
    scores = reading.scores[:, concepts.index(span.concept)] / span.score
    return [
        (word.span, 1 - CARRIED * min(1.0, max(0.0, float(score))))
        for word, score in zip(reading.words, scores, strict=True)
        if word.spoken and word.text.lower() not in grammar.DETERMINERS
    ]


def _lost(losses: Sequence[tuple[tuple[int, int], float]], start: int, end: int) -> float:
    """Add up the costs of losing the words of a place."""
    return sum(loss for (a, b), loss in losses if a >= start and b <= end)


def folded_words(reading: Reading) -> list[tuple[str, tuple[int, int]]]:
    """Give the words of a reading as recipes spell them, with their places."""
    return [(fold(word.text)[0], word.span) for word in reading.words]
