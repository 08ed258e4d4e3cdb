"""Torn English: grammar that was right in the prompt and is wrong in its repair.

A prompt may be a fragment, so only what the repair has made counts: a verb without its subject or a second one, a
clause or a verb that has lost what it needs, and words that meet where something between them has gone.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence

from safegen.reader import english, roles
from safegen.reader.chunks import Chunk
from safegen.reader.kinds import (
    ADVERB,
    DO,
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
from safegen.reader.syntax import ENDS, Syntax

UNSURE = 0.25  # what a tear counts that may be none
LONG = 200  # words between the first and the last change that are compared; more would take seconds


class Tears:
    """The grammar of one prompt, to compare its repairs with.

    Args:
        words: the words of the prompt, in small letters.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words, self.before = words, Syntax(words)
        self.at = {i: at for at, chunk in enumerate(self.before.chunks) for i in chunk.words}
        self.had = self.before.tears()

    def count(self, words: Sequence[str]) -> float:
        """Tell how torn a repair is; a sentence without its verb may still be a title."""
        return sum(UNSURE if tear == "verb" else 1.0 for tear in self.found(words).elements())

    def found(self, words: Sequence[str]) -> Counter[str]:
        """Count what is wrong with a repair, by its words."""
        kept = self._kept(words)
        seams = frozenset(i for i in kept if i and kept.get(i - 1) != kept[i] - 1)
        after = Syntax(words, frozenset(set(range(len(words))) - set(kept)), seams)
        found = after.tears() - self.had
        found["merged"] = sum(self._is_merged(chunk, kept) for chunk in after.chunks)
        found["article"] += sum(self._has_lost_its_noun(i, words, kept) for i in range(len(words) - 1))
        found["object"] = sum(self._has_lost_its_aim(at, after, kept) for at in range(len(after.chunks)))
        found["told"] = sum(self._has_lost_its_clause(at, after, kept) for at in range(len(after.chunks)))
        found["verb"] = self._verbless(after)
        return +found

    def _kept(self, words: Sequence[str]) -> dict[int, int]:
        """Find which words of a repair stood in the prompt, and where."""
        shorter = min(len(words), len(self.words))
        head = next((i for i in range(shorter) if words[i] != self.words[i]), shorter)
        tail = next((i for i in range(shorter - head) if words[-1 - i] != self.words[-1 - i]), shorter - head)
        kept = {i: i for i in range(head)}
        kept |= {len(words) - 1 - i: len(self.words) - 1 - i for i in range(tail)}
        ours, theirs = words[head : len(words) - tail], self.words[head : len(self.words) - tail]
        if max(len(ours), len(theirs)) <= LONG:
            blocks = difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks()
            kept |= {head + i + k: head + j + k for i, j, size in blocks for k in range(size)}
        return kept

    def _is_merged(self, chunk: Chunk, kept: dict[int, int]) -> bool:
        """Tell whether two nouns have become one where what was between them has gone."""
        pairs = ((kept.get(i), kept.get(i + 1)) for i in range(chunk.first, chunk.last) if chunk.kind == NOUN)
        return any(one is not None and other is not None and self._is_parted(one, other) for one, other in pairs)

    def _has_lost_its_noun(self, article: int, words: Sequence[str], kept: dict[int, int]) -> bool:
        """Tell whether a plural behind *a* has lost the word that it described: *an adults only sign*."""
        plural = kept.get(article + 1)
        if article not in kept or plural is None or words[article] not in ("a", "an"):
            return False
        return english.is_plural(words[article + 1]) and kept.get(article + 2) != plural + 1

    def _is_parted(self, one: int, other: int) -> bool:
        """Tell whether two words of the prompt are of two nouns, or have a verb or a sign between them."""
        between = self.words[one + 1 : other]
        nouns = self.at[one] != self.at[other] and self.before.kind(self.at[one]) == NOUN
        deed = any(not word[0].isalnum() or english.is_form(word, "s") for word in between)
        return bool(between) and roles.means(self.words[one]) and (nouns or deed)

    def _before(self, at: int, after: Syntax, kept: dict[int, int]) -> int | None:
        """Find the verb of the prompt that a chunk of a repair is."""
        chunk = after.chunks[at]
        if chunk.kind not in VERBS or chunk.head not in kept:
            return None
        was = self.at[kept[chunk.head]]
        return was if self.before.kind(was) in VERBS else None

    def _has_lost_its_aim(self, at: int, after: Syntax, kept: dict[int, int]) -> bool:
        """Tell whether a verb that stays has lost whom or what it was done to."""
        was = self._before(at, after, kept)
        if was is None:
            return False
        aims = (NOUN, PRONOUN, REFLEXIVE)
        return self.before.kind(was + 1) in aims and after.kind(at + 1) not in (*aims, ADVERB, LINK, *VERBS)

    def _has_lost_its_clause(self, at: int, after: Syntax, kept: dict[int, int]) -> bool:
        """Tell whether a verb that stays has lost what it makes or tells somebody to do."""
        was = self._before(at, after, kept)
        if was is None or not (self.before.kind(was) == DONE or self.before.kind(was + 1) in (NOUN, PRONOUN)):
            return False
        deeds = (TO_DO, DO, DONE) if self.before.is_cause(was) else (TO_DO, LINK)
        had = self._goes_on(self.before, was, deeds)
        return had and not self._goes_on(after, at, (*deeds, DOING))

    def _goes_on(self, text: Syntax, verb: int, kinds: Sequence[str]) -> bool:
        """Tell whether a verb is followed by somebody, and what they do."""
        at = verb + 1
        while text.kind(at) in (PLACE, NOUN, PRONOUN, ADVERB, WHERE):
            at += 1
        return text.kind(at) in kinds and (text.kind(at) != LINK or text.first(at) == "that")

    def _verbless(self, after: Syntax) -> int:
        """Count the sentences that have lost their verb."""
        before, now = (list(_sentences(text)) for text in (self.before, after))
        if len(before) != len(now):
            return 0
        return sum(had and not has for had, has in zip(before, now, strict=True))


def _sentences(text: Syntax) -> Iterator[bool]:
    """Tell of each sentence whether it has a verb of its own."""
    has, clause = False, False
    for at in range(len(text.chunks)):
        if text.first(at) in ENDS:
            yield has
            has, clause = False, False
        elif text.kind(at) in (LINK, SIGN):
            clause = text.kind(at) == LINK
        elif text.is_finite(at):
            has, clause = has or not clause, False
    yield has
