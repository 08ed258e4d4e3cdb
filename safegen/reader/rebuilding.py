"""Repairs by rebuilding: what happens goes as a whole, and whoever and whatever was there is told of anew."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field

from safegen.reader import english, roles
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
    VERBS,
    WHERE,
)
from safegen.reader.deeds import GREET, STAND
from safegen.reader.nouns import Parts
from safegen.reader.rewrites import Rewrite
from safegen.reader.situation import HOT, WARM, Named, Situation

COMPARED = frozenset({"as", "like"})
FINITE = frozenset({"is", "are", "was", "were", "has", "have", "gets", "get", "got", "had"})
MANY = frozenset({"are", "were", "have", "get"})
# Prepositions that say where somebody is, whatever they do there.
WHEREVER = roles.WITHIN | {"at", "under", "beneath", "beside", "behind", "outside", "above", "among", "between", "near"}
FLOWERS = "flowers"  # something has to be in a bowl
WHENEVER = frozenset({"after", "before", "during"})


@dataclass(frozen=True)
class Strictness:
    """How much of a harmful phrase is told of.

    Attributes:
        things: up to which height in the prompt things are.
        far: whether whoever is there is only near a warm place.
        plain: whether everybody has a plain name.
    """

    things: float = 9.0
    far: bool = False
    plain: bool = False


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
    """What a harmful phrase names that is harmless: those who are there, things, and places with a preposition."""

    beings: list[Parts] = field(default_factory=list)
    things: list[Parts] = field(default_factory=list)
    settings: list[Parts] = field(default_factory=list)


class Rebuilder:
    """The ways to tell anew what a prompt with a harmful situation shows."""

    def __init__(self, situation: Situation) -> None:
        self.situation, self.clauses, self.chunks = situation, situation.clauses, situation.chunks
        self.words = situation.words

    def told(self, level: Strictness, taken: Container[int] = ()) -> list[Rewrite]:
        """Tell anew every harmful phrase of the prompt, but for words that are taken already."""
        found, at = [], 0
        while at < len(self.chunks):
            if self.chunks[at].kind == SIGN:
                at += 1
                continue
            first, last = self.clauses.segment(at)
            hot = [i for i in range(first, last + 1) if self._is_hot(i, taken)]
            if hot:
                found.append(self._anew(*self._whole(hot[0], hot[-1], first, last, level), level))
            at = last + 1
        return found

    def _is_hot(self, at: int, taken: Container[int]) -> bool:
        return any(self.situation.is_hot(i) and i not in taken for i in self.chunks[at].words)

    def _whole(self, begin: int, end: int, first: int, last: int, level: Strictness) -> tuple[int, int]:
        """Widen a harmful phrase by all that hangs on it, within two signs."""
        while end < last and (further := self._reach(begin, end)) > end:
            end = min(further, last)
        told = (i for i in range(first + 1, begin) if self.clauses.first_word(i) == "that")
        begin = next((i for i in told if self.clauses.is_kind(i, LINK) and self.clauses.is_kind(i - 1, *VERBS)), begin)
        owned = (i for i in range(first + 1, begin) if self.clauses.first_word(i) == "whose")
        begin = next(owned, begin)
        while begin > first and self._hangs(begin, level):
            begin -= 1
        return begin, end

    def _hangs(self, at: int, level: Strictness) -> bool:
        """Tell whether what is before a chunk goes with it."""
        before, named = self.chunks[at - 1], self.situation.named.get(at - 1)
        if self.chunks[at].kind == NOUN:
            led = before.kind == PLACE and self.words[before.first] != "of"
            return led or (before.kind in VERBS and at not in self.situation.named)
        if before.kind == NOUN and self.chunks[at].kind in VERBS:
            someone = self.clauses.is_somebody(before) and self.situation.height(at - 1) >= WARM
            return (named is None or not named.whole or (level.plain and someone)) and not self._is_object(at - 1)
        return before.kind in (ADVERB, AND) or (before.kind == PLACE and self.chunks[at].kind in VERBS)

    def _is_object(self, at: int) -> bool:
        return self.clauses.is_kind(at - 1, PLACE, *VERBS) and self.clauses.first_word(at - 1) != "of"

    def _reach(self, begin: int, end: int) -> int:
        """Find the chunk up to which a harmful phrase goes on: whom its deed is done to, by whom, and with what."""
        chunk, behind, goal = self.chunks[end], self.clauses.chunk(end + 1), self.clauses.chunk(end + 2)
        if behind is None or behind.kind in (LINK, SIGN):
            return end
        word = self.words[behind.first]
        deeds = [i for i in range(begin, end + 1) if self.chunks[i].kind in VERBS]
        if chunk.kind in VERBS and behind.kind in (NOUN, PRONOUN, REFLEXIVE):
            return end + 1
        if behind.kind in (PLACE, AND):
            if goal is None or goal.kind in (SIGN, LINK):
                return end + (self.situation.height(end + 1) >= WARM)
            passive = word == "by" and any(self.chunks[i].kind == DONE for i in deeds) and goal.kind == NOUN
            noun = self.words[goal.head]
            tool = word == "with" and bool(deeds) and goal.kind == NOUN and not english.is_worn(noun)
            tool = tool and not english.is_being(noun)
            pair = word == "and" and chunk.kind == NOUN and end not in self.situation.named and goal.kind == NOUN
            pair = pair and not self.clauses.is_kind(end + 3, *VERBS)
            if word == "of" or passive or tool or pair or self.situation.height(end + 2) >= WARM:
                return end + 2
            return end
        return end + (self.situation.height(end + 1) >= WARM)

    def _anew(self, begin: int, end: int, level: Strictness) -> Rewrite:
        """Tell anew what a phrase shows, from its first chunk to its last."""
        scene = self._scene(begin, end, level)
        leads = self._leads(begin)
        subject: Parts = ()
        if leads:
            first = self.situation.named.get(begin)
            for some in (scene.beings, scene.things):
                if some and not subject and (first is None or first.parts not in scene.things or some is scene.things):
                    subject = some.pop(0)
            if not subject and scene.settings:
                subject = scene.settings.pop(0)[1:]
            if not subject:
                return self._without(begin, end)
        said = {self._text(subject), *(self._text(tuple(self.chunks[begin - 1].words)) for _ in range(begin > 0))}
        for some in (scene.beings, scene.things):
            for parts in list(some):
                if self._text(parts) in said:
                    some.remove(parts)
                said.add(self._text(parts))
        parts = (*subject, *self._deed(begin, end, scene, subject), *_listed("near", scene.things))
        for place in scene.settings:
            parts += place
        return Rewrite(self.chunks[begin].first, self.chunks[end].last, parts, 0.0)

    def _text(self, parts: Parts) -> str:
        return " ".join(part if isinstance(part, str) else self.words[part] for part in parts)

    def _leads(self, begin: int) -> bool:
        """Tell whether a phrase begins with whoever or whatever it is about."""
        if self.chunks[begin].kind == NOUN:
            return True
        about = self.clauses.is_kind(begin - 1, NOUN, PRONOUN, AND, LINK, *VERBS)
        return self.chunks[begin].kind in VERBS and not about

    def _without(self, begin: int, end: int) -> Rewrite:
        """Leave out a phrase of which nothing can stay; the place where it was takes its place."""
        while self.clauses.is_kind(end + 1, ADVERB, *VERBS):
            end += 1
        held = self.clauses.chunk(begin - 2)
        if self.clauses.first_word(begin - 1) == "of" and held and self.words[held.last] in roles.CONTAINERS:
            return Rewrite(self.chunks[begin].first, self.chunks[end].last, (FLOWERS,), 0.0)
        if self.clauses.is_kind(end + 1, PLACE, AND) and self.clauses.is_kind(end + 2, NOUN):
            return Rewrite(self.chunks[begin].first, self.chunks[end + 1].last, (), 0.0)
        begin -= self.clauses.is_kind(begin - 1, PLACE, AND)
        return Rewrite(self.chunks[begin].first, self.chunks[end].last, (), 0.0)

    def _deed(self, begin: int, end: int, scene: Scene, subject: Parts) -> Parts:
        """Tell what is done instead: somebody is met, or stands there."""
        company = _listed("with", scene.beings)
        verb = next((i for i in range(begin, end + 1) if self.chunks[i].kind in VERBS), None)
        if verb is None or self.chunks[begin].kind == LINK:
            return company
        chunk = self.chunks[verb]
        helping = tuple(i for i in range(chunk.first, chunk.head) if self.words[i] in HELPERS - {"to", "about"})
        if self.words[chunk.head] in roles.POSTURES and not self.situation.is_hot(chunk.head):
            return (*chunk.words, *company) if scene.beings or scene.things or scene.settings else ()
        if scene.beings and chunk.kind in GREET and self._is_done(verb, end, subject):
            kind = DO if chunk.kind == DOES and self._many(begin, verb, subject) else chunk.kind
            return (*helping, GREET[kind], *(("by",) if kind == DONE else ()), *_and(scene.beings))
        if chunk.kind in (DOES, DO) or any(self.words[i] in FINITE for i in helping):
            return (STAND[DO if self._many(begin, verb, subject) else DOES], *company)
        goes_on = self.clauses.is_kind(end + 1, AND) and self.clauses.is_kind(end + 2, *VERBS)
        return (*(("standing",) if goes_on else ()), *company)

    def _many(self, begin: int, verb: int, subject: Parts) -> bool:
        """Tell whether there is more than one of those who do a deed."""
        if subject or self.clauses.is_kind(begin - 1, NOUN):
            last = subject[-1] if subject else self.chunks[begin - 1].head
            return english.is_plural(last if isinstance(last, str) else self.words[last])
        chunk = self.chunks[verb]
        return chunk.kind == DO or any(self.words[i] in MANY for i in chunk.words)

    def _is_done(self, verb: int, end: int, subject: Parts) -> bool:
        """Tell whether somebody does the deed to somebody, or by somebody."""
        if self.chunks[verb].kind == DONE:
            before = subject[-1] if subject else self.chunks[verb - 1].head
            sufferer = before if isinstance(before, str) else self.words[before]
            by = any(self.clauses.first_word(i) == "by" for i in range(verb, end + 1))
            return by and not english.is_thing(sufferer)
        if self.chunks[verb].kind not in (DOING, DOES, DO):
            return False
        if subject:
            last = subject[-1] if isinstance(subject[-1], str) else self.words[subject[-1]]
            return english.is_being(last) or roles.is_plain(last)
        if not self.clauses.is_kind(verb - 1, NOUN):
            return self.clauses.is_kind(verb - 1, PRONOUN, LINK, AND)
        return any(self.clauses.is_somebody(self.chunks[i]) for i in self.clauses.named(verb - 1))

    def _scene(self, begin: int, end: int, level: Strictness) -> Scene:
        """Find what a phrase names that is harmless."""
        scene, at = Scene(), begin
        while at <= end:
            chunk, named = self.chunks[at], self.situation.named.get(at)
            word = self.clauses.first_word(at)
            if chunk.kind == WHERE:
                scene.settings.append(tuple(chunk.words))
            elif chunk.kind == PLACE and word in COMPARED:
                at += 1
            elif chunk.kind == PLACE and at < end and (place := self._setting(at, level)):
                scene.settings.append(place)
                at += 1
            elif chunk.kind == NOUN and named is not None:
                agent = self.clauses.first_word(at - 1) == "by" and not english.is_thing(self.words[chunk.head])
                if named.being or agent:
                    person = named.being and english.is_person(self.words[chunk.head])
                    plain = level.plain and person and self.situation.height(at) >= WARM
                    scene.beings.append(self.situation.plain(chunk) if plain else named.parts)
                elif self._is_emptied(at, end):
                    scene.things.append((*named.parts, "of", FLOWERS))
                elif self.situation.height(at) <= level.things and self._is_seen(at, named):
                    scene.things.append(named.parts)
            at += 1
        return scene

    def _is_seen(self, at: int, named: Named) -> bool:
        """Tell whether a thing is seen by itself; what only describes somebody goes if a part of it does."""
        alone = named.whole or not self.clauses.is_kind(at - 1, PLACE)
        return alone and self.situation.is_apart(at)

    def _is_emptied(self, at: int, end: int) -> bool:
        """Tell whether nothing is left of what a thing is full of."""
        full = self.words[self.chunks[at].last] in roles.CONTAINERS
        return full and at + 2 <= end and self.clauses.first_word(at + 1) == "of" and at + 2 not in self.situation.named

    def _setting(self, at: int, level: Strictness) -> Parts:
        """Give a preposition with its noun where it says where somebody is, and not what is done; else nothing."""
        word, noun = self.clauses.first_word(at), self.chunks[at + 1]
        named, head = self.situation.named.get(at + 1), self.words[noun.head]
        if noun.kind != NOUN or word not in WHEREVER | WHENEVER or (named is not None and named.being):
            return ()
        if named is None or word in WHENEVER:
            calm = not self.clauses.is_bodily(noun) and not any(map(self.situation.is_hot, noun.words))
            return (*self.chunks[at].words, *noun.words) if calm and not english.is_being(head) else ()
        room = roles.has_room(head) and not (word == "on" and english.is_building(head))
        far = level.far and self.situation.height(at + 1) >= WARM
        fits = named.whole if english.is_worn(head) else room and not far
        return (*self.chunks[at].words, *named.parts) if fits else ()


def _listed(word: str, some: Sequence[Parts]) -> Parts:
    return (word, *_and(some)) if some else ()


def _and(some: Sequence[Parts]) -> Parts:
    found: Parts = ()
    for i, parts in enumerate(some):
        found += (("and",) if i else ()) + parts
    return found
