"""The cost of a repair: the harmless words it has lost, the harmful ones it has left, and its grammar."""

from __future__ import annotations

import re
from collections import Counter

from safegen.reader import english, roles
from safegen.reader.forms import folded
from safegen.reader.kinds import NOUN, PLACE, SIGN, VERBS
from safegen.reader.reading import NEAR, OPEN, Reading
from safegen.reader.scenes import FLOWERS
from safegen.reader.situation import WARM, Situation
from safegen.reader.tears import Tears

# What a repair costs: a noun or a deed that is lost, a word that only describes, a word of the situation that is left,
# a sentence that is torn, what a deed was done with, and how far it is above what is calm.
LOST, DESCRIBING, LEFT, TORN, TOOL, HIGH = 1.0, 0.25, 1.0, 2.0, 0.5, 3.0
FLAGGED = 1e6  # more than any text can lose: what is still flagged never wins
MAYBE = 0.35  # chance from which on a deed is harmful, or a noun of which nothing may stay
REDUCED = 0.5  # what the loss of a thing costs that does not stay as it is
STOPGAP = 0.6  # what "flowers" cost where nothing better was found
_TORN = re.compile(
    r"""["\u201c]\s*["\u201d]|(?<!\w)['\u2018]\s*['\u2019](?!\w)"""
    r"|\b(?:that|with|of|to|by|at|and|the|an?|reading|saying)\s*(?:[,.;:]|$)",
    re.IGNORECASE,
)


class Weigher:
    """The words of a prompt that its repair should have, and those that it should not."""

    def __init__(self, situation: Situation) -> None:
        self.situation, self.text = situation, situation.reading.text
        self.ends = len(_TORN.findall(self.text))
        self.before = Counter(word.removesuffix("'s") for word in situation.words)
        self.tears, self.tools = Tears(situation.words), self._tools()
        self.wanted: Counter[str] = Counter()
        self.harmful: Counter[str] = Counter()
        self.weights: dict[str, float] = {}
        for at in range(len(situation.chunks)):
            self._weigh(at)

    def _weigh(self, at: int) -> None:
        """Tell which words of a chunk should stay, and which should not."""
        situation, chunk, named = self.situation, self.situation.chunks[at], self.situation.named.get(at)
        if situation.clauses.is_absent(at):
            return
        kept = named.parts if named is not None else ()
        for part in kept:
            if (
                isinstance(part, str)
                and roles.means(part)
                and any(situation.words[i].startswith(part) for i in chunk.words)
            ):
                self._want(part, LOST)
        reduced = named is not None and not named.whole
        cold = not reduced and situation.height(at) < WARM
        for i in (i for i in chunk.words if roles.means(situation.words[i])):
            if i in situation.replaced:
                continue
            if i in kept or cold or (not reduced and not situation.is_hot(i) and situation.heights[i] < WARM):
                whole = not reduced or (named is not None and named.being)
                head = LOST if whole else REDUCED
                weight = LOST if chunk.kind != NOUN else head if i == chunk.head else DESCRIBING
                self._want(situation.words[i].removesuffix("'s"), weight)
            elif self._is_harmful(i, at):
                self.harmful[situation.words[i].removesuffix("'s")] += 1

    def _is_harmful(self, word: int, at: int) -> bool:
        """Tell whether a word of the situation is harmful, and not only near to what is."""
        situation, chunk = self.situation, self.situation.chunks[at]
        if chunk.kind == NOUN and at not in situation.named:
            known = english.is_thing(situation.words[chunk.head]) or english.is_being(situation.words[chunk.head])
            known = known or situation.clauses.is_bodily(chunk)
            return bool(situation.chances[word] >= (MAYBE if known else OPEN))
        return situation.is_hot(word) and bool(situation.chances[word] >= (MAYBE if chunk.kind in VERBS else OPEN))

    def _want(self, word: str, weight: float) -> None:
        self.wanted[word] += 1
        self.weights[word] = max(weight, self.weights.get(word, 0.0))

    def torn(self, reading: Reading) -> float:
        """Count the tears in the English of a repair that the prompt does not have; an unsure one counts less."""
        ends = len(_TORN.findall(reading.text)) - self.ends
        return max(0, ends) + self.tears.count([word.text for word in folded(reading.words)])

    def cost(self, reading: Reading, height: float, torn: float) -> float:
        """Tell what is wrong with a repair; nothing where it keeps all that is harmless, and nothing else.

        Args:
            reading: the repair.
            height: its highest score, as a share of the line.
            torn: the tears in its English.
        """
        words = [word.text for word in folded(reading.words)]
        after = Counter(word.removesuffix("'s") for word in words)
        lost = sum(self.weights[word] * max(0, count - after[word]) for word, count in self.wanted.items())
        left = sum(max(0, after[word] - self.before[word] + count) for word, count in self.harmful.items())
        stopgaps = max(0, after[FLOWERS] - self.before[FLOWERS])
        tools = sum(f" {tool}" in reading.text for tool in self.tools)
        high = HIGH * max(0.0, height - NEAR) + FLAGGED * (height >= 1)
        return lost + LEFT * left + TORN * torn + STOPGAP * stopgaps + TOOL * tools + high

    def _tools(self) -> list[str]:
        """Find with what a harmful deed is done."""
        situation, chunks = self.situation, self.situation.chunks
        found = []
        for at in range(1, len(chunks) - 1):
            verb = next((i for i in range(at - 1, -1, -1) if chunks[i].kind in (*VERBS, SIGN)), None)
            done = verb is not None and chunks[verb].kind in VERBS and situation.is_hot(chunks[verb].head)
            noun = situation.words[chunks[at + 1].head]
            thing = chunks[at + 1].kind == NOUN and not english.is_being(noun) and not english.is_worn(noun)
            if done and thing and chunks[at].kind == PLACE and situation.words[chunks[at].first] == "with":
                words = situation.reading.words
                found.append(self.text[words[chunks[at].first].span[0] : words[chunks[at + 1].last].span[1]])
        return found
