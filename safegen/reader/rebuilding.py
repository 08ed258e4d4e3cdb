"""Repairs by telling anew: what happens goes as a whole, and whoever and whatever was there is named again.

*A baker smashing a rolling pin over his rival's head in a hall* becomes *a baker greeting his rival near a rolling
pin in a hall*: those who are there, the things, and the places, each harmless when it stands alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import dropwhile

from safegen.reader import english, roles
from safegen.reader.deeds import GREET, STAND
from safegen.reader.extents import Extents
from safegen.reader.kinds import (
    ADVERB,
    AND,
    CAUSING,
    DO,
    DOES,
    DOING,
    DONE,
    HELPERS,
    LINK,
    NOUN,
    PLACE,
    PRONOUN,
    VERBS,
    WHERE,
)
from safegen.reader.nouns import Parts
from safegen.reader.rewrites import Rewrite
from safegen.reader.scenes import FLOWERS, Scene, Scenes, Strictness
from safegen.reader.situation import Situation

FINITE = frozenset({"is", "are", "was", "were", "has", "have", "gets", "get", "got", "had"})
MANY = frozenset({"are", "were", "have", "get"})


class Rebuilder:
    """The ways to tell anew what a prompt with a harmful situation shows."""

    def __init__(self, situation: Situation) -> None:
        self.situation, self.clauses, self.chunks = situation, situation.clauses, situation.chunks
        self.words, self.scenes = situation.words, Scenes(situation)

    def told(self, level: Strictness) -> list[Rewrite]:
        """Tell anew every harmful phrase of the prompt."""
        phrases = list(Extents(self.situation, plain=level.plain).phrases())
        begins = {begin for begin, _ in phrases}
        return [self._anew(begin, end, level, apart=end + 2 in begins) for begin, end in phrases]

    def _anew(self, begin: int, end: int, level: Strictness, *, apart: bool) -> Rewrite:
        """Tell anew what a phrase shows, from its first chunk to its last.

        Args:
            begin: the first chunk.
            end: the last one.
            level: how much of it is told of.
            apart: whether the next part of the prompt is told anew, too, so that what is between them stays.
        """
        scene = self.scenes.find(begin, end, level)
        subject: Parts = ()
        if self._leads(begin):
            subject = self._subject(begin, scene)
            if not subject:
                return self._without(begin, end)
        first, _ = self.clauses.segment(begin)
        said = {self.words[chunk.head] for chunk in self.chunks[first:begin] if chunk.kind == NOUN}
        said |= {self._last(subject)} if subject else set()
        for some in (scene.beings, scene.things):
            for parts in list(some):
                if self._last(parts) in said and not roles.is_plain(self._last(parts)):
                    some.remove(parts)
                said.add(self._last(parts))
        parts = (*subject, *self._deed(begin, end, scene, subject), *_listed("near", scene.things))
        parts, last = sum(scene.settings, parts), self.chunks[end].last
        if not apart and any(self.chunks[i].kind in VERBS for i in range(begin, end + 1)):
            last, joint, _ = self.clauses.joint(end)
            parts += joint
        return Rewrite(self.chunks[begin].first, last, parts, 0.0)

    def _text(self, parts: Parts) -> str:
        return " ".join(part if isinstance(part, str) else self.words[part] for part in parts)

    def _leads(self, begin: int) -> bool:
        """Tell whether a phrase begins with whoever or whatever it is about."""
        chunk = self.chunks[begin]
        about = (
            self.clauses.is_kind(begin - 1, NOUN, PRONOUN, AND, LINK, *VERBS)
            or self.clauses.first_word(begin - 1) == ","
        )
        return chunk.kind == NOUN or (chunk.kind in VERBS and not about and (begin == 0 or chunk.kind != DOES))

    def _subject(self, begin: int, scene: Scene) -> Parts:
        """Take from a scene what it is about: what was named first, somebody, something or a place."""
        if self._is_held(begin):
            return (FLOWERS,)
        first = self.situation.named.get(begin)
        for some in (scene.beings, scene.things):
            if some and (first is None or first.parts not in scene.things or some is scene.things):
                return some.pop(0)
        return tuple(dropwhile(self._places, scene.settings.pop(0))) if scene.settings else ()

    def _places(self, part: int | str) -> bool:
        """Tell whether a part only says where: "near", "in front of", "outdoors"."""
        return isinstance(part, str) or any(
            part in chunk.words for chunk in self.chunks if chunk.kind in (PLACE, WHERE)
        )

    def _is_held(self, begin: int) -> bool:
        """Tell whether a phrase says of what something is full, and of that nothing can stay."""
        holder = self.clauses.chunk(begin - 2)
        of = self.clauses.first_word(begin - 1) == "of" and holder is not None
        full = holder is not None and self.words[holder.last] in roles.CONTAINERS
        return of and full and begin not in self.situation.named

    def _without(self, begin: int, end: int) -> Rewrite:
        """Leave out a phrase of which nothing can stay; the place where it was takes its place."""
        while self.clauses.is_kind(end + 1, ADVERB, *VERBS):
            end += 1
        first, last = self.chunks[begin].first, self.chunks[end].last
        describes = self.clauses.first_word(begin - 1) == "," and english.is_adjective(self.words[last])
        if self.clauses.is_kind(end + 1, PLACE, AND) and self.clauses.is_kind(end + 2, NOUN) and not describes:
            scene = self.chunks[end + 2]
            return Rewrite(first, scene.last, tuple(scene.words), 0.0)
        joined = self.clauses.is_kind(begin - 1, PLACE, AND)
        return Rewrite(self.chunks[begin - joined].first, last, (), 0.0)

    def _deed(self, begin: int, end: int, scene: Scene, subject: Parts) -> Parts:
        """Tell what is done instead: somebody is met, or stands there."""
        company = _listed("with", scene.beings)
        verb = next((i for i in range(begin, end + 1) if self.chunks[i].kind in VERBS), None)
        if verb is None or self.chunks[begin].kind == LINK:
            return company
        chunk = self.chunks[verb]
        helping = tuple(i for i in range(chunk.first, chunk.head) if self.words[i] in HELPERS - {"about"})
        if self.words[chunk.head] in roles.POSTURES and not self.situation.is_hot(chunk.head):
            return (*chunk.words, *company) if scene.beings or scene.things or scene.settings else ()
        if scene.beings and chunk.kind in GREET and self._is_done(verb, end, subject):
            kind = DO if chunk.kind == DOES and self._many(begin, verb, subject) else chunk.kind
            return (*helping, GREET[kind], *(("by",) if kind == DONE else ()), *_and(scene.beings))
        if chunk.kind == DONE and not subject and self._is_caused(verb):
            return (*helping, GREET[DONE], *company)
        if chunk.kind in (DOES, DO) or any(self.words[i] in FINITE for i in helping):
            return (STAND[DO if self._many(begin, verb, subject) else DOES], *company)
        goes_on = self.clauses.is_kind(end + 1, AND) and self.clauses.is_kind(end + 2, *VERBS)
        return (*(("standing",) if goes_on else ()), *company)

    def _many(self, begin: int, verb: int, subject: Parts) -> bool:
        """Tell whether there is more than one of those who do a deed."""
        if self._is_caused(verb) and not subject:
            return True
        if subject or self.clauses.is_kind(begin - 1, NOUN):
            return english.is_plural(self._last(subject or tuple(self.chunks[begin - 1].words)))
        chunk = self.chunks[verb]
        return chunk.kind == DO or any(self.words[i] in MANY for i in chunk.words)

    def _is_caused(self, verb: int) -> bool:
        """Tell whether somebody is made to do a deed, or has it done to them: *making her bow*, *had her dressed*."""
        maker = self.clauses.chunk(verb - 2)
        caused = self.clauses.is_kind(verb - 1, NOUN, PRONOUN) and self.chunks[verb].kind in (DO, DONE)
        return caused and maker is not None and maker.kind in VERBS and self.words[maker.head] in CAUSING

    def _last(self, parts: Parts) -> str:
        return self._text(parts).split()[-1]

    def _is_done(self, verb: int, end: int, subject: Parts) -> bool:
        """Tell whether somebody does the deed to somebody, or by somebody."""
        kind = self.chunks[verb].kind
        actor = self._last(subject or tuple(self.chunks[verb - 1].words))
        if kind == DONE:
            by = any(self.clauses.first_word(i) == "by" for i in range(verb, end + 1))
            return by and (bool(subject) or self._is_somebody_there(verb) or not english.is_thing(actor))
        if kind not in (DOING, DOES, DO):
            return False
        if subject:
            return english.is_being(actor) or roles.is_plain(actor)
        if not self.clauses.is_kind(verb - 1, NOUN):
            return kind == DOES or self.clauses.is_kind(verb - 1, PRONOUN, LINK, AND)
        return self._is_somebody_there(verb)

    def _is_somebody_there(self, verb: int) -> bool:
        """Tell whether somebody is named before a deed."""
        named = self.clauses.named(verb - 1) if self.clauses.is_kind(verb - 1, NOUN) else ()
        return any(self.clauses.is_somebody(self.chunks[i]) for i in named)


def _listed(word: str, some: Sequence[Parts]) -> Parts:
    return (word, *_and(some)) if some else ()


def _and(some: Sequence[Parts]) -> Parts:
    return tuple(_joined(some))


def _joined(some: Sequence[Parts]) -> Iterator[int | str]:
    for i, parts in enumerate(some):
        yield from ("and",) if i else ()
        yield from parts
