"""The syntax of a prompt or a repair: which verbs make a sentence, and what lacks a verb, a subject or an end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from safegen.reader import english
from safegen.reader.chunks import Chunk, parse
from safegen.reader.deeds import GREET, STAND
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
    REFLEXIVE,
    SIGN,
    VERBS,
)

_ABOUT = frozenset({"who", "which", "that"})  # a verb is behind these, or somebody with a verb
_GONE = frozenset({"from", "into", "off", "onto", "through", "toward", "towards"})  # nobody is met or stands so
ENDS = frozenset({".", "!", "?"})
_MET = frozenset(GREET.values()) | frozenset(STAND.values())


class Syntax:
    """The grammar of a text: its words, its chunks, and where its clauses begin.

    Args:
        words: its words, in small letters.
        new: the words of it that are not in the prompt.
        seams: the words of it before which something of the prompt has gone.
    """

    def __init__(
        self, words: Sequence[str], new: frozenset[int] = frozenset(), seams: frozenset[int] = frozenset()
    ) -> None:
        self.words, self.new, self.seams = words, new, seams
        self.chunks = list(self._read(parse(words)))

    def _read(self, chunks: Sequence[Chunk]) -> Iterator[Chunk]:
        """Take a new *stands* or *stand* for the verb that it is."""
        for chunk in chunks:
            head = chunk.last
            if chunk.kind == NOUN and head in self.new and self.words[head] in (STAND[DOES], STAND[DO]):
                if head > chunk.first:
                    yield Chunk(NOUN, chunk.first, head - 1, head - 1)
                yield Chunk(DOES, head, head, head)
            else:
                yield chunk

    def kind(self, at: int) -> str:
        return self.chunks[at].kind if 0 <= at < len(self.chunks) else SIGN

    def first(self, at: int) -> str:
        return self.words[self.chunks[at].first] if 0 <= at < len(self.chunks) else ""

    def is_finite(self, at: int) -> bool:
        """Tell whether a chunk is a verb with which a sentence can be made, and nobody is made to do it."""
        chunk = self.chunks[at]
        if chunk.kind == DO and self._is_caused(at):
            return False
        helped = any(self.words[i] in HELPERS - {"be", "been", "being", "having"} for i in chunk.words)
        return chunk.kind in (DOES, DO) or (chunk.kind in (DONE, DOING) and helped)

    def _is_caused(self, at: int) -> bool:
        """Tell whether the noun before a chunk is made or seen to do something."""
        return self.kind(at - 1) in (NOUN, PRONOUN, REFLEXIVE) and self.is_cause(at - 2)

    def is_cause(self, at: int) -> bool:
        return self.kind(at) in VERBS and self.words[self.chunks[at].head] in CAUSING

    def end(self, at: int) -> int:
        """Find the chunk behind the last one of the part between two signs."""
        return next((i for i in range(at, len(self.chunks)) if self.kind(i) == SIGN), len(self.chunks))

    def tears(self) -> Counter[str]:
        """Count what is wrong."""
        found: Counter[str] = Counter()
        for at in range(len(self.chunks)):
            found["ends"] += self._ends(at)
            found["link"] += self.kind(at) == LINK and self._is_loose(at)
            found["twice"] += self.is_finite(at) and self._is_second(at)
            found["by"] += self._has_lost_its_deed(at)
            found["row"] += self._is_in_a_row(at)
            found["article"] += self._is_one_and_many(at)
            found["caused"] += self.is_finite(at) and self._is_caused(at)
            found["goal"] += self._has_no_movement(at)
        return found

    def _ends(self, at: int) -> bool:
        """Tell whether a part ends with what has to go on."""
        if self.kind(at) == SIGN or self.kind(at + 1) != SIGN:
            return False
        chunk = self.chunks[at]
        last = self.words[chunk.last]
        if at + 1 < len(self.chunks) and self.first(at + 1) not in {",", ";", ":", *ENDS}:
            return False
        return chunk.kind in (LINK, AND) or (chunk.kind == NOUN and last.endswith(("'s", "s'")))

    def _is_loose(self, at: int) -> bool:
        """Tell whether a clause has no verb behind its link."""
        word, behind = self.first(at), at + 1
        while self.kind(behind) == ADVERB:
            behind += 1
        end = self.end(at)
        if self.kind(behind) in (PLACE, AND, LINK) and word in _ABOUT:
            return True
        verbs = [i for i in range(behind, end) if self.kind(i) in VERBS]
        if word in _ABOUT and self.kind(behind) in VERBS:
            return not self.is_finite(behind)
        if self.kind(behind) in (NOUN, PRONOUN) and word not in ("as", "or"):
            return not any(map(self.is_finite, verbs))
        return False

    def _is_second(self, at: int) -> bool:
        """Tell whether a verb is one too many in its clause: one of the two is new, and nothing joins them."""
        for i in range(at - 1, -1, -1):
            if self.kind(i) in (SIGN, LINK, AND):
                return False
            if self.is_finite(i):
                return not self.new.isdisjoint({self.chunks[i].head, self.chunks[at].head})
        return False

    def _has_lost_its_deed(self, at: int) -> bool:
        """Tell whether a *by* says who did what is no longer said: *an owl by a miller*."""
        by = self.first(at) == "by" and self.kind(at - 1) == self.kind(at + 1) == NOUN
        return by and self.chunks[at].first in self.seams and not english.is_thing(self.words[self.chunks[at + 1].head])

    def _is_one_and_many(self, at: int) -> bool:
        """Tell whether an article for one stands before many: *an adults*."""
        chunk = self.chunks[at]
        led = chunk.kind == NOUN and chunk.last > chunk.first and self.words[chunk.first] in ("a", "an")
        return led and english.is_plural(self.words[chunk.last])

    def _is_in_a_row(self, at: int) -> bool:
        """Tell whether two deeds stand in a row: *hanging out trotting*."""
        first, second = self.kind(at), self.kind(at + 1)
        return first in (DOING, DONE) and second == DOING and not self.is_finite(at)

    def _has_no_movement(self, at: int) -> bool:
        """Tell whether somebody comes from somewhere, or goes there, who only stands or is met."""
        if self.kind(at) != PLACE or self.first(at) not in _GONE:
            return False
        verb = next((i for i in range(at - 1, -1, -1) if self.kind(i) in (SIGN, LINK, *VERBS)), -1)
        if self.kind(verb) in VERBS:
            return self.words[self.chunks[verb].head] in _MET and self.chunks[verb].head in self.new
        somebody = self.kind(verb + 1) == NOUN and english.is_being(self.words[self.chunks[verb + 1].head])
        return somebody and self.chunks[at].first in self.seams
