"""Harmless deeds in the place of a harmful one: meet whom it was done to, look at something, or do nothing."""

from __future__ import annotations

from collections.abc import Iterator

from safegen.reader import english, roles
from safegen.reader.chunks import Chunk
from safegen.reader.clauses import NEARBY, Clauses
from safegen.reader.grammar import WORDS
from safegen.reader.kinds import AND, DO, DOES, DOING, DONE, HELPERS, LINK, NOUN, PLACE, PRONOUN, SIGN, TO_DO, VERBS
from safegen.reader.nouns import Parts
from safegen.reader.rewrites import ADMIRES, JOINED, LOST, STANDS, Rewrite

# Verbs that go with anybody, with any thing, and with nothing, in the forms that a verb of a prompt can have.
GREET = {DOING: "greeting", DONE: "greeted", DOES: "greets", DO: "greet", TO_DO: "to greet"}
ADMIRE = {DOING: "admiring", DOES: "admires", DO: "admire", TO_DO: "to admire"}
STAND = {DOING: "standing", DOES: "stands", DO: "stand"}


class Deeds:
    """The ways to change what somebody does in a prompt."""

    def __init__(self, clauses: Clauses) -> None:
        self.clauses, self.words = clauses, clauses.words

    def instead(self, verb: int, end: int) -> Iterator[Rewrite]:
        """Give the ways to change what somebody does, up to a chunk."""
        last, joint, cost = self.clauses.joint(end)
        of = self.clauses.first_word(end + 1) == "of"
        for begin, subject, changed in self._subjects(verb):
            for done, ease, kept in self._done(verb, end):
                linked = done and not subject and self.clauses.is_kind(verb - 1, AND)
                first = self.clauses.chunks[verb].first if linked else begin
                if not done and self.clauses.is_kind(verb - 2, LINK):  # a clause without what is done is none
                    continue
                near = "by" if "near" in done else "near"
                if kept == end or not self.clauses.needs(end + 1):
                    joined = tuple(near if part == "near" else part for part in joint)
                    yield Rewrite(first, last, (*subject, *done, *joined), changed + ease + cost)
                elif of and self.words[self.clauses.chunks[end + 1].last + 1] not in WORDS["owner"]:
                    behind = self.clauses.chunks[end + 1].last
                    yield Rewrite(first, behind, (*subject, *done, near), changed + ease + NEARBY)
        actor, thing = self.clauses.chunk(verb - 1), self.clauses.chunks[end]
        begins = self.clauses.is_kind(verb - 1, NOUN) and (verb == 1 or self.clauses.is_kind(verb - 2, SIGN))
        suffers = begins and thing.kind == NOUN and (self._is_aim(verb, end) or self.clauses.is_own(thing))
        if actor is not None and suffers and not self._can_meet(actor):
            for form, ease in self.clauses.forms(thing, whole=True):
                yield Rewrite(actor.first, last, (*form, *joint), ease + ADMIRES + cost)

    def _subjects(self, verb: int) -> Iterator[tuple[int, Parts, float]]:
        """Give where a deed begins, and what stands there for whoever does it."""
        before, place = self.clauses.chunk(verb - 1), self.clauses.chunk(verb - 2)
        first = self.clauses.chunks[verb].first
        yield (before.first if before is not None and before.kind in (AND, PLACE) else first), (), 0.0
        if before is not None and before.kind == NOUN:
            apart = place is not None and place.kind == PLACE and not self.clauses.needs(verb - 2)
            if place is not None and apart and self.clauses.is_harmful(before):
                yield place.first, (), 0.0
            for form, cost in self.clauses.forms(before):
                yield before.first, form, cost
            *_, actor = self.clauses.named(verb - 1)
            if actor != verb - 1 and self.clauses.is_harmful(self.clauses.chunks[actor]):
                between = range(self.clauses.chunks[actor].last + 1, first)
                for form, cost in self.clauses.forms(self.clauses.chunks[actor]):
                    yield self.clauses.chunks[actor].first, (*form, *between), cost
            part = self.clauses.chunk(verb - 3)
            of = part is not None and part.kind == NOUN and self.clauses.first_word(verb - 2) == "of"
            if part is not None and of and self.clauses.is_harmful(part) and self.clauses.is_somebody(before):
                yield part.first, tuple(before.words), 0.0

    def _done(self, verb: int, end: int) -> Iterator[tuple[Parts, float, int]]:
        """Give what may be done in a deed's place: somebody is met, something is looked at, or nothing is done.

        The last of each three is the chunk that stays, -1 for none.
        """
        deed, chunks = self.clauses.chunks[verb], self.clauses.chunks
        helping = tuple(i for i in range(deed.first, deed.head) if self.words[i] in HELPERS)
        for at in range(verb + 1, end + 1):
            others = LOST * (self.clauses.lost(verb + 1, at - 1) + self.clauses.lost(at + 1, end))
            forms = list(self.clauses.forms(chunks[at], whole=True))
            for before, ease in self._done_to(verb, at, helping):
                yield from (((*before, *form), cost + others + ease, at) for form, cost in forms)
        lost = LOST * self.clauses.lost(verb + 1, end)
        if deed.kind in (DOES, DO) or (deed.kind == DOING and helping and self.words[helping[0]] in ("is", "are")):
            plural = self.words[deed.head] in ("are", "were", "have")
            yield (*helping, STAND[DO if plural else deed.kind]), STANDS + lost, -1
        elif not (deed.kind == DONE and self.clauses.first_word(end + 1) == "by"):
            yield (), lost, -1

    def _done_to(self, verb: int, at: int, helping: Parts) -> Iterator[tuple[Parts, float]]:
        """Give the words before whom a deed was done to, or what: *greeting*, *and*, *admiring*, *near*."""
        deed, noun, place = self.clauses.chunks[verb], self.clauses.chunks[at], self.clauses.chunks[at - 1]
        by = deed.kind == DONE and place.kind == PLACE and self.words[place.last] == "by"
        acts, aim = self._acts(verb), self._is_aim(verb, at)
        if self._is_met(verb, at):
            if self._suffers(verb) if by else deed.kind != DONE and acts:
                yield (*helping, GREET[deed.kind], *(("by",) if by else ())), 0.0
            both = noun.kind == NOUN and self.clauses.is_kind(verb - 1, NOUN)
            if both and deed.kind == DOING and not helping and acts:
                yield ("and",), JOINED
        elif deed.kind in ADMIRE and aim and acts and self._is_sight(noun):
            yield (*helping, ADMIRE[deed.kind]), ADMIRES
        if deed.kind in STAND and noun.kind in (NOUN, PRONOUN) and aim and not acts and self._is_there(verb - 1):
            stands: Parts = () if deed.kind == DOING and not helping else (*helping, STAND[deed.kind])
            yield (*stands, "near"), NEARBY

    def _is_met(self, verb: int, at: int) -> bool:
        """Tell whether a chunk names somebody to whom a deed is done, and not who is only in a place or meant again."""
        noun = self.clauses.chunks[at]
        again = noun.kind == PRONOUN and any(
            self.clauses.is_kind(i - 1, AND) and self.clauses.is_kind(i, *VERBS) for i in range(verb + 2, at)
        )
        within = self.clauses.first_word(at - 1) in roles.WITHIN - {"on"} and at - 1 > verb + 1
        somebody = self.clauses.is_somebody(noun) and self.words[noun.head] not in roles.UNMET
        return somebody and not again and not within

    def _can_meet(self, actor: Chunk) -> bool:
        """Tell whether whoever does a deed may stay: any person, and an animal that is not the harm itself."""
        noun = self.words[actor.head]
        acts = noun.endswith(("er", "ers")) and not english.is_thing(noun) and not english.is_body(noun)
        return acts or (
            self.clauses.is_somebody(actor) and (english.is_person(noun) or not self.clauses.is_harmful(actor))
        )

    def _is_aim(self, verb: int, at: int) -> bool:
        """Tell whether a chunk is what a deed is done to."""
        place = self.clauses.chunks[at - 1]
        aimed = at == verb + 2 and place.kind == PLACE and self.words[place.last] in roles.AIMED
        return at == verb + 1 or aimed

    def _is_sight(self, chunk: Chunk) -> bool:
        return chunk.kind == NOUN and not self.clauses.is_bodily(chunk) and not self.clauses.is_harmful(chunk)

    def _acts(self, verb: int) -> bool:
        """Tell whether somebody may be there who does a deed."""
        at = verb - 1 - (self.clauses.is_kind(verb - 1, LINK) and self.clauses.first_word(verb - 1) in roles.RELATIVE)
        if not self.clauses.is_kind(at, NOUN):
            return self.clauses.chunk(at) is not None
        alone = self.clauses.is_kind(verb, TO_DO)
        named = [self.clauses.chunks[i] for i in ([at] if alone else self.clauses.named(at))]
        noun = self.words[named[-1].head]
        lifeless = noun in roles.BEARERS | roles.CONTAINERS or roles.is_of_a_body(noun) or english.is_thing(noun)
        return not lifeless or any(map(self.clauses.is_somebody, named))

    def _is_there(self, at: int) -> bool:
        """Tell whether a chunk names a thing that may be near another."""
        noun = self.words[self.clauses.chunks[at].head] if self.clauses.is_kind(at, NOUN) else ""
        return bool(noun) and noun not in roles.BEARERS and not roles.is_of_a_body(noun)

    def _suffers(self, verb: int) -> bool:
        """Tell whether somebody stands before a deed, to whom it can be done."""
        for at in range(verb - 1, -1, -1):
            if self.clauses.is_kind(at, SIGN, LINK):
                break
            if self.clauses.is_somebody(self.clauses.chunks[at]):
                return True
        return False
