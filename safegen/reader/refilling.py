"""Repairs that put other phrases in the places of harm: phrases that people wrote for such places.

Which words go is decided more and less strictly (`SHARES`). Each set of places is filled with several phrases, and once
with nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from safegen.reader import roles
from safegen.reader.filling import Place
from safegen.reader.forms import folded
from safegen.reader.rewrites import Rewrite
from safegen.reader.words import Word, split

if TYPE_CHECKING:
    from safegen.reader.reader import Reader
    from safegen.reader.situation import Situation

SHARES = 0.8, 0.6, 0.45, 0.25  # of the highest chance of a word, from which on another word goes, too
LEAST = 0.1  # the chance below which no word goes
SETS = 5  # the most sets of places that are filled
PLACES = 4  # the most places of a set
WIDEST = 10  # the most words of a place
TRIED = 6  # phrases that are tried in a prompt's last place
FURTHER = 2  # and in each place before it
MOST = 180  # words of a prompt; in a longer one repairs are not compared


class Refiller:
    """The ways to fill the places where harm stands in a prompt."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def filled(self, situation: Situation) -> Iterator[list[Rewrite]]:
        """Fill every set of places with nothing, and with several phrases."""
        if len(situation.words) > MOST:
            return
        for places in islice(dict.fromkeys(self._sets(situation)), SETS):
            yield [Rewrite(*place, (), 0.0) for place in reversed(places)]
            ways = self._ways(situation.words, places)
            yield from (way for way in ways if all(is_cased(one, situation.reading.words) for one in way))

    def _sets(self, situation: Situation) -> Iterator[tuple[Place, ...]]:
        """Find what may go, by the chances of the words: all of it, or what is about the likeliest word alone."""
        chances = situation.chances
        worst = int(chances.argmax())
        for share in SHARES:
            found = stretches(situation.words, chances >= max(LEAST, share * chances[worst]))
            yield from _usable(found)
            yield from _usable(tuple((first, last) for first, last in found if first <= worst <= last))

    def _ways(self, words: Sequence[str], places: Sequence[Place]) -> list[list[Rewrite]]:
        """Fill places with phrases, the last place first, so that those before it stay where they are."""
        *others, end = places
        tried = self.reader.filler.fitting([words], [end], TRIED)[0]
        ways = [[Rewrite(*end, (phrase,), 0.0)] for phrase in tried]
        rows = [_put(words, end, phrase) for phrase in tried]
        for place in reversed(others):
            found = self.reader.filler.fitting(rows, [place] * len(rows), FURTHER)
            for at, phrases in enumerate(found):
                phrase = phrases[at % FURTHER]
                ways[at].append(Rewrite(*place, (phrase,), 0.0))
                rows[at] = _put(rows[at], place, phrase)
        return ways


def is_cased(way: Rewrite, words: Sequence[Word]) -> bool:
    """Tell whether a phrase with a capital letter, of a title mostly, comes where there was one."""
    return words[way.first].text[0].isupper() or not str(way.parts[0])[0].isupper()


def stretches(words: Sequence[str], goes: Sequence[bool]) -> tuple[Place, ...]:
    """Find the stretches of words that go; between two of them stands a word that means something.

    A stretch begins and ends with a word, not with a sign. What hyphens join to it goes along.
    """
    found: list[Place] = []
    for at in (at for at, gone in enumerate(goes) if gone and words[at][0].isalnum()):
        if found and not any(roles.means(word) for word in words[found[-1][1] + 1 : at]):
            found[-1] = found[-1][0], at
        else:
            found.append((at, at))
    return tuple(dict.fromkeys(_joined(words, place) for place in found))


def _joined(words: Sequence[str], place: Place) -> Place:
    """Widen a place by what hyphens join to it."""
    first, last = place
    while first > 1 and words[first - 1] == "-" and words[first - 2][0].isalnum():
        first -= 2
    while last + 2 < len(words) and words[last + 1] == "-" and words[last + 2][0].isalnum():
        last += 2
    return first, last


def _put(words: Sequence[str], place: Place, phrase: str) -> list[str]:
    """Put a phrase in a place, as the reader splits and spells it."""
    return [*words[: place[0]], *(word.text for word in folded(split(phrase))), *words[place[1] + 1 :]]


def _usable(places: tuple[Place, ...]) -> Iterator[tuple[Place, ...]]:
    """Yield a set of places that may be filled: neither too many nor too wide, and none in another."""
    apart = all(one[1] < other[0] for one, other in pairwise(places))
    if 0 < len(places) <= PLACES and apart and all(last - first < WIDEST for first, last in places):
        yield places
