"""The grammar of a prompt, read off its small words: noun phrases, forms of verbs, prepositions and links.

Prompts are fragments more often than sentences, so there is no tree: a prompt is a row of chunks, and what a chunk is
to its neighbours is told by their kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from safegen.reader import english
from safegen.reader.grammar import WORDS
from safegen.reader.kinds import (
    ADVERB,
    AND,
    DETERMINER,
    DOES,
    HELPING,
    LINK,
    NOUN,
    PARTICLES,
    PLACE,
    PRONOUN,
    SIGN,
    STRANDED,
    VERBS,
    WHERE,
)
from safegen.reader.tagging import kind_of


@dataclass(frozen=True)
class Chunk:
    """A chunk of a prompt.

    Attributes:
        kind: one of those in `kinds.py`.
        first: its first word.
        last: its last word.
        head: the noun, the verb, or the first word.
    """

    kind: str
    first: int
    last: int
    head: int

    @property
    def words(self) -> range:
        return range(self.first, self.last + 1)


def parse(words: Sequence[str]) -> list[Chunk]:
    """Cut the words of a prompt, all in small letters, into chunks."""
    kinds: list[str] = []
    for at in range(len(words)):
        kinds.append(kind_of(words, at, kinds))
    chunks: list[Chunk] = []
    at = 0
    while at < len(words):
        chunk = _chunk(words, kinds, at)
        chunks.append(chunk)
        at = chunk.last + 1
    return chunks


def _chunk(words: Sequence[str], kinds: Sequence[str], first: int) -> Chunk:
    """Take the longest chunk that begins with a word."""

    def reach(at: int, *some: str) -> int:
        while at < len(words) and kinds[at] in some:
            at += 1
        return at

    kind, head = kinds[first], reach(first, ADVERB, HELPING)
    if head < len(words) and kinds[head] in VERBS:
        last = head
        while last + 1 < len(words) and (kinds[last + 1] == ADVERB or _is_particle(words, kinds, last + 1)):
            last += 1
        return Chunk(kinds[head], first, last, head)
    if kind in (DETERMINER, NOUN):
        last = max(reach(reach(first, DETERMINER), NOUN), first + 1) - 1
        return Chunk(NOUN, first, last, last)
    if kind == PLACE:
        return Chunk(PLACE, first, reach(first, PLACE) - 1, first)
    return Chunk(DOES if kind == HELPING else kind, first, first, first)


def _is_particle(words: Sequence[str], kinds: Sequence[str], at: int) -> bool:
    """Tell whether a word belongs to the verb before it, and has no noun of its own."""
    alone = at + 1 == len(kinds) or kinds[at + 1] in (SIGN, PLACE, WHERE, LINK, AND, *VERBS)
    alone = alone and words[at + 1 : at + 2] != ["of"]
    stranded = words[at] in STRANDED and words[at + 1 : at + 2] not in (["top"], ["front"])
    if kinds[at] != PLACE or words[at] in STRANDED:
        return kinds[at] == PLACE and alone and stranded
    phrasal = words[at] in PARTICLES and kinds[at - 1] in VERBS and not english.moves(words[at - 1])
    return words[at] in WORDS["particle"] and (alone or (phrasal and kinds[at + 1] in (DETERMINER, NOUN, PRONOUN)))
