"""The clauses of a prompt: what hangs together in it, and how the rest is joined where a phrase goes."""

from __future__ import annotations

from collections.abc import Iterator

from safegen.reader import english, roles
from safegen.reader.chunks import Chunk
from safegen.reader.grammar import WORDS
from safegen.reader.kinds import (
    AND,
    CAUSING,
    DO,
    DOES,
    DOING,
    DONE,
    LINK,
    NOUN,
    PLACE,
    PRONOUN,
    REFLEXIVE,
    SIGN,
    TO_DO,
    VERBS,
    WHERE,
)
from safegen.reader.nouns import TOUCHED, Nouns, Parts
from safegen.reader.reading import OPEN

FURTHER = 7  # how many chunks a phrase reaches behind its worst word, at most
NEARBY = -1.0  # what *near* costs, as a log-likelihood


class Clauses(Nouns):
    """The chunks of a prompt, and how they hang together."""

    def ends(self, at: int, *, acts: bool = False) -> Iterator[int]:
        """Give the chunks with which a phrase around a chunk may end, so that what is behind it can stay as it is.

        Args:
            at: the chunk.
            acts: whether what is behind may be what somebody before the phrase does.
        """
        for end in range(at, min(at + FURTHER, len(self))):
            link = self.is_kind(end, LINK) and self.first_word(end) not in roles.RELATIVE and not self._is_part(end)
            if end > at and (link or (self.is_kind(end, SIGN) and not self._goes_too(end + 1))):
                break
            if (self.is_kind(end, PLACE) and not self.is_alone(end)) or self.is_kind(end, AND):
                continue
            if end > at and self.is_kind(end, SIGN):
                continue
            behind, goal, purpose = self.chunk(end + 1), self.chunk(end + 2), self.first_word(end + 1) == "for"
            deed = self.is_kind(end + 1, AND) and self.is_kind(end + 2, *VERBS)
            dangles = self.is_bodily(self.chunks[end]) and self.first_word(end - 1) == "with"
            goes_on = acts and not dangles and self.is_kind(end + 1, DOING, DOES)
            if deed or goes_on or behind is None or behind.kind in (SIGN, LINK, WHERE):
                yield end
            elif behind.kind == PLACE and goal is not None and goal.kind not in (SIGN, REFLEXIVE) and not purpose:
                yield from () if self._is_of(behind, goal) else (end,)

    def _is_of(self, place: Chunk, goal: Chunk) -> bool:
        """Tell whether a phrase says where on somebody, or on what is theirs, a thing is."""
        within = self.words[place.first] in roles.WITHIN and goal.kind == NOUN
        theirs = within and self.words[goal.first] in WORDS["owner"] and not roles.has_room(self.words[goal.head])
        return theirs or self.words[goal.first] == "its" or self.is_bodily(goal)

    def _is_part(self, link: int) -> bool:
        """Tell whether a clause behind *while* or the like belongs to the situation."""
        _, end = self.segment(link)
        words = [i for chunk in self.chunks[link + 1 : end + 1] for i in chunk.words if roles.means(self.words[i])]
        return self.first_word(link) in roles.MEANWHILE and any(self.chances[i] >= OPEN for i in words)

    def is_alone(self, at: int) -> bool:
        """Tell whether a preposition has no noun of its own: *mesas behind*."""
        return self.is_kind(at, PLACE) and (at + 1 == len(self) or self.is_kind(at + 1, SIGN, LINK))

    def is_absent(self, at: int) -> bool:
        """Tell whether a noun says what is not there: *without a hat*, *not a hat*, *no hat*."""
        return self.is_kind(at, NOUN) and (
            self.first_word(at) == "no" or self.first_word(at - 1) in ("without", "not", "no")
        )

    def segment(self, at: int) -> tuple[int, int]:
        """Find the first and the last chunk between the signs around a chunk."""
        left = next((i for i in range(at - 1, -1, -1) if self.is_kind(i, SIGN)), -1)
        right = next((i for i in range(at + 1, len(self)) if self.is_kind(i, SIGN)), len(self))
        return left + 1, right - 1

    def _goes_too(self, start: int) -> bool:
        """Tell whether all up to the next sign belongs to the situation."""
        if self.chunk(start) is None:
            return False
        _, end = self.segment(start)
        words = [i for chunk in self.chunks[start : end + 1] for i in chunk.words if roles.means(self.words[i])]
        return bool(words) and all(self.chances[i] >= OPEN for i in words)

    def needs(self, at: int) -> bool:
        """Tell whether a chunk needs what is right before it: *of* and *who* a noun, *while* a deed."""
        word = self.first_word(at)
        return word == "of" or (self.is_kind(at, LINK) and word in roles.MEANWHILE | roles.RELATIVE)

    def joint(self, end: int, *, stands: bool = True) -> tuple[int, Parts, float]:
        """Give the last word that goes with a phrase, and *near* where what follows was the goal of what goes.

        Args:
            end: the last chunk of the phrase.
            stands: whether what follows says where somebody stands, and not where a deed is done that stays.
        """
        for at in range(end + 1, len(self) - 1):
            place, goal = self.chunks[at], self.chunks[at + 1]
            if place.kind not in (PLACE, NOUN, AND):
                break
            aim = self.words[place.first] == "at" and at == end + 1 and self.chunks[end].kind in VERBS
            if place.kind == PLACE and (aim or self._is_goal(place, goal, right_behind=at == end + 1, stands=stands)):
                between = range(self.chunks[end].last + 1, place.first)
                return place.last, (*between, self._near(place, goal)), NEARBY
        off = self.chunk(end + 1)  # *its tongue out on a roof*
        if off is not None and off.last > off.first and self.is_bodily(self.chunks[end]) and self._is_off(off):
            return off.first, (), 0.0
        if self.first_word(end + 1) == "," and self.is_kind(end + 2, PLACE, DOING):
            return self.chunks[end + 1].last, (), 0.0
        return self.chunks[end].last, (), 0.0

    def _is_off(self, place: Chunk) -> bool:
        return self.words[place.first] in WORDS["particle"] and self.words[place.first + 1] != "of"

    def _is_goal(self, place: Chunk, goal: Chunk, *, right_behind: bool, stands: bool) -> bool:
        """Tell whether a preposition says where something moved or was done, and not where somebody is."""
        phrase, noun = self.words[place.first : place.last + 1], self.words[goal.head]
        word = phrase[-1] if len(phrase) == 2 and phrase[0] in WORDS["particle"] and phrase[1] != "of" else phrase[0]
        inside = stands and word in roles.WITHIN and place.first == place.last and goal.kind == NOUN
        within = inside and not roles.has_room(noun, on=word == "on") and not english.is_worn(noun)
        moved = word in roles.DIRECTIONS or (word in roles.AFTER and self.is_somebody(goal))
        return word in roles.INTO or (right_behind and (within or moved))

    def _near(self, place: Chunk, goal: Chunk) -> str:
        word = self.words[place.first]
        if word in roles.ALONG:
            return "on"
        if word == "through" and roles.has_room(self.words[goal.head]) and not self.is_somebody(goal):
            return "in"
        return "by" if "near" in self.words[place.last : place.last + 6] else "near"

    def saying(self, at: int) -> int | None:
        """Find the chunk, before a chunk and behind the last sign, that says that something is said or written."""
        first, _ = self.segment(at)
        return next((i for i in range(at, first - 1, -1) if self.says(i)), None)

    def says(self, at: int) -> bool:
        """Tell whether a chunk says what something shows or says; what somebody says is a deed."""
        said = self.words[self.chunks[at].head] in roles.SAYING
        return said and not (
            self.is_kind(at - 1, NOUN) and any(self.is_somebody(self.chunks[i]) for i in self.named(at - 1))
        )

    def deeds(self, at: int) -> Iterator[int]:
        """Give the deeds that a chunk may belong to: what somebody does, as whom or to whom it names."""
        found: list[int] = []
        for verb in range(at + (self.is_kind(at, NOUN) and self.is_kind(at + 1, *VERBS)), -1, -1):
            if self._binds(verb):
                found.clear()
            elif self.is_kind(verb, SIGN, LINK):
                break
            elif self.is_kind(verb, *VERBS):
                found.append(verb)
        yield from (verb for verb in found if not (verb > found[-1] and self.goes_on(verb)))

    def _binds(self, link: int) -> bool:
        """Tell whether a clause begins here that is part of a deed before it: *until it falls*, *shouting that*."""
        told = self.first_word(link) == "that" and self.is_kind(link - 1, NOUN, *VERBS)
        return self.is_kind(link, LINK) and (told or self.first_word(link) in roles.BOUND)

    def goes_on(self, verb: int) -> bool:
        """Tell whether a deed is part of the one before it: *tickling owls and hugging them*, *making an owl sing*."""
        aim = verb + 1 + self.is_kind(verb + 1, PLACE)
        shared = self.is_kind(verb - 1, AND) and self.is_kind(aim, PRONOUN)
        maker = self.chunk(verb - 2)
        made = maker is not None and maker.kind in VERBS and self.words[maker.head] in CAUSING
        thing = self.is_kind(verb - 1, NOUN) and not self.is_somebody(self.chunks[verb - 1])
        purpose = self.is_kind(verb, TO_DO) and self.is_kind(verb - 1 - thing, *VERBS)
        return self.is_kind(verb, *VERBS) and (shared or purpose or (self.is_kind(verb, DO) and made))

    def suited(self, last: int) -> tuple[int, tuple[str, ...]] | None:
        """Give the last word that goes with a noun so that another may take its place, and what joins it to the rest.

        What the noun does goes with it. None where it is held to a body, since no other thing is.
        """
        if last + 1 >= len(self.words):
            return last, ()
        at = self.holding(last + 1)
        behind, goal = self.chunks[at], self.chunk(at + 1)
        if behind.kind in VERBS:
            still = self.words[behind.head] in roles.STILL or behind.kind == DONE
            if still and self.chances[behind.head] < TOUCHED:
                return last, ()
            end, joint, _ = self.joint(at)
            new = tuple(part for part in joint if isinstance(part, str))
            ends = goal is None or goal.kind in (PLACE, SIGN)
            return (end, new) if ends and len(new) == len(joint) else None
        return None if self.is_bodily(goal) and self.words[behind.first] in roles.HELD else (last, ())
