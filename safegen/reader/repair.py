"""Repairs of a prompt: each harmful situation is replaced as a whole, and the rest stays as it was written.

Where a recipe names the very words, its safe phrase takes their place. Else the reader says which words belong to the
situation, so that several gaps are likely, and `infilling.py` says which harmless words are likely in each. The
reader reads every attempt, with a stricter line around what is new. Of those that are calm, the likeliest is taken.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safegen.reader import grammar
from safegen.reader.editing import tidy
from safegen.reader.forms import fold
from safegen.reader.infilling import MASK, Gap
from safegen.reader.phrases import Phrases
from safegen.reader.words import WINDOW, Word

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from safegen.reader.reader import Reader
    from safegen.reader.reading import Reading, Span

ROUNDS = 6  # how many situations of a prompt may be replaced, one after the other
GAPS, LONGEST = 8, 14  # how many gaps are tried, and the most words of one
SURE = 0.98  # no word is taken to belong to a situation, or not to, with more certainty than this
OPEN = 0.5  # chance from which on a word is hidden beside another gap
STRICT, AROUND = 0.65, 60  # the stricter line as a share of the line, and how many characters it reaches to each side
# Weights of an attempt's parts beside the log-likelihood of its fill: the log-likelihood of its gap, its height near
# the line, and the chance that something of a situation is left. Chosen on judged repairs of `sets/reader-seen/`.
GAP, HIGH, LEFT = 3.0, 2.0, 3.0
EMPTY = -2.0  # what a fill of no words weighs: people seldom leave words out, and the decoder learned to more often
WEIGHED = 32  # how many of the likeliest calm attempts are weighed
TWICE = re.compile(r"\b(\w+)\W+\1\b", re.IGNORECASE)
# Animals whose names are insults for people: said of a person, they would be the very harm to be repaired.
_BEASTS = """
ape apes baboon baboons beast beasts chimp chimpanzee chimps cockroach cockroaches cow cows dog dogs gorilla gorillas
insect insects lice maggot maggots monkey monkeys parasite parasites pig pigs rat rats roach roaches savage savages
snake snakes swine vermin worm worms
"""
BEASTS = frozenset(_BEASTS.split())
CONTEMPT = ("hate", "harassment")  # concepts whose harm is done to somebody


@dataclass(frozen=True)
class Edit:
    """One phrase of a prompt, and its replacement."""

    old: str
    new: str
    concept: str


@dataclass(frozen=True)
class Attempt:
    """A text that a prompt may become: the old phrase, the new one, its place, and the log-likelihood."""

    text: str
    old: str
    new: str
    at: int
    likelihood: float


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
            if spans:
                reading, edit = self._replaced(reading, max(spans, key=lambda span: span.score), names)
                edits.append(edit)
            else:
                break
        left = tuple(dict.fromkeys(span.concept for span in reading.spans if span.concept in names))
        return Repair(reading.text, tuple(edits), left)

    def _replaced(self, reading: Reading, span: Span, names: Sequence[str]) -> tuple[Reading, Edit]:
        """Replace one phrase: by what a recipe says of the very phrase if that is calm, else by the best attempt."""
        for attempts in (self._named, self._filled, self._dropped):
            found = self._best(list(attempts(reading, span)), span, names)
            if found is not None and found[1] < STRICT:
                return found[0], found[2]
        assert found is not None  # the last attempt is a whole phrase of the recipe
        return found[0], found[2]

    def _best(
        self, attempts: Sequence[Attempt], span: Span, names: Sequence[str]
    ) -> tuple[Reading, float, Edit] | None:
        """Choose among attempts: of what is calm, take the likeliest; else take the calmest.

        It comes with its height as a share of the line, and its edit.
        """
        if not attempts:
            return None
        found = self.reader.read([attempt.text for attempt in attempts])
        heights = [self._height(other, attempt.at, names) for other, attempt in zip(found, attempts, strict=True)]
        best = heights.index(min(heights))
        calm = [i for i, height in enumerate(heights) if height < STRICT]
        if calm:
            calm = sorted(calm, key=lambda i: HIGH * heights[i] - attempts[i].likelihood)[:WEIGHED]
            left = self._left([(attempts[i], found[i]) for i in calm])
            worths = [
                attempts[i].likelihood - HIGH * heights[i] - LEFT * rest for i, rest in zip(calm, left, strict=True)
            ]
            best = calm[worths.index(max(worths))]
        return found[best], heights[best], Edit(attempts[best].old, attempts[best].new, span.concept)

    def _left(self, calm: Sequence[tuple[Attempt, Reading]]) -> list[float]:
        """Tell how likely it is that some word near each attempt belongs to a harmful situation."""
        import numpy as np

        windows = [window_of(attempt, reading.words) for attempt, reading in calm]
        return [float(1 / (1 + np.exp(-odds.max(initial=-20)))) for odds in self.reader.network.gaps(windows)]

    def _height(self, reading: Reading, at: int, names: Sequence[str]) -> float:
        """Measure the highest word near a place, as a share of its line."""
        columns = [self.reader.concepts.index(name) for name in names]
        near = [i for i, word in enumerate(reading.words) if abs(word.span[0] - at) <= AROUND]
        if not near:
            return 0.0
        return float((reading.scores[near][:, columns] / self.reader.lines[columns]).max())

    def _named(self, reading: Reading, span: Span) -> Iterator[Attempt]:
        """Give what the recipes that name a phrase of the text as their target would have in its place."""
        words = folded(reading.words)
        for phrase, start, end in self.phrases.at([(w.text, w.span) for w in words], span.span, span.concept):
            if _apart(words, start, end) and grammar.leads(phrase.harmful) == grammar.leads(phrase.safe):
                yield fit_in(reading.text, (start, end), phrase.safe, 0.0)

    def _filled(self, reading: Reading, span: Span) -> Iterator[Attempt]:
        """Give the likeliest gaps with their likeliest fills."""
        words = folded(reading.words)
        chances = self.reader.gaps(words)
        worst = worst_of(reading, span, self.reader.concepts)
        gaps = likely_gaps(chances, worst)
        fills = self.reader.filler.fill([around(words, chances, run) for run, _ in gaps])
        for ((first, last), likelihood), some in zip(gaps, fills, strict=True):
            place = reading.words[first].span[0], reading.words[last].span[1]
            for fill in some:
                if span.concept in CONTEMPT and not BEASTS.isdisjoint(fill.text.split()):
                    continue
                attempt = fit_in(
                    reading.text, place, fill.text, GAP * likelihood + fill.likelihood + (0.0 if fill.text else EMPTY)
                )
                if sound(attempt, reading.text):
                    yield attempt

    def _dropped(self, reading: Reading, span: Span) -> Iterator[Attempt]:
        """Give the text without the span, without all between two signs, and a safe phrase of the recipe instead."""
        text = reading.text
        first, last = text.rfind(",", 0, span.span[0]) + 1, text.find(",", span.span[1]) % (len(text) + 1)
        for place, likelihood in ((grammar.widen(text, span.span), 0.0), ((first, last), -4.0)):
            rest = tidy(text[: place[0]] + text[place[1] :])
            if rest:
                yield Attempt(rest, text[slice(*place)], "", min(place[0], len(rest)), likelihood)
        safe = self.phrases.any(span.concept)
        yield Attempt(safe, text, safe, 0, -20.0)


def likely_gaps(chances: NDArray[np.float32], worst: int) -> list[tuple[tuple[int, int], float]]:
    """Find the likeliest gaps around a word: first and last word, and how much less likely than the likeliest.

    Args:
        chances: (words,) how likely each word belongs to the situation.
        worst: a word that every gap holds.
    """
    import numpy as np

    sure = np.clip(chances, 1 - SURE, SURE)
    odds = np.concatenate([[0.0], np.cumsum(np.log(sure / (1 - sure)))])
    found = [
        ((first, last), float(odds[last + 1] - odds[first]))
        for first in range(max(0, worst - LONGEST), worst + 1)
        for last in range(worst, min(len(chances), first + LONGEST))
    ]
    found.sort(key=lambda gap: -gap[1])
    return [(run, odd - found[0][1]) for run, odd in found[:GAPS]]


def around(words: Sequence[Word], chances: NDArray[np.float32], run: tuple[int, int]) -> Gap:
    """Take the words around a gap, other situations hidden, as many as a window holds."""
    hidden = [bool(chance >= OPEN) for chance in chances]
    # A situation that reaches up to the gap is not hidden: this gap is the guess that it ends here.
    for side in (range(run[0] - 1, -1, -1), range(run[1] + 1, len(hidden))):
        for at in itertools.takewhile(hidden.__getitem__, side):
            hidden[at] = False
    shown = [MASK if hide else word.text for word, hide in zip(words, hidden, strict=True)]
    before, behind = _once(shown[: run[0]]), _once(shown[run[1] + 1 :])
    room = WINDOW - 1
    left = before[max(0, len(before) - max(room // 2, room - len(behind))) :]
    return Gap(left, behind[: room - len(left)])


def _once(words: Sequence[str]) -> list[str]:
    """Leave out every mask behind another."""
    return [word for i, word in enumerate(words) if word != MASK or i == 0 or words[i - 1] != MASK]


def folded(words: Sequence[Word]) -> list[Word]:
    """Spell words as the reader reads them."""
    return [Word(fold(word.text)[0] or word.text, word.span) for word in words]


def sound(attempt: Attempt, old: str) -> bool:
    """Tell whether a text is left, which is another one.

    No word is said twice in a row that was not before, and no deed has taken the place of somebody at the beginning.
    """
    twice = {match.group().lower() for match in TWICE.finditer(old)}
    doubled = (match.group().lower() for match in TWICE.finditer(attempt.text))
    begins = attempt.text[: attempt.at].rstrip()[-1:] in ("", ",", ".", ";")
    deed = begins and bool(attempt.new) and _ends_ing(attempt.new) and not _ends_ing(attempt.old)
    return bool(attempt.text) and attempt.text != old and not deed and all(words in twice for words in doubled)


def _ends_ing(phrase: str) -> bool:
    return phrase.split(maxsplit=1)[0].lower().endswith("ing")


def fit_in(text: str, place: tuple[int, int], new: str, likelihood: float) -> Attempt:
    """Put words, or nothing, in a place of a text, with the article, the spaces and the capital that belong there."""
    (start, end), before, behind = place, text[: place[0]], text[place[1] :]
    old = text[start:end]
    if not new:
        before, behind = before.rstrip(" "), behind.lstrip(" ")
        if not before or before[-1] in ",;:":
            before, behind = before.rstrip(",;: "), behind if before else behind.lstrip(",;: ")
        joint = " " if before and behind and (behind[0].isalnum() or behind[0] == "(") else ""
        before, start = before + joint, len(before + joint)
    if (old[:1].isupper() or not before) and text[:1].isupper():
        new, behind = new[:1].upper() + new[1:], behind if new else behind[:1].upper() + behind[1:]
    fitted = grammar.fix_articles(before + new + behind, start)
    return Attempt(fitted, old, new, min(start, len(fitted)), likelihood)


def window_of(attempt: Attempt, words: Sequence[Word]) -> list[str]:
    """Take a window of words around what an attempt put in."""
    first = next((i for i, word in enumerate(words) if word.span[1] > attempt.at), len(words))
    start = max(0, min(first - WINDOW // 2, len(words) - WINDOW))
    return [word.text for word in folded(words[start : start + WINDOW])]


def worst_of(reading: Reading, span: Span, concepts: Sequence[str]) -> int:
    """Find the worst of a span's words that mean something."""
    scores = reading.scores[:, concepts.index(span.concept)]
    inside = [i for i, w in enumerate(reading.words) if w.span[0] < span.span[1] and w.span[1] > span.span[0]]
    content = [i for i in inside if reading.words[i].text.lower() not in grammar.LEADING] or inside
    return max(content, key=lambda i: scores[i])


def _apart(words: Sequence[Word], start: int, end: int) -> bool:
    """Tell whether a phrase stands by itself: the words before and after it belong to other phrases."""
    before = [w.text for w in words if w.span[1] <= start]
    behind = [w.text for w in words if w.span[0] >= end]
    return grammar.parts(*before[-1:], *behind[:1])
