"""Repairs by grammar: a whole phrase goes, or a plain word of its kind takes the place of its head.

What may be done to a phrase is told by the chunks around it. Somebody who does a harmful deed to somebody greets them
instead; where nobody else is left, what he does is left out, or he stands there; a phrase with a preposition, a clause
or a part between commas goes as a whole. So what is left is nearly always English, and whoever was there stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safegen.reader import english
from safegen.reader.chunks import (
    ADVERB,
    AND,
    DO,
    DOES,
    DOING,
    DONE,
    HELPERS,
    LINK,
    NOUN,
    PLACE,
    PRONOUN,
    REFLEXIVE,
    SIGN,
    TO_DO,
    VERBS,
    Chunk,
    parse,
)
from safegen.reader.gaps import OPEN, SURE
from safegen.reader.grammar import DETERMINERS, WORDS
from safegen.reader.words import Word

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Parts = tuple[int | str, ...]
FURTHER = 7  # how many chunks a phrase reaches behind its worst word, at most
TOUCHED = 0.25  # chance from which on a noun may need another word
# How good a way is beside the others, as a log-likelihood.
STANDS, AND_TOO, ADMIRES, NEUTRAL, FLOWERS, NEARBY, LOST = -1.0, -0.5, -1.0, -1.0, -10.0, -1.0, -5.0
# Verbs that go with any person, any thing, and with nothing, in the forms that a verb in a prompt can have.
GREET = {DOING: "greeting", DONE: "greeted", DOES: "greets", DO: "greet", TO_DO: "to greet"}
ADMIRE = {DOING: "admiring", DONE: "admired", DOES: "admires", DO: "admire", TO_DO: "to admire"}
STAND = {DOES: "stands", DO: "stand", DOING: "standing", DONE: "standing", TO_DO: "to stand"}
AIMED = frozenset({"at", "over", "up"})
# Of these something has to be there.
_CONTAINERS = "bag bags barrel basket bathtub bottle bowl bowls box boxes bucket cup dozens full glass jar pile piles plate pot stack tray"
CONTAINERS = frozenset(_CONTAINERS.split())
# What is said behind these is no picture of its own.
SAYING = frozenset("telling tells saying says reading reads stating states proclaiming declaring titled labelled labeled".split())
# These need a verb of their own; somebody who only stands there is near a place.
_DIRECTIONS = "off from into onto through over across to toward towards against up down out along past upon after"
DIRECTIONS = frozenset(_DIRECTIONS.split())
INTO = frozenset("into onto off toward towards".split())
# With these somebody can be anywhere, so nothing is missing when the place goes.
_POSTURES = """
sitting standing lying walking posing running resting leaning kneeling sleeping dancing smiling crouching floating
dressed seated waiting riding swimming flying
"""
POSTURES = frozenset(_POSTURES.split())
# What somebody has of a body, or on it, is no thing to look at beside them.
_OF_A_BODY = """
ankle ankles arm arms back belly body bodies bones breast breasts cheek cheeks chest chin ear ears eye eyes face faces
feet finger fingers flesh foot forehead genitals hair hand hands head heads heart knee knees leg legs life limb limbs
lip lips mouth neck nose own ribs scalp skin skull stomach temple temples thigh thighs throat throats tongue tooth teeth
vein veins waist wrist wrists blouse bra clothes coat dress jacket pants pocket pockets shirt skirt sleeve trousers underwear
"""
OF_A_BODY = frozenset(_OF_A_BODY.split())
# What is left of somebody; in a picture, somebody else can be there.
CORPSES = frozenset("body bodies cadaver cadavers corpse corpses dead remains skeleton skeletons".split())
# What shows or says something: it greets nobody.
_BEARERS = """
banner billboard book card cartoon drawing engraving flag graffiti letter magazine mural newspaper note painting photo
photograph picture placard plaque poster screen shirt sign statue sticker t-shirt tattoo
"""
BEARERS = frozenset(_BEARERS.split())
MEANWHILE = frozenset({"while", "when", "as", "because", "until", "so", "if", "though", "although"})
PLAIN = frozenset({"person", "people", "man", "men", "woman", "women", "crowd"})
SMALL = frozenset().union(*WORDS.values())


@dataclass(frozen=True)
class Rewrite:
    """A run of words, and what takes its place: words that stay, by their number, and new ones."""

    first: int
    last: int
    parts: Parts
    ease: float

    @property
    def gone(self) -> list[int]:
        return [at for at in range(self.first, self.last + 1) if at not in self.parts]


def likelihood(gone: Sequence[int], words: Sequence[str], chances: NDArray[np.float32]) -> float:
    """Sum up how much likelier than not those of some words that mean something belong to the situation."""
    import numpy as np

    sure = np.clip(chances[[at for at in gone if means(words[at])]], 1 - SURE, SURE)
    return float(np.log(sure / (1 - sure)).sum())


def means(word: str) -> bool:
    """Tell whether a word means something by itself."""
    return word[0].isalnum() and word not in SMALL


class Rewriter:
    """The ways to rewrite a prompt.

    Args:
        words: the words of the prompt, in small letters.
        chances: (words,) how likely each word belongs to the situation.
    """

    def __init__(self, words: Sequence[str], chances: NDArray[np.float32]) -> None:
        self.words, self.chances, self.chunks = words, chances, parse(words)

    def ways(self, worst: int) -> list[tuple[Rewrite, float]]:
        """Give the ways to rewrite the phrase around a word, each once, with its log-likelihood."""
        at = next(i for i, chunk in enumerate(self.chunks) if chunk.last >= worst)
        found: dict[tuple[int, int, Parts], Rewrite] = {}
        said = self._saying(at)
        for ways in (self._deeds, self._places, self._nouns, self._clauses) if said is None else (self._said,):
            for way in self._with_further(ways(at if said is None else said)):
                known = found.get((way.first, way.last, way.parts))
                harmful = any(self.chances[i] >= OPEN for i in way.gone)
                if (harmful or worst in way.gone) and not self._twice(way) and (known is None or known.ease < way.ease):
                    found[way.first, way.last, way.parts] = way
        return [(way, likelihood(way.gone, self.words, self.chances)) for way in found.values()]

    def _with_further(self, ways: Iterator[Rewrite]) -> Iterator[Rewrite]:
        """Give every way, and the same where the next phrase goes, too, if that belongs to the situation."""
        for way in ways:
            further: Rewrite | None = way
            for _ in range(FURTHER):
                if further is None:
                    break
                yield further
                further = self._further(further)

    def _further(self, way: Rewrite) -> Rewrite | None:
        """Leave out one more phrase behind a way: a purpose, a clause, a place or a part between signs."""
        harmful = (i for i in range(way.last + 1, len(self.words)) if means(self.words[i]) and self.chances[i] >= OPEN)
        word = next(harmful, None)
        if word is None:
            return None
        at = next(i for i, chunk in enumerate(self.chunks) if chunk.last >= word)
        sign = next((i for i in range(at, len(self.chunks)) if self.chunks[i].kind == SIGN), len(self.chunks))
        for start in range(at, 0, -1):
            chunk = self.chunks[start]
            if chunk.first <= way.last:
                break
            behind = self._chunk(at + 1)
            ends = behind is not None and behind.kind == PLACE and self.words[behind.first] not in DIRECTIONS | {"of"}
            end = at if chunk.kind in (PLACE, AND) or (chunk.kind in (DOING, DONE) and ends) else sign - 1
            if chunk.kind in (TO_DO, LINK, SIGN, DOING, DONE) or (chunk.kind in (PLACE, AND) and start == at - 1):
                first = chunk.first - (self.chunks[start - 1].kind == SIGN and chunk.kind == LINK)
                lost = LOST * sum(self._stays(self.chunks[i]) for i in range(start, end + 1))
                parts = (*way.parts, *range(way.last + 1, first))
                return Rewrite(way.first, self.chunks[end].last, parts, way.ease + lost)
        return None

    def _twice(self, way: Rewrite) -> bool:
        """Tell whether a plain word is said twice: *people greeting people*."""
        new = [part for part in way.parts if isinstance(part, str)]
        said = [*self.words[max(0, way.first - 2) : way.first], *(self.words[i] for i in way.parts if not isinstance(i, str))]
        return any(word in PLAIN and (new.count(word) > 1 or word in said) for word in new)

    def _saying(self, at: int) -> int | None:
        """Find the word before a chunk that says what is said or written."""
        for i in range(at, -1, -1):
            if self.chunks[i].kind == SIGN:
                break
            if self.words[self.chunks[i].head] in SAYING:
                return i
        return None

    def _said(self, verb: int) -> Iterator[Rewrite]:
        """Give the ways to leave out what is said or written, alone or with what it is written on."""
        end = next((i for i in range(verb, len(self.chunks)) if self.chunks[i].kind == SIGN), len(self.chunks)) - 1
        bearer, before = self._chunk(verb - 1), self._chunk(verb - 2)
        for last in {self.chunks[i].last for i in (*self._ends(verb + 1), end)}:
            yield Rewrite(self.chunks[verb].first, last, (), 0.0)
            if bearer is not None and before is not None and before.kind in (AND, PLACE):
                yield Rewrite(before.first, last, (), NEUTRAL)

    def _deeds(self, at: int) -> Iterator[Rewrite]:
        """Give the ways to change what somebody does, if the word belongs to that, or names who does it."""
        behind = self._chunk(at + 1)
        if self.chunks[at].kind == NOUN and behind is not None and behind.kind in VERBS:
            yield from self._deed(at + 1, at + 1)
        for verb in range(at, -1, -1):
            kind = self.chunks[verb].kind
            if kind in (SIGN, LINK):
                break
            if kind in VERBS:
                yield from self._deed(verb, at)

    def _deed(self, verb: int, at: int) -> Iterator[Rewrite]:
        for end in self._ends(at):
            last, joint, cost = self._joined(end)
            for first, subject, ease in self._subjects(verb):
                for done, worth, kept in self._instead(verb, end):
                    if kept != end and self._needs_it(end + 1) and self.words[self.chunks[end + 1].first] == "of":
                        of = self.chunks[end + 1].last
                        if self.words[of + 1] in WORDS["owner"]:
                            continue
                        yield Rewrite(first, of, (*subject, *done, "near"), ease + worth + NEARBY)
                    elif kept == end or not self._needs_it(end + 1):
                        yield Rewrite(first, last, (*subject, *done, *joint), ease + worth + cost)
            subject, thing = self._chunk(verb - 1), self.chunks[end]
            begins = subject is not None and (verb == 1 or self.chunks[verb - 2].kind == SIGN)
            if begins and not self._somebody(subject) and thing.kind == NOUN and self._aimed(verb, end):
                for form, ease in self._all_forms(thing):
                    yield Rewrite(subject.first, last, (*form, *joint), ease + ADMIRES + cost)

    def _subjects(self, verb: int) -> Iterator[tuple[int, Parts, float]]:
        """Give where a deed begins, and what stands there for whoever does it."""
        before = self._chunk(verb - 1)
        first = self.chunks[verb].first
        if before is not None and before.kind in (AND, PLACE):
            first = before.first
        yield first, (), 0.0
        if before is not None and before.kind == NOUN:
            place = self._chunk(verb - 2)
            if place is not None and place.kind == PLACE and not self._needs_it(verb - 2) and self._harmful(before):
                yield place.first, (), 0.0
            for parts, ease in self._forms(before):
                yield before.first, parts, ease

    def _instead(self, verb: int, end: int) -> Iterator[tuple[Parts, float, int]]:
        """Give what may be done in a deed's place: somebody is met, something is looked at, or nothing is done.

        The last of each three is the chunk that stays, if any.
        """
        deed = self.chunks[verb]
        helping = tuple(i for i in range(deed.first, deed.head) if self.words[i] in HELPERS and self.words[i] != "to")
        passive, acting = deed.kind == DONE, self._acting(verb)
        for at in range(verb + 1, end + 1):
            chunk, by = self.chunks[at], self.chunks[at - 1]
            by_whom = passive and by.kind == PLACE and self.words[by.last] == "by"
            met = (chunk.kind == PRONOUN and self.words[chunk.head] != "it") or (chunk.kind == NOUN and self._somebody(chunk))
            if met and (by_whom and self._suffers(verb) if passive else acting):
                for form, ease in self._all_forms(chunk):
                    yield (*helping, GREET[deed.kind], *(("by",) if by_whom else ()), *form), ease, at
                    if deed.kind == DOING and not helping and chunk.kind == NOUN and self._chunk(verb - 1).kind == NOUN:
                        yield ("and", *form), ease + AND_TOO, at
            if self._aimed(verb, at) and acting and chunk.kind == NOUN and not met and not passive and self._harmless_thing(chunk):
                for form, ease in self._all_forms(chunk):
                    yield (*helping, ADMIRE[deed.kind], *form), ease + ADMIRES, at
        lost = LOST * sum(self._stays(self.chunks[at]) for at in range(verb + 1, end + 1))
        if deed.kind in (DOES, DO) or (helping and deed.kind == DOING and self.words[helping[0]] in ("is", "are")):
            plural = self.words[deed.head] in ("are", "were", "have")
            yield (*helping, STAND[DO if plural else deed.kind]), STANDS + lost, -1
        elif not (passive and end == verb and self.words[min(deed.last + 1, len(self.words) - 1)] == "by"):
            yield (), lost, -1

    def _aimed(self, verb: int, at: int) -> bool:
        """Tell whether a chunk is what a deed is done to."""
        by = self.chunks[at - 1]
        return at == verb + 1 or (at == verb + 2 and by.kind == PLACE and self.words[by.last] in AIMED)

    def _suffers(self, verb: int) -> bool:
        """Tell whether somebody stands before a deed, to whom it can be done."""
        for at in range(verb - 1, -1, -1):
            chunk = self.chunks[at]
            if chunk.kind in (SIGN, LINK):
                break
            if chunk.kind == PRONOUN or (chunk.kind == NOUN and self._somebody(chunk)):
                return True
        return False

    def _acting(self, verb: int) -> bool:
        """Tell whether somebody is there who can do something."""
        before = self._chunk(verb - 1)
        return before is not None and not (
            before.kind == NOUN and self.words[before.head] in BEARERS | CONTAINERS | OF_A_BODY
        )

    def _places(self, at: int) -> Iterator[Rewrite]:
        """Give the ways to leave out a phrase with a preposition, or to put flowers into it."""
        for place in range(min(at + 1, len(self.chunks) - 1), max(-1, at - FURTHER), -1):
            chunk, before = self.chunks[place], self._chunk(place - 1)
            if chunk.kind in (SIGN, LINK) and place <= at:
                break
            if chunk.kind not in (PLACE, AND):
                continue
            free = before is not None and (
                (before.kind in (NOUN, PRONOUN) and self.words[before.head] not in CONTAINERS)
                or (before.kind in VERBS and self.words[before.head] in POSTURES)
            )
            for end in self._ends(max(at, place), acts=True):
                last, joint, cost = self._joined(end)
                lost = LOST * sum(self._stays(self.chunks[i]) for i in range(place, end + 1))
                if free and not self._needs_it(end + 1):
                    yield Rewrite(chunk.first, last, joint, cost + lost)
                    if before.kind == NOUN:
                        for form, ease in self._forms(before):
                            yield Rewrite(before.first, last, (*form, *joint), cost + lost + ease)
                if place == at - 1 and chunk.kind == PLACE:
                    filled = before is not None and self.words[before.head] in CONTAINERS
                    ease = cost + lost + (NEUTRAL if filled else FLOWERS)
                    yield Rewrite(self.chunks[at].first, last, ("flowers", *joint), ease)

    def _nouns(self, at: int) -> Iterator[Rewrite]:
        """Give the ways to change a noun, and to leave out one of two that *and* joins."""
        chunk = self.chunks[at]
        if chunk.kind != NOUN:
            return
        before, behind = self._chunk(at - 1), self._chunk(at + 1)
        for form, ease in self._forms(chunk):
            yield Rewrite(chunk.first, chunk.last, form, ease)
            for end in self._ends(at):
                last, joint, cost = self._joined(end)
                if not self._needs_it(end + 1):
                    lost = LOST * sum(self._stays(self.chunks[i]) for i in range(at + 1, end + 1))
                    yield Rewrite(chunk.first, last, (*form, *joint), ease + cost + lost)
        bare = before is not None and before.kind in (NOUN, REFLEXIVE, ADVERB) and not self._somebody(chunk)
        bare = bare and self.words[chunk.first] not in DETERMINERS
        if before is not None and (bare or before.kind == AND):
            first = before.first if before.kind in (AND, ADVERB) else chunk.first
            for end in self._ends(at):
                last, joint, cost = self._joined(end)
                if not self._needs_it(end + 1):
                    yield Rewrite(first, last, joint, cost)
        if behind is not None and behind.kind == AND:
            yield Rewrite(chunk.first, behind.last, (), 0.0)
        if before is not None and before.kind in VERBS and not self._harmful(before):
            yield Rewrite(chunk.first, chunk.last, ("flowers",), FLOWERS)
        if (before is None or before.kind == SIGN) and behind is not None and behind.kind in (*VERBS, PLACE):
            resting = behind.kind == PLACE or self.words[behind.head] in POSTURES
            if self.words[chunk.head] in CORPSES and resting:
                plural = english.is_plural(self.words[chunk.head])
                yield Rewrite(chunk.first, chunk.last, ("people" if plural else "a person",), NEUTRAL)
            if self.words[behind.first] == "of":
                yield Rewrite(chunk.first, behind.last, (), 0.0)
            elif not english.is_person(self.words[chunk.head]):
                yield Rewrite(chunk.first, chunk.last, ("flowers",), FLOWERS)

    def _clauses(self, at: int) -> Iterator[Rewrite]:
        """Give the ways to leave out a clause behind a link, and all between two signs."""
        signs = [i for i, chunk in enumerate(self.chunks) if chunk.kind == SIGN]
        left = max((i for i in signs if i < at), default=-1)
        right = min((i for i in signs if i > at), default=len(self.chunks))
        links = [i for i in range(left + 1, at + 1) if self.chunks[i].kind == LINK]
        starts = [*links, *([left + 1] if signs else [])]
        for start in starts:
            lost = LOST * sum(self.chunks[i].kind == NOUN and self._somebody(self.chunks[i]) for i in range(start, right))
            yield Rewrite(self.chunks[start].first, self.chunks[right - 1].last, (), lost)

    def _ends(self, at: int, acts: bool = False) -> Iterator[int]:
        """Give the chunks with which a phrase around a chunk may end, so that what is behind it can stay as it is.

        Args:
            at: the chunk.
            acts: whether what is behind may be what somebody before the phrase does.
        """
        for end in range(at, min(at + FURTHER, len(self.chunks))):
            if end > at and self.chunks[end].kind == LINK:
                break
            if end > at and self.chunks[end].kind == SIGN:
                if not self._goes_too(end + 1):
                    break
                continue
            behind = self._chunk(end + 1)
            if self.chunks[end].kind in (PLACE, AND):
                continue
            if behind is None or behind.kind in (SIGN, LINK) or (acts and behind.kind in (DOING, DOES)):
                yield end
            elif behind.kind == PLACE:
                goal = self._chunk(end + 2)
                body = goal is not None and goal.kind == NOUN and self.words[goal.head] in OF_A_BODY
                if goal is not None and goal.kind not in (SIGN, REFLEXIVE) and not body:
                    yield end

    def _goes_too(self, start: int) -> bool:
        """Tell whether all up to the next sign belongs to the situation."""
        end = next((i for i in range(start, len(self.chunks)) if self.chunks[i].kind == SIGN), len(self.chunks))
        words = [i for chunk in self.chunks[start:end] for i in chunk.words if self.words[i] not in SMALL]
        return bool(words) and all(self.chances[i] >= OPEN for i in words)

    def _joined(self, end: int) -> tuple[int, Parts, float]:
        """Give the last word that goes with a phrase, and *near* where what follows was the goal of a movement."""
        for at in range(end + 1, len(self.chunks) - 1):
            place, goal = self.chunks[at], self.chunks[at + 1]
            if place.kind not in (PLACE, NOUN, AND):
                break
            word = self.words[place.first]
            somebody = goal.kind == PRONOUN or (goal.kind == NOUN and self._somebody(goal))
            moves = word in INTO or (at == end + 1 and (word in DIRECTIONS or (word == "at" and somebody)))
            if place.kind == PLACE and moves:
                between = tuple(range(self.chunks[end].last + 1, place.first))
                return place.last, (*between, self._near(place)), NEARBY
        behind, goal = self._chunk(end + 1), self._chunk(end + 2)
        if behind is not None and self.words[behind.first] == "," and goal is not None and goal.kind in (PLACE, DOING):
            return behind.last, (), 0.0
        return self.chunks[end].last, (), 0.0

    def _near(self, place: Chunk) -> str:
        if self.words[place.first] in ("along", "down"):
            return "on"
        return "by" if "near" in self.words[place.last : place.last + 6] else "near"

    def _chunk(self, at: int) -> Chunk | None:
        return self.chunks[at] if 0 <= at < len(self.chunks) else None

    def _needs_it(self, at: int) -> bool:
        """Tell whether a chunk says more of what is right before it."""
        chunk = self._chunk(at)
        if chunk is None:
            return False
        return self.words[chunk.first] == "of" or (chunk.kind == LINK and self.words[chunk.first] in MEANWHILE)

    def _all_forms(self, chunk: Chunk) -> Iterator[tuple[Parts, float]]:
        if self._owner(chunk) is None or self.words[chunk.head] not in OF_A_BODY:
            yield tuple(chunk.words), 0.0
        yield from self._forms(chunk)

    def _forms(self, chunk: Chunk) -> Iterator[tuple[Parts, float]]:
        """Give a noun without its harmful attributes, its owner, and a plain word for somebody."""
        if chunk.kind != NOUN or max(self.chances[chunk.first : chunk.last + 1]) < TOUCHED:
            return
        harmless = tuple(
            i for i in chunk.words if i != chunk.head and (self.words[i] in SMALL or self.chances[i] < OPEN)
        )
        noun, owner = self.words[chunk.head], self._owner(chunk)
        if owner is not None and noun in OF_A_BODY:
            yield (*(i for i in harmless if i < owner), self.words[owner].split("'")[0]), NEUTRAL
            return
        people = [i for i in chunk.words if english.is_being(self.words[i]) and self.chances[i] < OPEN]
        if len(harmless) < chunk.last - chunk.first:
            yield (*harmless, chunk.head), 0.0
        if people and people[-1] != chunk.head:
            yield tuple(i for i in (*harmless, chunk.head) if i <= people[-1]), 0.0
        if english.is_person(noun) and plain(noun) != noun:
            yield (*(i for i in harmless if goes_with_anybody(self.words[i])), plain(noun)), NEUTRAL

    def _owner(self, chunk: Chunk) -> int | None:
        """Find whose body, or whose thing, a noun names."""
        return next((i for i in range(chunk.head - 1, chunk.first - 1, -1) if self.words[i].endswith("'s")), None)

    def _somebody(self, chunk: Chunk) -> bool:
        if self.words[chunk.head] in OF_A_BODY:
            return self._owner(chunk) is not None
        return english.is_being(self.words[chunk.head])

    def _harmless_thing(self, chunk: Chunk) -> bool:
        return self.words[chunk.head] not in OF_A_BODY and self.chances[chunk.head] < OPEN

    def _harmful(self, chunk: Chunk) -> bool:
        return bool(self.chances[chunk.head] >= OPEN)

    def _stays(self, chunk: Chunk) -> bool:
        """Tell whether somebody would be lost who is not harmful."""
        owner = self._owner(chunk)
        return chunk.kind == NOUN and self._somebody(chunk) and self.chances[owner or chunk.head] < OPEN


def goes_with_anybody(word: str) -> bool:
    """Tell whether a word before a noun can stand before any word for somebody."""
    return word in SMALL or word.endswith(("ed", "y")) or word in ("old", "young", "little", "big", "tall")


def plain(noun: str) -> str:
    """Give the plainest word for somebody."""
    for ending in ("women", "woman", "men", "man", "girls", "girl", "boys", "boy"):
        if noun.endswith(ending):
            return ending
    if noun in english.GROUPS:
        return "crowd"
    return "people" if english.is_plural(noun) else "person"


def written(way: Rewrite, text: str, words: Sequence[Word]) -> str:
    """Write what takes a phrase's place: what stays as it was spelled, with the spaces and signs between."""
    pieces: list[str] = []
    last = None
    for part in way.parts:
        if isinstance(part, str):
            pieces.append(part)
            last = None
        else:
            between = text[words[part - 1].span[1] : words[part].span[0]] if last == part - 1 else ""
            if last == part - 1:
                pieces[-1] += between + words[part].text
            else:
                pieces.append(words[part].text)
            last = part
    new = " ".join(pieces)
    new = re.sub(r"\b(a)n(?= [bcdfgjklmnpqrstvwxyz])", r"\1", new, flags=re.IGNORECASE)
    return re.sub(r"\b(a)(?= [aeio])", r"\1n", new, flags=re.IGNORECASE)
