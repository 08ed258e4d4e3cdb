"""Repairs of a prompt: each harmful situation is replaced as a whole, and the rest stays as it was written.

Where a recipe names the very words, its safe phrase takes their place. Else the reader says which words belong to the
situation, so that several gaps are likely. Some can be closed without new words (`closing.py`); `infilling.py` says
which harmless words are likely in the others. The reader reads every attempt, with a stricter line around what is new.
Of those that are calm, the likeliest is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safegen.reader import grammar
from safegen.reader.attempts import Attempt, fit_in, sound
from safegen.reader.closing import closings
from safegen.reader.editing import tidy
from safegen.reader.forms import fold
from safegen.reader.english import alone, is_being
from safegen.reader.gaps import OPEN, around, likely_gaps
from safegen.reader.phrases import Phrases
from safegen.reader.rewriting import Rewriter, likelihood, written
from safegen.reader.words import WINDOW, Word

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from safegen.reader.reader import Reader
    from safegen.reader.reading import Reading, Span

ROUNDS = 6  # how many situations of a prompt may be replaced, one after the other
STRICT, AROUND = 0.65, 60  # the stricter line as a share of the line, and how many characters it reaches to each side
# Weights of an attempt's parts beside the log-likelihood of its fill: the log-likelihood of its gap, its height near
# the line, and the chance that something of a situation is left. Chosen on judged repairs of `sets/reader-seen/`.
GAP, HIGH, LEFT = 3.0, 6.0, 3.0
GAPS = 8  # how many gaps are filled
# How many gaps may be closed without new words; what counts of the decoder's log-likelihood of that; and what closing
# weighs, more where *and* keeps somebody who stood in the situation.
CLOSED, FLUENT, CLOSING, JOINED = 40, 0.5, 5.0, 3.0
LOOSE = 0.95  # the line for rewritten texts, whose new words are harmless by themselves
# From which height on a name for somebody is harmful by itself; the chances that are given to such, and to others.
NAMELY, HARMFUL, HARMLESS = 0.75, 0.9, 0.3
PARTLY, NAMED = 8.0, -1.0
WAYS = 48  # how many rewritten texts are read
WEIGHED = 32  # how many of the likeliest calm attempts are weighed
# Animals whose names are insults for people: said of a person, they would be the very harm to be repaired.
_BEASTS = """
ape apes baboon baboons beast beasts chimp chimpanzee chimps cockroach cockroaches cow cows dog dogs gorilla gorillas
insect insects lice maggot maggots monkey monkeys parasite parasites pig pigs rat rats roach roaches savage savages
snake snakes swine vermin worm worms
"""
BEASTS = frozenset(_BEASTS.split())
CREATURES = frozenset("vampire vampires zombie zombies ghost ghosts witch witches demon demons".split())
CONTEMPT = ("hate", "harassment")  # concepts whose harm is done to somebody


@dataclass(frozen=True)
class Edit:
    """One phrase of a prompt, and its replacement."""

    old: str
    new: str
    concept: str


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
        columns = [self.reader.concepts.index(name) for name in names]
        high = (reading.scores[:, columns] / self.reader.lines[columns]).max(1) >= 1
        spans = [other.span for other in reading.spans]
        words = [word.span for word, over in zip(reading.words, high, strict=True) if over]
        for attempts, line in (
            (self._rewritten, LOOSE),
            (self._filled, STRICT),
            (self._dropped, STRICT),
        ):
            found = self._best(reading, list(attempts(reading, span)), span, names, spans, words, line)
            if found is not None and found[1] < line:
                return found[0], found[2]
        assert found is not None  # the last attempt is a whole phrase of the recipe
        return found[0], found[2]

    def _best(
        self, old: Reading, attempts: Sequence[Attempt], span: Span, names: Sequence[str], spans: Sequence[tuple[int, int]], words: Sequence[tuple[int, int]], line: float,
    ) -> tuple[Reading, float, Edit] | None:
        """Choose among attempts: of what is calm, take the likeliest; else take the calmest.

        It comes with its height as a share of the line, and its edit.
        """
        if not attempts:
            return None
        found = self.reader.read([attempt.text for attempt in attempts])
        heights = [self._height(other, old, attempt, names, spans) for other, attempt in zip(found, attempts, strict=True)]
        parts = [self._height(other, old, attempt, names, words) for other, attempt in zip(found, attempts, strict=True)]
        partly = [height >= line for height in heights]
        heights = [b if a >= line else a for a, b in zip(heights, parts)]
        best = heights.index(min(heights))
        calm = [i for i, height in enumerate(heights) if height < line]
        if calm:
            calm = sorted(calm, key=lambda i: HIGH * heights[i] + PARTLY * partly[i] - attempts[i].likelihood)[:WEIGHED]
            left = self._left([(attempts[i], found[i]) for i in calm])
            worths = [
                attempts[i].likelihood - HIGH * heights[i] - PARTLY * partly[i] - LEFT * rest * (not partly[i]) for i, rest in zip(calm, left, strict=True)
            ]
            best = calm[worths.index(max(worths))]
        return found[best], heights[best], Edit(attempts[best].old, attempts[best].new, span.concept)

    def _left(self, calm: Sequence[tuple[Attempt, Reading]]) -> list[float]:
        """Tell how likely it is that some word near each attempt belongs to a harmful situation."""
        import numpy as np

        windows = [window_of(attempt, reading.words) for attempt, reading in calm]
        return [float(1 / (1 + np.exp(-odds.max(initial=-20)))) for odds in self.reader.network.gaps(windows)]

    def _height(self, reading: Reading, old: Reading, attempt: Attempt, names: Sequence[str], elsewhere: Sequence[tuple[int, int]]) -> float:
        """Measure the highest word near what is new, as a share of its line, but for what is harmful elsewhere."""
        columns = [self.reader.concepts.index(name) for name in names]
        end = attempt.at + len(attempt.new)
        before = [span for span in elsewhere if span[1] <= attempt.at]
        rest = len(old.text) - (len(attempt.text) - end)  # where the old text goes on
        behind = [(a - rest + end, b - rest + end) for a, b in elsewhere if a >= rest]
        near = [
            i
            for i, word in enumerate(reading.words)
            if abs(word.span[0] - attempt.at) <= AROUND
            and not any(start <= word.span[0] < stop for start, stop in (*before, *behind))
        ]
        if not near:
            return 0.0
        return float((reading.scores[near][:, columns] / self.reader.lines[columns]).max())

    def _rewritten(self, reading: Reading, span: Span) -> Iterator[Attempt]:
        """Give what the recipes would have in a phrase's place, and the likeliest ways to rewrite it."""
        words = folded(reading.words)
        chances = self._told_apart(words, self.reader.gaps(words))
        spoken = [word.text for word in words]
        attempts = list(self._named(reading, span, words, chances))
        worst = worst_of(reading, span, self.reader.concepts, chances)
        for way, odds in Rewriter(spoken, chances).ways(worst):
            place = words[way.first].span[0], words[way.last].span[1]
            new = written(way, reading.text, reading.words)
            attempts.append(fit_in(reading.text, place, new, GAP * odds + way.ease))
        attempts.sort(key=lambda attempt: -attempt.likelihood)
        yield from [attempt for attempt in attempts if sound(attempt, reading.text)][:WAYS]

    def _named(
        self, reading: Reading, span: Span, words: Sequence[Word], chances: NDArray[np.float32]
    ) -> Iterator[Attempt]:
        """Give what the recipes that name a phrase of the text as their target would have in its place."""
        for phrase, start, end in self.phrases.at([(w.text, w.span) for w in words], span.span, span.concept):
            if _apart(words, start, end) and grammar.leads(phrase.harmful) == grammar.leads(phrase.safe):
                described = any(w.span[1] == start - 1 and grammar.acts(w.text) for w in words)
                described = described and not grammar.ARTICLE.match(reading.text, start)
                safe = grammar.ARTICLE.sub("", phrase.safe, count=1) if described else phrase.safe
                gone = [i for i, word in enumerate(words) if start <= word.span[0] < end]
                odds = likelihood(gone, [word.text for word in words], chances)
                yield fit_in(reading.text, (start, end), safe, GAP * odds + NAMED)

    def _told_apart(self, words: Sequence[Word], chances: NDArray[np.float32]) -> NDArray[np.float32]:
        """Tell those who are harmful by their very name from those who only take part in what happens."""
        nouns = [word.text.removesuffix("'s") for word in words]
        beings = [i for i, noun in enumerate(nouns) if is_being(noun)]
        found = self.reader.read([alone(nouns[i]) for i in beings])
        chances = chances.copy()
        for i, reading in zip(beings, found, strict=True):
            chances[i] = HARMFUL if reading.height >= NAMELY and nouns[i] not in CREATURES else HARMLESS
        return chances

    def _filled(self, reading: Reading, span: Span) -> Iterator[Attempt]:
        """Give the likeliest gaps with their likeliest fills."""
        words = folded(reading.words)
        chances = self.reader.gaps(words)
        worst = worst_of(reading, span, self.reader.concepts)
        found = likely_gaps(chances, worst)
        yield from self._closed(reading, words, chances, found)
        gaps = found[:GAPS]
        fills = self.reader.filler.fill([around(words, chances, run) for run, _ in gaps])
        for ((first, last), likelihood), some in zip(gaps, fills, strict=True):
            place = reading.words[first].span[0], reading.words[last].span[1]
            for fill in some:
                if not fill.text or (span.concept in CONTEMPT and not BEASTS.isdisjoint(fill.text.split())):
                    continue
                attempt = fit_in(reading.text, place, fill.text, GAP * likelihood + fill.likelihood)
                if sound(attempt, reading.text):
                    yield attempt

    def _closed(
        self,
        reading: Reading,
        words: Sequence[Word],
        chances: NDArray[np.float32],
        gaps: Sequence[tuple[tuple[int, int], float]],
    ) -> Iterator[Attempt]:
        """Give the likeliest gaps that can be closed without new words."""
        spoken = [word.text for word in words]
        ways = [
            (run, likelihood, joint)
            for run, likelihood in gaps[:CLOSED]
            for joint in closings(spoken[: run[0]], spoken[run[0] : run[1] + 1], spoken[run[1] + 1 :])
        ]
        told = self.reader.filler.likelihoods(
            [around(words, chances, run) for run, _, _ in ways], [joint for _, _, joint in ways]
        )
        for (run, likelihood, joint), fluent in zip(ways, told, strict=True):
            place = reading.words[run[0]].span[0], reading.words[run[1]].span[1]
            worth = GAP * likelihood + FLUENT * fluent + CLOSING + (JOINED if joint else 0.0)
            attempt = fit_in(reading.text, place, joint, worth)
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


