"""Repairs by grammar: a whole phrase goes, or a plain word of its kind takes the place of its head.

What may be done to a phrase is told by the chunks around it. Somebody who does a harmful deed to somebody greets them
instead; where nobody else is left, the deed is left out; a phrase with a preposition, a clause or a part between signs
goes as a whole. So what is left is nearly always English, and whoever was there stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from safegen.reader import english, roles
from safegen.reader.chunks import Chunk
from safegen.reader.clauses import FURTHER, Clauses
from safegen.reader.deeds import Deeds
from safegen.reader.grammar import DETERMINERS
from safegen.reader.kinds import ADVERB, AND, DOING, DONE, LINK, NOUN, PLACE, PRONOUN, REFLEXIVE, SIGN, TO_DO, VERBS
from safegen.reader.nouns import NEUTRAL, Parts
from safegen.reader.reading import OPEN
from safegen.reader.rewrites import FLOWERS, LOST, SUSPECT, Rewrite

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Rewriter:
    """The ways to rewrite a prompt.

    Args:
        words: the words of the prompt, in small letters.
        chances: (words,) how likely each word belongs to the situation.
    """

    def __init__(self, words: Sequence[str], chances: NDArray[np.float32]) -> None:
        self.clauses, self.words, self.chances = Clauses(words, chances), words, chances
        self.deeds = Deeds(self.clauses)

    def ways(self, worst: int) -> list[Rewrite]:
        """Give the ways to rewrite the phrase around a word, each once, at its least cost."""
        at = self.clauses.holding(worst)
        said = self.clauses.saying(at)
        found: dict[tuple[int, int, Parts], Rewrite] = {}
        for way in self._with_further(self._around(at) if said is None else self._said(said)):
            gone, key = way.gone, (way.first, way.last, way.parts)
            useful = worst in gone or any(self.chances[i] >= OPEN for i in gone)
            if useful and not self._twice(way) and (key not in found or found[key].cost < way.cost):
                found[key] = way
        return list(found.values())

    def _around(self, at: int) -> Iterator[Rewrite]:
        for verb in self.clauses.deeds(at):
            for end in sorted({*self.clauses.ends(verb), *self.clauses.ends(max(at, verb))}):
                yield from self.deeds.instead(verb, end)
        for place in range(at + 1, max(-1, at - FURTHER), -1):
            if self.clauses.is_kind(place, SIGN, LINK) and place <= at:
                break
            if self.clauses.is_kind(place, PLACE, AND) and not self.clauses.goes_on(place + 1):
                yield from self._place(place, at)
        if self.clauses.is_kind(at, NOUN):
            yield from self._noun(at, self.clauses.chunks[at])
        yield from self._clause(at)

    def _cuts(self, start: int, at: int, *, acts: bool = False) -> Iterator[tuple[int, Parts, float]]:
        """Give where a phrase that goes may end: its last word, what joins the rest to what is before, and the cost.

        Args:
            start: the first chunk that goes.
            at: a chunk that goes, too.
            acts: see `Clauses.ends`.
        """
        for end in self.clauses.ends(at, acts=acts):
            torn = any(self.clauses.goes_on(verb) for verb in range(start + 1, end + 1))
            if not torn and not self.clauses.needs(end + 1):
                last, joint, cost = self.clauses.joint(end, stands=not self.clauses.is_kind(start - 2, *VERBS))
                yield last, joint, cost + LOST * self.clauses.lost(start, end)

    def _place(self, place: int, at: int) -> Iterator[Rewrite]:
        """Give the ways to leave out a phrase with a preposition, or behind *and*, or to put flowers into it."""
        before, chunk = self.clauses.chunk(place - 1), self.clauses.chunks[place]
        if before is None:
            return
        goal = self.clauses.chunk(place + 1)
        of = self.words[chunk.first] == "of" and goal is not None and english.is_person(self.words[goal.head])
        if of and not self.clauses.is_somebody(before):  # a ring of clerks is made of them
            return
        holds = self.words[before.head] in roles.CONTAINERS
        free = before.kind in (NOUN, PRONOUN) and not holds
        free = free or (before.kind in VERBS and self.words[before.head] in roles.POSTURES)
        for last, joint, cost in self._cuts(place, max(at, place), acts=True):
            if free:
                yield Rewrite(chunk.first, last, joint, cost)
                for form, changed in self.clauses.forms(before):
                    yield Rewrite(before.first, last, (*form, *joint), cost + changed)
            if self.words[chunk.first] == "with":
                for kept in (i for i in range(place + 1, at + 1) if self.clauses.is_somebody(self.clauses.chunks[i])):
                    for form, changed in self.clauses.forms(self.clauses.chunks[kept], whole=True):
                        yield Rewrite(chunk.first, last, ("with", *form, *joint), cost + changed - LOST)
            if place == at - 1 and chunk.kind == PLACE:
                flowers = NEUTRAL if holds else FLOWERS
                yield Rewrite(self.clauses.chunks[at].first, last, ("flowers", *joint), cost + flowers)

    def _noun(self, at: int, noun: Chunk) -> Iterator[Rewrite]:
        """Give the ways to change a noun, to leave out what is said of it, or one of two that *and* joins."""
        before, behind = self.clauses.chunk(at - 1), self.clauses.chunk(at + 1)
        done = before is not None and before.kind in VERBS
        led = done or (self.clauses.is_kind(at - 1, PLACE) and self.clauses.first_word(at - 1) != "of")
        said = before is not None and before.kind == LINK  # then it is part of a clause
        for form, changed in () if led and self.clauses.is_own(noun) else self.clauses.forms(noun):
            yield Rewrite(noun.first, noun.last, form, changed + (SUSPECT if self._is_suspect(at) else 0.0))
            if said:
                continue
            for last, joint, cost in self._cuts(at + 1, at):
                yield Rewrite(noun.first, last, (*form, *joint), cost + changed)
        bare = self.words[noun.first] not in DETERMINERS and not self.clauses.is_somebody(noun)
        if before is not None and (before.kind == AND or (bare and before.kind in (NOUN, REFLEXIVE, ADVERB))):
            first = before.first if before.kind in (AND, ADVERB) else noun.first
            yield from (Rewrite(first, last, joint, cost) for last, joint, cost in self._cuts(at + 1, at))
        if behind is not None and behind.kind == AND:
            yield Rewrite(noun.first, behind.last, (), 0.0)
        suited = self.clauses.suited(noun.last)
        if done and suited is not None and before is not None and not self.clauses.is_harmful(before):
            yield Rewrite(noun.first, suited[0], ("flowers", *suited[1]), FLOWERS)
        if (before is None or before.kind == SIGN) and behind is not None and behind.kind in (*VERBS, PLACE):
            yield from self._beginning(noun, behind)

    def _is_suspect(self, at: int) -> bool:
        """Tell whether what somebody does, who is harmful by name, stays as it is."""
        noun, deed = self.clauses.chunks[at], self.clauses.chunk(at + 1)
        moving = deed is not None and deed.kind in VERBS and self.words[deed.head] not in roles.STILL
        return moving and self.clauses.is_harmful(noun) and english.is_person(self.words[noun.head])

    def _beginning(self, noun: Chunk, behind: Chunk) -> Iterator[Rewrite]:
        """Give what may stand for a noun at the beginning: somebody else, flowers, or what it is a part of."""
        word = self.words[noun.head]
        if word in roles.CORPSES and (behind.kind == PLACE or self.words[behind.head] in roles.POSTURES):
            yield Rewrite(noun.first, noun.last, ("people" if english.is_plural(word) else "a person",), NEUTRAL)
        if self.words[behind.first] == "of":
            yield Rewrite(noun.first, behind.last, (), 0.0)
        elif behind.kind == PLACE and not english.is_person(word):
            scene = tuple(i for i in noun.words if i != noun.head and self.chances[i] < OPEN)
            if scene and english.is_thing(self.words[scene[-1]]):  # the place of what happened there
                yield Rewrite(noun.first, noun.last, scene, NEUTRAL)
        if (
            self.words[behind.first] != "of"
            and not english.is_person(word)
            and (suited := self.clauses.suited(noun.last)) is not None
        ):
            yield Rewrite(noun.first, suited[0], ("flowers", *suited[1]), FLOWERS)

    def _clause(self, at: int) -> Iterator[Rewrite]:
        """Give the ways to leave out a clause behind a link, and all between two signs."""
        chunks = self.clauses.chunks
        first, last = self.clauses.segment(at)
        starts = [i for i in range(first, at + 1) if chunks[i].kind == LINK]
        starts += [i - 1 for i in starts if i and chunks[i - 1].kind in VERBS and self.words[chunks[i].first] == "that"]
        for start in [*starts, *([first] if last - first + 1 < len(chunks) else [])]:
            lost = LOST * self.clauses.lost(start, last, harmful=True)
            yield Rewrite(chunks[start].first, chunks[last].last, (), lost)

    def _said(self, verb: int) -> Iterator[Rewrite]:
        """Give the ways to leave out what is said or written, alone or with what it is written on."""
        chunks = self.clauses.chunks
        _, last = self.clauses.segment(verb)
        for end in {*self.clauses.ends(verb + 1), last}:
            yield Rewrite(chunks[verb].first, chunks[end].last, (), 0.0)
            if self.clauses.is_kind(verb - 2, AND, PLACE):
                yield Rewrite(chunks[verb - 2].first, chunks[end].last, (), NEUTRAL)

    def _with_further(self, ways: Iterator[Rewrite]) -> Iterator[Rewrite]:
        """Give every way, and the same where the next phrase goes, too, if that belongs to the situation."""
        for way in ways:
            further: Rewrite | None = way
            while further is not None:
                yield further
                further = self._further(further)

    def _further(self, way: Rewrite) -> Rewrite | None:
        """Leave out one more phrase behind a way: a purpose, a deed, a clause, a place or a part between signs."""
        rest = range(way.last + 1, len(self.words))
        word = next((i for i in rest if roles.means(self.words[i]) and self.chances[i] >= OPEN), None)
        if word is None:
            return None
        at = self.clauses.holding(word)
        cuts = (end for end in self.clauses.ends(at) if not self.clauses.needs(end + 1))
        segment = self.clauses.segment(at)[1]
        for start in range(at, 0, -1):
            chunk = self.clauses.chunks[start]
            if chunk.first <= way.last:
                break
            local = chunk.kind in (PLACE, AND)
            if chunk.kind in (TO_DO, LINK, SIGN, DOING, DONE) or (local and start == at - 1):
                end = at if local else next(cuts, segment) if chunk.kind in (DOING, DONE) else segment
                end += self.clauses.is_alone(end + 1)
                joined = chunk.kind in VERBS and self.clauses.is_kind(start - 1, AND, PLACE)
                first = chunk.first - (joined or (chunk.kind == LINK and self.clauses.is_kind(start - 1, SIGN)))
                last, joint, cost = self.clauses.joint(end)
                parts = (*way.parts, *range(way.last + 1, first), *joint)
                lost = LOST * self.clauses.lost(start, end)
                return Rewrite(way.first, last, parts, way.cost + cost + lost)
        return None

    def _twice(self, way: Rewrite) -> bool:
        """Tell whether a plain word is said twice: *people greeting people*."""
        new = [part for part in way.parts if isinstance(part, str)]
        said = [
            *self.words[max(0, way.first - 2) : way.first],
            *(self.words[i] for i in way.parts if isinstance(i, int)),
        ]
        return any(roles.is_plain(word) and (new.count(word) > 1 or word in said) for word in new)
