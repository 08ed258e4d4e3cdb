"""The phrases of a text, by its words' parts of speech: noun phrases, a verb's object, the rest of its clause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safegen.reader import grammar

if TYPE_CHECKING:
    from safegen.reader.words import Word

_, VERB, NOUN, ADJECTIVE = range(len(grammar.TAGS))
PREPOSITIONS = grammar.WORDS["preposition"]
LINKING = grammar.WORDS["link"] | {"be", "being", "been", "has", "have", "had"}
REFLEXIVE = ("self", "selves")
Run = tuple[int, int]  # first and last word


@dataclass(frozen=True)
class Syntax:
    """The words of a text, each with its part of speech, an index into `grammar.TAGS`."""

    words: Sequence[Word]
    tags: Sequence[int]

    def text(self, at: int) -> str:
        """Give a word in lower case; outside the text, give a comma."""
        return self.words[at].text.lower() if 0 <= at < len(self.words) else ","

    def span(self, run: Run) -> tuple[int, int]:
        """Give the characters of a run of words."""
        return self.words[run[0]].span[0], self.words[run[1]].span[1]

    def is_(self, at: int, *tags: int) -> bool:
        """Tell whether there is a word at a place, and it is of one of the given parts of speech."""
        return 0 <= at < len(self.words) and self.words[at].spoken and self.tags[at] in tags

    def is_verb(self, at: int) -> bool:
        """Tell whether a word is a verb that acts, not one that only links; neighbours decide if it may be a noun."""
        if self.text(at) in LINKING:
            return False
        if not grammar.acts(self.text(at)) and self.is_(at - 1, VERB) and self.text(at - 1).endswith("ing"):
            return False  # as in "spraying graffiti"
        between = self.is_(at, NOUN) and self.is_(at - 1, NOUN) and self.text(at + 1) in grammar.DETERMINERS
        return between or self.is_(at, VERB)  # between nouns, as in "the king clubs a seal"

    def led(self, at: int) -> bool:
        """Tell whether a word begins a noun phrase: an article, a possessive or a number."""
        return self.text(at) in grammar.DETERMINERS | grammar.WORDS["count"] or self.text(at).isdecimal()

    def noun_phrase(self, at: int) -> Run:
        """Find the noun phrase around a noun or an adjective, with the article, possessive or number that begins it."""
        first = last = at
        while self.is_(last + 1, NOUN) or (self._joins(last + 1) and self.is_(last + 2, NOUN, ADJECTIVE)):
            last += 2 if self._joins(last + 1) else 1
        while self.is_(last, ADJECTIVE) and self.is_(last + 1, NOUN, ADJECTIVE):
            last += 1
            while self.is_(last + 1, NOUN):
                last += 1
        while self.is_(first - 1, NOUN, ADJECTIVE) or (self._joins(first - 1) and self.is_(first - 2, NOUN, ADJECTIVE)):
            first -= 2 if self._joins(first - 1) else 1
        return (first - 1 if self.led(first - 1) else first), last

    def _joins(self, at: int) -> bool:
        """Tell whether a sign is a hyphen that joins two words."""
        if not (0 < at < len(self.words) - 1) or self.words[at].text != "-":
            return False
        return self.words[at + 1].span[0] - self.words[at - 1].span[1] == 1

    def verb(self, at: int) -> Run:
        """Find a verb with its particle, *guns down*, or its reflexive pronoun, *hangs itself*."""
        behind = self.text(at + 1)
        return at, at + (behind in grammar.WORDS["particle"] or behind.endswith(REFLEXIVE))

    def object_of(self, verb: Run) -> Run | None:
        """Find the noun phrase or pronoun right after a verb."""
        at = verb[1] + 1
        if self.led(at):
            inner = at + 1
            return self.noun_phrase(inner) if self.is_(inner, NOUN, ADJECTIVE, VERB) else None
        if self.text(at) in grammar.WORDS["pronoun"]:
            return at, at
        if self.is_(at, VERB) and grammar.acts(self.text(at)) and self.is_(at + 1, NOUN):  # as in "fleeing people"
            at += 1
        return self.noun_phrase(at) if self.is_(at, NOUN, ADJECTIVE) else None

    def clause_end(self, at: int) -> int:
        """Find the last word before the next sign, or before a word that begins another clause."""
        last = at
        while last < self.clause(at)[1] and self.text(last + 1) not in grammar.CLAUSES:
            last += 1
        return last

    def clause(self, at: int) -> Run:
        """Find all words from the sign before a word to the sign after it."""
        first = at
        while first > 0 and (self.words[first - 1].spoken or self._joins(first - 1)):
            first -= 1
        last = at
        while last + 1 < len(self.words) and (self.words[last + 1].spoken or self._joins(last + 1)):
            last += 1
        return first, last

    def verb_of(self, at: int) -> int | None:
        """Find the verb that a word belongs to: itself, or the nearest one before it in its clause."""
        for i in range(at, -1, -1):
            if not self.words[i].spoken and not self._joins(i):
                return None
            if self.is_verb(i):
                return i
        return None
