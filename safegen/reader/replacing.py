"""One harmful phrase of a prompt after the other: each is replaced, and the rest stays as it was written.

The grammar around a phrase says which words can go, or can say something plain instead (`rewriting.py`); where a recipe
names the very words, its safe phrase may take their place. The reader reads every attempt, and of those that are calm
the likeliest is taken. Where none is, the phrase is left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from safegen.reader import grammar, minors, roles
from safegen.reader.attempts import Attempt, fit_in, sound
from safegen.reader.clauses import Clauses
from safegen.reader.editing import tidy
from safegen.reader.english import is_person
from safegen.reader.forms import folded
from safegen.reader.naming import told_apart
from safegen.reader.phrases import Phrases
from safegen.reader.places import near, place_around, window_of
from safegen.reader.reading import OPEN
from safegen.reader.rewriting import Rewriter
from safegen.reader.words import Word

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from safegen.reader.reader import Reader
    from safegen.reader.reading import Reading, Span

# The line for an attempt, as a share of the reader's own, near what is new: strict where a phrase is just left out.
# What a rewritten text has of new words is harmless.
STRICT, LOOSE = 0.65, 0.96
# Weights of an attempt's parts: the log-likelihood of what goes, its height near the line, the chance that something of
# a situation is left, and that words over the line are left to the next round. Chosen on `sets/reader-seen/`.
GAP, HIGH, LEFT, PARTLY = 3.0, 6.0, 3.0, 8.0
NAMED, PARTLY_NAMED = 2.0, -1.0  # what a recipe's phrase is worth that covers all of a span, and one that does not
# How many rewritten texts are read, and how many of the likeliest calm attempts are weighed.
WAYS, WEIGHED = 48, 32


@dataclass(frozen=True)
class Edit:
    """One phrase of a prompt, and its replacement."""

    old: str
    new: str
    concept: str


class Replacer:
    """The replacement of phrases with a reader and the phrases of the recipes."""

    def __init__(self, reader: Reader, phrases: Phrases) -> None:
        self.reader, self.phrases = reader, phrases

    def replaced(self, reading: Reading, span: Span, names: Sequence[str], most: int = 1) -> list[tuple[Reading, Edit]]:
        """Replace one phrase in up to `most` ways, the best first.

        By grammar if any such way is calm. Else the phrase is left out, or a recipe's phrase is all that is said.
        """
        for attempts, line in ((self.rewritten, LOOSE), (self._dropped, STRICT)):
            found = self.best(reading, list(attempts(reading, span)), span, names, line, most)
            if calm := [(whole, edit) for whole, height, edit in found if height < line]:
                return calm
        return [(whole, edit) for whole, _, edit in found]  # the last attempt is a whole phrase of the recipe

    def best(
        self, old: Reading, attempts: Sequence[Attempt], span: Span, names: Sequence[str], line: float, most: int = 1
    ) -> list[tuple[Reading, float, Edit]]:
        """Choose up to `most` of the attempts, the best first: of what is calm, the likeliest; else the calmest.

        They come with their heights as shares of the line, and their edits.
        """
        if not attempts:
            return []
        found = self._read_around(attempts)
        heights, partly = self._heights(old, attempts, found, names, line)
        order = [heights.index(min(heights))]
        calm = [i for i, height in enumerate(heights) if height < line]
        if calm:
            worths = [a.likelihood - HIGH * h - PARTLY * p for a, h, p in zip(attempts, heights, partly, strict=True)]
            calm = sorted(calm, key=lambda i: -worths[i])[:WEIGHED]
            left = dict(zip(calm, self._left([(attempts[i], found[i]) for i in calm]), strict=True))
            order = sorted(calm, key=lambda i: -(worths[i] - LEFT * left[i] * (not partly[i])))
        texts: dict[str, int] = {}
        for i in order:
            texts.setdefault(attempts[i].text, i)
        chosen = list(texts.values())[:most]
        readings = self.reader.read(list(texts)[:most])
        return [
            (whole, heights[i], Edit(attempts[i].old, attempts[i].new, span.concept))
            for whole, i in zip(readings, chosen, strict=True)
        ]

    def _read_around(self, attempts: Sequence[Attempt]) -> list[Reading]:
        """Read each attempt around what is new; words have their places in the whole text."""
        places = [place_around(attempt) for attempt in attempts]
        found = self.reader.read([a.text[start:end] for a, (start, end) in zip(attempts, places, strict=True)])
        return [
            replace(reading, words=tuple(Word(w.text, (w.span[0] + start, w.span[1] + start)) for w in reading.words))
            for reading, (start, _) in zip(found, places, strict=True)
        ]

    def _heights(
        self, old: Reading, attempts: Sequence[Attempt], found: Sequence[Reading], names: Sequence[str], line: float
    ) -> tuple[list[float], list[bool]]:
        """Measure the attempts' heights near what is new, and tell whether words over the line are left out.

        Other situations never count, since their turn comes. An attempt that is not calm may be so but for words that
        it does not touch; then these do not count, either.
        """
        columns = [self.reader.concepts.index(name) for name in names]
        lines = self.reader.lines[columns]
        over = (old.scores[:, columns] / lines).max(1, initial=0.0) >= 1
        situations = [span.span for span in old.spans]
        words = [word.span for word, high in zip(old.words, over, strict=True) if high]
        heights, partly = [], []
        for attempt, reading in zip(attempts, found, strict=True):
            scores = (reading.scores[:, columns] / lines).max(1, initial=0.0)
            places = [word.span[0] for word in reading.words]
            ways = [
                max((float(scores[i]) for i in near(attempt, places, old.text, apart)), default=0.0)
                for apart in (situations, words)
            ]
            partly.append(ways[0] >= line)
            heights.append(ways[partly[-1]])
        return heights, partly

    def _left(self, calm: Sequence[tuple[Attempt, Reading]]) -> list[float]:
        """Tell how likely it is that some word near each attempt belongs to a harmful situation."""
        import numpy as np

        windows = [window_of(attempt, reading.words) for attempt, reading in calm]
        return [float(1 / (1 + np.exp(-odds.max(initial=-20)))) for odds in self.reader.network.gaps(windows)]

    def rewritten(self, reading: Reading, span: Span) -> Iterator[Attempt]:
        """Give the likeliest ways to rewrite the phrase, and what the recipes that name it would have there."""
        words = folded(reading.words)
        texts = [word.text for word in words]
        chances = self.reader.gaps(words)
        rewriter = Rewriter(texts, told_apart(self.reader, texts, chances))
        attempts = list(self._named(reading, span, words, rewriter.clauses))
        worst = worst_of(reading, span, self.reader.concepts, rewriter.chances, chances)
        replaced = self.phrases.replaced([(w.text, w.span) for w in words], span.span, span.concept)
        for way in (way for way in rewriter.ways(worst) if replaced.isdisjoint(way.parts)):
            place = words[way.first].span[0], words[way.last].span[1]
            worth = GAP * rewriter.clauses.likelihood(way.gone) + way.cost
            attempts.append(fit_in(reading.text, place, way.written(reading.text, reading.words), worth))
        attempts.sort(key=lambda attempt: -attempt.likelihood)
        yield from itertools.islice((attempt for attempt in attempts if sound(attempt, reading.text)), WAYS)

    def _named(self, reading: Reading, span: Span, words: Sequence[Word], clauses: Clauses) -> Iterator[Attempt]:
        """Give what the recipes that name a phrase of the text as their target would have in its place."""
        for phrase, start, end in self.phrases.at([(w.text, w.span) for w in words], span.span, span.concept):
            if _apart(words, start, end) and grammar.leads(phrase.harmful) == grammar.leads(phrase.safe):
                described = any(word.span[1] == start - 1 and grammar.acts(word.text) for word in words)
                led = described and not grammar.ARTICLE.match(reading.text, start)
                safe = grammar.ARTICLE.sub("", phrase.safe, count=1) if led else phrase.safe
                gone = [i for i, word in enumerate(words) if start <= word.span[0] < end]
                suited = (gone[-1], ()) if is_person(words[gone[-1]].text) else clauses.suited(gone[-1])
                apart = reading.text[:start].rstrip()[-1:] == "," and reading.text[end:].lstrip()[:1] == ","
                if suited is None or apart or reading.text[end:].lstrip()[:3] == "of ":
                    continue
                gone += range(gone[-1] + 1, suited[0] + 1)
                place = start, words[suited[0]].span[1]
                covers = place[0] <= span.span[0] and place[1] >= span.span[1]
                worth = GAP * clauses.likelihood(gone) + (NAMED if covers else PARTLY_NAMED)
                yield fit_in(reading.text, place, " ".join([safe, *suited[1]]), worth)

    def _dropped(self, reading: Reading, span: Span) -> Iterator[Attempt]:
        """Give the text without the span, without all between two signs, and a safe phrase of the recipe instead."""
        text = reading.text
        first, last = text.rfind(",", 0, span.span[0]) + 1, text.find(",", span.span[1]) % (len(text) + 1)
        for place, likelihood in ((grammar.widen(text, span.span), 0.0), ((first, last), -4.0)):
            rest = tidy(text[: place[0]] + text[place[1] :])
            if rest and not minors.brings_minor(rest, text):
                yield Attempt(rest, text[slice(*place)], "", min(place[0], len(rest)), likelihood)
        safe = self.phrases.any(span.concept)
        yield Attempt(safe, text, safe, 0, -20.0)


def worst_of(reading: Reading, span: Span, concepts: Sequence[str], *chances: NDArray[np.float32]) -> int:
    """Find the worst of a span's words that mean something, and belong to the situation.

    Args:
        reading: the prompt.
        span: the span.
        concepts: the concepts of the reading.
        chances: (words,) how likely each word belongs to the situation, as it is told by names, and before. Where none
            does so by name, the likeliest before is taken.
    """
    scores = reading.scores[:, concepts.index(span.concept)]
    inside = [i for i, w in enumerate(reading.words) if w.span[0] < span.span[1] and w.span[1] > span.span[0]]
    content = [i for i in inside if roles.means(reading.words[i].text.lower())] or inside
    if chances:
        told, before = chances
        open_ = [i for i in content if told[i] >= OPEN]
        return max(open_ or content, key=lambda i: scores[i] if open_ else scores[i] * before[i])
    return max(content, key=lambda i: scores[i])


def _apart(words: Sequence[Word], start: int, end: int) -> bool:
    """Tell whether a phrase stands by itself: the words before and after it belong to other phrases."""
    before = [w.text for w in words if w.span[1] <= start]
    behind = [w.text for w in words if w.span[0] >= end]
    return grammar.parts(*before[-1:], *behind[:1])
