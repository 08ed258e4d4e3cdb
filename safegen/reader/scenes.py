"""Scenes: the harmless people, things and places in a harmful phrase, and how many of them a repair mentions."""

from __future__ import annotations

from dataclasses import dataclass, field

from safegen.reader import english, roles
from safegen.reader.kinds import DONE, NOUN, PLACE, WHERE
from safegen.reader.nouns import Parts
from safegen.reader.situation import HOT, WARM, Named, Situation

COMPARED = frozenset({"as", "like"})  # nobody is there whom somebody is only compared to
FLOWERS = "flowers"  # something has to be in a bowl
# Prepositions that say where somebody is, whatever they do there, and when.
WHEREVER = roles.WITHIN | {"at", "under", "beneath", "beside", "behind", "outside", "above", "among", "between", "near"}
WHENEVER = frozenset({"after", "before", "during"})


@dataclass(frozen=True)
class Strictness:
    """A limit on what a repair mentions of a harmful phrase.

    Attributes:
        things: the score in the prompt up to which a thing is mentioned.
        far: whether people are put near a suspect place, and not in it.
        plain: whether everybody near the situation gets a plain name.
    """

    things: float = float("inf")
    far: bool = False
    plain: bool = False


# From keeping the most to keeping the least; all are tried, and the best text is taken.
LEVELS = (
    Strictness(),
    Strictness(far=True),
    Strictness(HOT, far=True),
    Strictness(0.0, far=True),
    Strictness(far=True, plain=True),
    Strictness(0.0, far=True, plain=True),
)


@dataclass
class Scene:
    """The harmless parts of a harmful phrase: people, things, and places with their prepositions."""

    beings: list[Parts] = field(default_factory=list)
    things: list[Parts] = field(default_factory=list)
    settings: list[Parts] = field(default_factory=list)


class Scenes:
    """The scenes of a prompt with a harmful situation."""

    def __init__(self, situation: Situation) -> None:
        self.situation, self.clauses, self.chunks = situation, situation.clauses, situation.chunks
        self.words = situation.words

    def find(self, begin: int, end: int, level: Strictness) -> Scene:
        """Find what a phrase names that is harmless."""
        scene, at = Scene(), begin
        while at <= end:
            chunk, named = self.chunks[at], self.situation.named.get(at)
            if chunk.kind == WHERE and self.situation.height(at) < WARM:
                scene.settings.append(tuple(chunk.words))
            elif chunk.kind == PLACE and self.clauses.first_word(at) in COMPARED:
                at += 1
            elif self.clauses.is_absent(at):
                pass
            elif chunk.kind == PLACE and at < end and (place := self._setting(at, level)):
                scene.settings.append(place)
                at += 1
            elif chunk.kind == NOUN and named is not None:
                if named.being or self._is_agent(begin, at):
                    scene.beings.append(self._called(at, named, level))
                    of = self.clauses.first_word(at + 1) == "of"
                    at += 2 * (of and self.chunks[at + 1].first in scene.beings[-1])
                elif self.situation.height(at) <= level.things and (thing := self._thing(at, named, end)):
                    scene.things.append(thing)
                    at += 2 * (len(thing) > len(named.parts))
            at += 1
        return scene

    def _is_agent(self, begin: int, at: int) -> bool:
        """Tell whether a deed was done by what a noun names."""
        done = any(self.chunks[i].kind == DONE for i in range(begin, at))
        return (
            done and self.clauses.first_word(at - 1) == "by" and not english.is_thing(self.words[self.chunks[at].head])
        )

    def _called(self, at: int, named: Named, level: Strictness) -> Parts:
        """Give the name for somebody."""
        person = english.is_person(self.words[self.chunks[at].head])
        plain = level.plain and person and self.situation.height(at) >= WARM
        parts = self.situation.plain(self.chunks[at]) if plain else named.parts
        of = self.situation.named.get(at + 2) if self.clauses.first_word(at + 1) == "of" else None
        return (*parts, *self.chunks[at + 1].words, *of.parts) if of is not None and of.being and not plain else parts

    def _thing(self, at: int, named: Named, end: int) -> Parts:
        """Give a thing with what it is of; nothing where it is not seen without what is harmful."""
        described = not named.whole and self.clauses.is_kind(at - 1, PLACE)
        if described or not self.situation.is_apart(at):
            return ()
        within = self.clauses.first_word(at + 1) in roles.WITHIN and self.clauses.is_kind(at + 2, NOUN)
        within = within and not roles.has_room(self.words[self.chunks[at + 2].head])
        if at + 2 > end or not (within or self.clauses.first_word(at + 1) == "of"):
            return named.parts
        of = self.situation.named.get(at + 2)
        full = self.words[self.chunks[at].last] in roles.CONTAINERS
        if of is None or (full and not of.whole):
            return (*named.parts, *self.chunks[at + 1].words, FLOWERS) if full else named.parts
        return named.parts if of.being else (*named.parts, *self.chunks[at + 1].words, *of.parts)

    def _setting(self, at: int, level: Strictness) -> Parts:
        """Give a preposition with its noun where it says where or when somebody is, and not what is done."""
        word, noun = self.clauses.first_word(at), self.chunks[at + 1]
        named, head = self.situation.named.get(at + 1), self.words[noun.head]
        if noun.kind != NOUN or (named is not None and named.being):
            return ()
        room = roles.has_room(head) and not (word == "on" and english.is_building(head))
        far = level.far and self.situation.height(at + 1) >= WARM
        if word == "through" and named is not None and room and not far:
            return ("in", *named.parts)
        if word not in WHEREVER | WHENEVER:
            return ()
        if named is None or word in WHENEVER:
            calm = not self.clauses.is_bodily(noun) and not any(map(self.situation.is_hot, noun.words))
            calm = calm and (english.is_noun_first(head) or not english.is_form(head, ""))
            return (*self.chunks[at].words, *noun.words) if calm and not english.is_being(head) else ()
        fits = named.whole if english.is_worn(head) else room and not far
        return (*self.chunks[at].words, *named.parts) if fits else ()
