"""The extent of a harmful phrase: from its first harmful word to everything that depends on the last one.

A deed takes with it whom it is done to, by whom and with what, and whoever does it if their very name is harmful.
"""

from __future__ import annotations

from collections.abc import Iterator

from safegen.reader import english, roles
from safegen.reader.kinds import ADVERB, AND, DONE, LINK, NOUN, PLACE, PRONOUN, REFLEXIVE, SIGN, TO_DO, VERBS
from safegen.reader.situation import WARM, Situation


class Extents:
    """The harmful phrases of a prompt.

    Args:
        situation: the prompt.
        plain: whether somebody near the situation belongs to it, too, so that they may have a plain name.
    """

    def __init__(self, situation: Situation, *, plain: bool = False) -> None:
        self.situation, self.plain = situation, plain
        self.clauses, self.chunks, self.words = situation.clauses, situation.chunks, situation.words

    def phrases(self) -> Iterator[tuple[int, int]]:
        """Give the first and the last chunk of every harmful phrase, one between two signs."""
        at = 0
        while at < len(self.chunks):
            if self.chunks[at].kind == SIGN:
                at += 1
                continue
            first, last = self.clauses.segment(at)
            hot = [i for i in range(first, last + 1) if any(map(self.situation.is_hot, self.chunks[i].words))]
            if hot:
                end = self._end(hot[0], hot[-1], last)
                yield self._begin(hot[0], end, first), end
            at = last + 1

    def _end(self, begin: int, end: int, last: int) -> int:
        while end < last and (further := self._further(begin, end)) > end:
            end = min(further, last)
        return end

    def _further(self, begin: int, end: int) -> int:
        """Find the chunk with which what follows a phrase ends, where it belongs to it; else the phrase's own end."""
        chunk, behind, goal = self.chunks[end], self.clauses.chunk(end + 1), self.clauses.chunk(end + 2)
        if behind is None or behind.kind in (LINK, SIGN):
            return end
        if chunk.kind in VERBS and behind.kind in (NOUN, PRONOUN, REFLEXIVE):
            return end + 1
        if behind.kind not in (PLACE, AND) or goal is None or goal.kind in (SIGN, LINK):
            return end + (self.situation.height(end + 1) >= WARM)
        word = self.words[behind.first]
        goes = word in roles.DIRECTIONS | roles.AFTER | {"to"} and self.clauses.is_somebody(goal)
        deed = any(self.chunks[i].kind in VERBS for i in range(begin, end + 1))
        belongs = word == "of" or (goes and deed) or self.situation.height(end + 2) >= WARM
        belongs = belongs or self.clauses.is_bodily(goal)
        tool = goal.kind == NOUN and (self._is_tool(end) or self._is_pair(end))
        return end + 2 if belongs or tool else self._by(begin, end)

    def _by(self, begin: int, end: int) -> int:
        """Find the chunk that says by whom a deed is done, behind places only; else the phrase's own end."""
        done = any(self.chunks[i].kind == DONE for i in range(begin, end + 1))
        at = end + 1
        while done and self.clauses.is_kind(at, PLACE) and self.clauses.is_kind(at + 1, NOUN):
            if self.clauses.first_word(at) == "by":
                return at + 1
            at += 2
        return end

    def _is_tool(self, end: int) -> bool:
        """Tell whether it is said with what a deed is done: right behind it, or whom it is done to."""
        deed = end if self.chunks[end].kind in VERBS else end - 1
        noun = self.words[self.chunks[end + 2].head]
        thing = not english.is_being(noun) and not english.is_worn(noun)
        return thing and self.clauses.first_word(end + 1) == "with" and self.clauses.is_kind(deed, *VERBS)

    def _is_pair(self, end: int) -> bool:
        """Tell whether another noun is joined to one of which nothing can stay."""
        gone = self.clauses.is_kind(end, NOUN) and end not in self.situation.named
        joined = self.clauses.first_word(end + 1) == "and" and not self.clauses.is_kind(end + 3, *VERBS)
        return gone and joined

    def _begin(self, begin: int, end: int, first: int) -> int:
        """Find where a phrase begins: at a clause about what is said, or with what its first words hang on."""
        for link in range(first + 1, begin):
            told = self.clauses.first_word(link) == "that" and self.clauses.is_kind(link - 1, *VERBS)
            empty = not any(self.clauses.is_kind(i, *VERBS) for i in range(link, begin))
            meanwhile = self.clauses.first_word(link) in roles.MEANWHILE | {"where"}
            alone = empty and meanwhile and not any(self.clauses.is_kind(i, *VERBS) for i in range(begin, end + 1))
            if self.clauses.is_kind(link, LINK) and (told or alone or self.clauses.first_word(link) == "whose"):
                return link
            if self.clauses.first_word(link) == "that" and (verb := self._telling(link, first)) is not None:
                return verb
        begin += self.clauses.is_kind(begin, PRONOUN) and begin < end
        while begin > first and self._hangs(begin):
            begin -= 1
        if self.chunks[begin].kind == TO_DO and self._telling(begin, first) == begin - 2:
            begin -= 2
        return begin

    def _telling(self, at: int, first: int) -> int | None:
        """Find the deed that is nothing without what it tells somebody: *telling her that*, *forcing her to*."""
        verb = next((i for i in range(at - 1, first - 1, -1) if self.chunks[i].kind in (LINK, *VERBS)), None)
        if verb is None or self.chunks[verb].kind == LINK:
            return None
        aim = self.clauses.chunk(verb + 1)
        told = self.chunks[verb].kind == DONE or (verb + 1 < at and aim is not None and self.clauses.is_somebody(aim))
        return verb if told else None

    def _hangs(self, at: int) -> bool:
        """Tell whether what is before a chunk goes with it."""
        before, named = self.chunks[at - 1], self.situation.named.get(at - 1)
        if self.chunks[at].kind == NOUN:
            held = self.clauses.is_kind(at - 2, NOUN) and at - 2 not in self.situation.named
            led = before.kind == PLACE and (held or self.words[before.first] != "of")
            return led or (before.kind in VERBS and at not in self.situation.named)
        if before.kind == NOUN and self.chunks[at].kind in VERBS:
            someone = self.clauses.is_somebody(before) and self.situation.height(at - 1) >= WARM
            aim = self.clauses.is_kind(at - 2, PLACE, *VERBS) and self.clauses.first_word(at - 2) != "of"
            return (named is None or not named.whole or (self.plain and someone)) and not aim
        return before.kind in (ADVERB, AND) or (before.kind == PLACE and self.chunks[at].kind in VERBS)