def folded(words: Sequence[Word]) -> list[Word]:
    """Spell words as the reader reads them."""
    return [Word(fold(word.text)[0] or word.text, word.span) for word in words]


def window_of(attempt: Attempt, words: Sequence[Word]) -> list[str]:
    """Take a window of words around what an attempt put in."""
    first = next((i for i, word in enumerate(words) if word.span[1] > attempt.at), len(words))
    start = max(0, min(first - WINDOW // 2, len(words) - WINDOW))
    return [word.text for word in folded(words[start : start + WINDOW])]


def worst_of(
    reading: Reading, span: Span, concepts: Sequence[str], chances: NDArray[np.float32] | None = None
) -> int:
    """Find the worst of a span's words that mean something, and belong to the situation."""
    scores = reading.scores[:, concepts.index(span.concept)]
    inside = [i for i, w in enumerate(reading.words) if w.span[0] < span.span[1] and w.span[1] > span.span[0]]
    content = [i for i in inside if reading.words[i].text.lower() not in grammar.LEADING] or inside
    if chances is not None:
        content = [i for i in content if chances[i] >= OPEN] or content
    return max(content, key=lambda i: scores[i])


def _apart(words: Sequence[Word], start: int, end: int) -> bool:
    """Tell whether a phrase stands by itself: the words before and after it belong to other phrases."""
    before = [w.text for w in words if w.span[1] <= start]
    behind = [w.text for w in words if w.span[0] >= end]
    return grammar.parts(*before[-1:], *behind[:1])
