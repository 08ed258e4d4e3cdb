"""A language model in miniature: trigrams of the everyday captions that ship, interpolated with shorter ones."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

SHARES = (0.6, 0.3, 0.1)  # of trigrams, bigrams and single words
START = ""  # stands before a caption's first word


class NGrams:
    """The odds that a word follows others.

    Args:
        lines: the captions.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.orders: list[dict[tuple[str, ...], Counter[str]]] = [defaultdict(Counter) for _ in SHARES]
        for line in lines:
            words = [START, START, *re.findall(r"[a-z]+", line.lower())]
            for at in range(2, len(words)):
                for order, counts in zip((2, 1, 0), self.orders, strict=True):
                    counts[tuple(words[at - order : at])][words[at]] += 1

    def log_likelihoods(self, before: Sequence[str], words: Sequence[str]) -> list[float]:
        """Give the logarithm of how likely each of the words comes next; a word that no caption has counts as once."""
        context = [START, START, *before]
        found = [0.0] * len(words)
        for order, share, counts in zip((2, 1, 0), SHARES, self.orders, strict=True):
            seen = counts.get(tuple(context[len(context) - order :]), Counter())
            total = sum(seen.values()) + (len(words) if order == 0 else 0)
            for i, word in enumerate(words):
                count = seen[word] + (order == 0)
                found[i] += share * count / total if total else 0.0
        return [math.log(value) for value in found]
