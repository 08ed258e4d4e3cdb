"""Repairs of a prompt: each harmful situation is replaced as a whole, and the rest stays as it was written.

The reader says which words belong to the situation. Harmful texts that somebody reads in the picture say something kind
instead (`sayings.py`). Then the prompt is repaired in several ways: phrase by phrase (`replacing.py`), which changes
the least; by telling anew who and what was there (`rebuilding.py`), which never leaves a part of the deed; and by other
phrases in the places of harm (`refilling.py`). A network says which one people would find right (`ranking.py`). Where
it sees little difference, words decide (`weighing.py`): what is lost of the harmless ones, and what is left of the
others.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from safegen.reader import roles
from safegen.reader.attempts import Attempt, fit_in, stutters
from safegen.reader.forms import folded, spell_pictographs
from safegen.reader.groups import brings_group
from safegen.reader.minors import brings_minor
from safegen.reader.parts import SHORT, part_around
from safegen.reader.phrases import Phrases
from safegen.reader.rebuilding import Rebuilder
from safegen.reader.refilling import Refiller
from safegen.reader.replacing import Edit, Replacer, worst_of
from safegen.reader.rewrites import Rewrite
from safegen.reader.sayings import instead_of_said
from safegen.reader.scenes import LEVELS
from safegen.reader.situation import Situation
from safegen.reader.weighing import Weigher

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from safegen.reader.reader import Reader
    from safegen.reader.reading import Reading, Span

ROUNDS = 6  # how many situations of a prompt may be replaced, one after the other
PART = 0.1  # chance from which on a word may belong to the harm that was taken
AGAIN = 0.65  # the line, as a share of the reader's own, for the rest of a text in which there was harm
TRIED = 6  # ways in which the worst phrase is replaced
UNCLEARED = 2  # of these, how many also leave the rest of the text as it is
GONE = 0.5  # chance from which on the harm counts as gone
TOO_TORN = 1.0  # tears from which on a repair is not taken; an unsure one counts 0.25
USUAL = 0.2  # log-likelihood by which another repair has to be likelier than the usual one
BETTER = 0.3  # how much less a prompt that is told anew has to cost than one that is repaired phrase by phrase


@dataclass(frozen=True)
class Repair:
    """A repaired text with its edits; `left` are the concepts under which it is still over a line."""

    text: str
    edits: tuple[Edit, ...]
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class Option:
    """One way to repair a prompt; `told` says that it is told anew."""

    reading: Reading
    edits: list[Edit]
    told: bool = False


class Repairer:
    """The repair of texts with a reader and the phrases of the recipes."""

    def __init__(self, reader: Reader, phrases: Phrases) -> None:
        self.reader, self.replacer, self.refiller = reader, Replacer(reader, phrases), Refiller(reader)

    def repair(self, text: str, names: Sequence[str]) -> Repair:
        """Repair a text under the named concepts; none with more situations than `ROUNDS`.

        A pictograph that takes part in one becomes its name first.
        """
        reading = self.reader.read([text])[0]
        spans = [span for span in reading.spans if span.concept in names]
        edits: list[Edit] = []
        if spans and situations(spans) <= ROUNDS:
            # With single spaces, since what puts words in leaves no others, and places must stay what they are.
            spelled = " ".join(spell_pictographs(text, [span.span for span in spans]).split())
            if spelled != text:
                reading = self.reader.read([spelled])[0]
            reading, edits = self._by_part(reading, names)
            reading, more = self._whole(reading, names)
            edits += more
        left = tuple(dict.fromkeys(span.concept for span in reading.spans if span.concept in names))
        return Repair(reading.text, tuple(edits), left)

    def _by_part(self, reading: Reading, names: Sequence[str]) -> tuple[Reading, list[Edit]]:
        """Repair a long text part by part, the worst one first, as far as a part can be repaired by itself."""
        edits: list[Edit] = []
        for _ in range(ROUNDS):
            spans = [span for span in reading.spans if span.concept in names]
            if not spans or sum(word.spoken for word in reading.words) <= SHORT:
                break
            start, end = part_around(reading.words, max(spans, key=lambda span: span.score).span)
            (part,) = self.reader.read([reading.text[start:end]])
            repaired, more = self._whole(part, names)
            new = repaired.text
            if reading.text[start].isupper():
                new = new[:1].upper() + new[1:]
            text = reading.text[:start] + new + reading.text[end:]
            if not more or repaired.flagged or brings_minor(text, reading.text):
                break
            reading, edits = self.reader.read([text])[0], edits + more
        return reading, edits

    def _whole(self, reading: Reading, names: Sequence[str]) -> tuple[Reading, list[Edit]]:
        """Repair a text as a whole."""
        edits: list[Edit] = []
        if any(span.concept in names for span in reading.spans):
            situation = self._situation(reading, names)
            if said := instead_of_said(situation):
                reading, edits = self._put(reading, said, names)
                situation = self._situation(reading, names)
            if any(span.concept in names for span in reading.spans):
                best = self._best(situation, self.options(situation, names), names)
                reading, edits = best.reading, edits + best.edits
        return reading, edits

    def _situation(self, reading: Reading, names: Sequence[str]) -> Situation:
        words, phrases = [(word.text, word.span) for word in folded(reading.words)], self.replacer.phrases
        spans = [span for span in reading.spans if span.concept in names]
        replaced = (phrases.replaced(words, span.span, span.concept) for span in spans)
        return Situation(self.reader, reading, names, frozenset().union(*replaced))

    def _best(self, situation: Situation, options: Sequence[Option], names: Sequence[str]) -> Option:
        """Take the option that a strict reader would likeliest find right; see `chosen`. Recipes go first."""
        heights, weigher = [self._height(option.reading, names) for option in options], Weigher(situation)
        torn = [weigher.torn(option.reading) for option in options]
        calm = [at for at, height in enumerate(heights) if height < 1]
        whole = [at for at in calm if torn[at] < TOO_TORN] or calm
        if self._decided(situation) and 0 in whole:
            return options[0]
        costs = [weigher.cost(*found) for found in zip((o.reading for o in options), heights, torn, strict=True)]
        usual = _usual(options, costs, whole)
        words = [[word.text for word in folded(options[at].reading.words)] for at in whole]
        chances = self.reader.ranker.chances(situation.words, words) if len(whole) > 1 else None
        return options[usual if chances is None else whole[chosen(chances, whole.index(usual))]]

    def options(self, situation: Situation, names: Sequence[str]) -> list[Option]:
        """Repair a prompt phrase by phrase, by telling anew, and by other phrases; the same text comes once."""
        found = self._by_phrase(situation.reading, names)
        found += self._written(situation.reading, map(Rebuilder(situation).told, LEVELS), names, told=True)
        found += self._written(situation.reading, self._filled(situation), names, told=False)
        options: dict[str, Option] = {}
        for option in found:
            same = options.setdefault(option.reading.text, option)
            options[option.reading.text] = replace(same, told=same.told or option.told)
        return list(options.values())

    def _written(
        self, old: Reading, ways: Iterable[list[Rewrite]], names: Sequence[str], *, told: bool
    ) -> list[Option]:
        """Write and read what some ways make of a prompt; one that makes it stutter or somebody else is left out."""
        texts = {self._text(old, way): way for way in ways}
        sound = [t for t in texts if t and t != old.text and not brings_somebody(t, old.text)]
        whole = sound if told else [t for t in sound if not stutters(t, old.text)]
        read = self.reader.read(whole)
        return [Option(t, [self._edit(old, way, names) for way in texts[t.text]], told) for t in read]

    def _filled(self, situation: Situation) -> Iterator[list[Rewrite]]:
        """Fill the places of harm with phrases, unless recipes decide."""
        return iter(()) if self._decided(situation) else self.refiller.filled(situation)

    def _decided(self, situation: Situation) -> bool:
        """Tell whether recipes say what comes instead of every hot word."""
        hot = {at for at in range(len(situation.words)) if situation.is_hot(at)}
        return bool(hot) and hot <= situation.replaced

    def _height(self, reading: Reading, names: Sequence[str]) -> float:
        """Give the highest score of a text under the named concepts, as a share of the line."""
        columns = [self.reader.concepts.index(name) for name in names]
        return float((reading.scores[:, columns] / self.reader.lines[columns]).max(initial=0.0))

    def _put(self, reading: Reading, ways: Sequence[Rewrite], names: Sequence[str]) -> tuple[Reading, list[Edit]]:
        edits = [self._edit(reading, way, names) for way in ways]
        return self.reader.read([self._text(reading, ways)])[0], edits

    def _text(self, reading: Reading, ways: Sequence[Rewrite]) -> str:
        """Write what a prompt becomes by some rewrites, the last one first, so that the places before it stay."""
        text = reading.text
        for way in sorted(ways, key=lambda way: -way.first):
            place = reading.words[way.first].span[0], reading.words[way.last].span[1]
            text = fit_in(text, place, way.written(reading.text, reading.words), 0.0).text
        return text

    def _edit(self, reading: Reading, way: Rewrite, names: Sequence[str]) -> Edit:
        place = reading.words[way.first].span[0], reading.words[way.last].span[1]
        scores = reading.scores[way.first : way.last + 1] / self.reader.lines
        concept = max(names, key=lambda name: float(scores[:, self.reader.concepts.index(name)].max()))
        return Edit(reading.text[slice(*place)], way.written(reading.text, reading.words), concept)

    def _by_phrase(self, first: Reading, names: Sequence[str]) -> list[Option]:
        """Repair a prompt phrase by phrase, the worst one first, and that one in several ways."""
        worst = max((span for span in first.spans if span.concept in names), key=lambda span: span.score)
        options = []
        for at, (begun, edit) in enumerate(self.replacer.replaced(first, worst, names, TRIED)):
            reading, edits = self._others(begun, names, [edit])
            cleared, all_edits = self._cleared(reading, first, names, edits)
            options.append(Option(cleared, all_edits))
            if at < UNCLEARED and cleared is not reading:
                options.append(Option(reading, edits))
        return options

    def _others(self, reading: Reading, names: Sequence[str], edits: list[Edit]) -> tuple[Reading, list[Edit]]:
        """Repair what is still over a line, after some edits."""
        while len(edits) < ROUNDS:
            spans = [span for span in reading.spans if span.concept in names]
            if not spans:
                break
            reading, edit = self.replacer.replaced(reading, max(spans, key=lambda span: span.score), names)[0]
            edits = [*edits, edit]
        return reading, edits

    def _cleared(
        self, reading: Reading, first: Reading, names: Sequence[str], edits: list[Edit]
    ) -> tuple[Reading, list[Edit]]:
        """Take out what is near a line in a text from which harm was taken: it is mostly what is left of the harm.

        Only words count that may have belonged to the harm of the prompt as it was first read. Nothing new takes their
        place, and where no way is calm, all stays.
        """
        if any(span.concept in names for span in reading.spans):
            return reading, edits
        part = {
            w.text.lower() for w, c in zip(first.words, self.reader.gaps(folded(first.words)), strict=True) if c >= PART
        }
        for _ in range(ROUNDS):
            spans = [span for span in self.reader.suspects(reading, AGAIN) if span.concept in names]
            spans = [s for s in spans if reading.words[worst_of(reading, s, self.reader.concepts)].text.lower() in part]
            if not spans:
                break
            worst = max(spans, key=lambda span: span.score)
            ways = [way for way in self.replacer.rewritten(reading, worst) if only_takes(way, part)]
            found = self.replacer.best(reading, ways, worst, names, AGAIN)
            if not found or found[0][1] >= AGAIN:
                break
            reading, edits = found[0][0], [*edits, found[0][2]]
        return reading, edits


def _usual(options: Sequence[Option], costs: Sequence[float], whole: Sequence[int]) -> int:
    """Choose by the words: the likeliest repair phrase by phrase, unless one that is told anew costs much less.

    If that is not among the `whole` ones, which are calm and English, choose the one of least cost of these.
    """
    anew = [at for at, option in enumerate(options) if option.told]
    best = min(anew, key=costs.__getitem__, default=0)
    usual = best if costs[best] < costs[0] - BETTER else 0
    return usual if usual in whole or not whole else min(whole, key=costs.__getitem__)


def chosen(chances: NDArray[np.float32], usual: int) -> int:
    """Choose a repair of which the harm is gone, English and whole; the usual one where others are hardly likelier.

    Args:
        chances: (N, 3) the logarithms of the chances that each repair is English, whole and harmless. Where none is
            likely to be harmless, the likeliest one is taken.
        usual: the repair that would be taken without them.
    """
    import numpy as np

    gone = chances[:, 2]
    if gone.max() < np.log(GONE):
        return int(gone.argmax())
    worths = chances.sum(1) + USUAL * (np.arange(len(chances)) == usual)
    return int(np.where(gone >= np.log(GONE), worths, -np.inf).argmax())


def brings_somebody(new: str, old: str) -> bool:
    """Tell whether a text has made somebody a minor, or one of a group of people, who was none."""
    return brings_minor(new, old) or brings_group(new, old)


def only_takes(attempt: Attempt, part: Container[str]) -> bool:
    """Tell whether an attempt takes out words of `part` alone, and puts in nothing but plain names for people."""
    old, new = (re.findall(r"[\w'-]+", phrase.lower()) for phrase in (attempt.old, attempt.new))
    gone = [word for word in old if roles.means(word) and word not in new]
    plain = all(word in old or roles.is_plain(word) or not roles.means(word) for word in new)
    return plain and all(word in part for word in gone)


def situations(spans: Sequence[Span]) -> int:
    """Count the places where spans are, of whichever concept."""
    count, end = 0, 0
    for start, last in sorted(span.span for span in spans):
        count, end = count + (start >= end), max(end, last)
    return count
