"""Gaps in a harmful prompt: which words may belong to the situation, and what is seen around them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from safegen.reader.infilling import MASK, Gap
from safegen.reader.words import WINDOW, Word

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LONGEST = 14  # the most words of a gap
SURE = 0.98  # no word is taken to belong to a situation, or not to, with more certainty than this
OPEN = 0.5  # chance from which on a word is hidden beside another gap


def likely_gaps(chances: NDArray[np.float32], worst: int) -> list[tuple[tuple[int, int], float]]:
    """Find the likeliest gaps around a word: first and last word, and how much less likely than the likeliest.

    Args:
        chances: (words,) how likely each word belongs to the situation.
        worst: a word that every gap holds.
    """
    import numpy as np

    sure = np.clip(chances, 1 - SURE, SURE)
    odds = np.concatenate([[0.0], np.cumsum(np.log(sure / (1 - sure)))])
    found = [
        ((first, last), float(odds[last + 1] - odds[first]))
        for first in range(max(0, worst - LONGEST), worst + 1)
        for last in range(worst, min(len(chances), first + LONGEST))
    ]
    found.sort(key=lambda gap: -gap[1])
    return [(run, odd - found[0][1]) for run, odd in found]


def around(words: Sequence[Word], chances: NDArray[np.float32], run: tuple[int, int]) -> Gap:
    """Take the words around a gap, other situations hidden, as many as a window holds."""
    hidden = [bool(chance >= OPEN) for chance in chances]
    # A situation that reaches up to the gap is not hidden: this gap is the guess that it ends here.
    for side in (range(run[0] - 1, -1, -1), range(run[1] + 1, len(hidden))):
        for at in itertools.takewhile(hidden.__getitem__, side):
            hidden[at] = False
    shown = [MASK if hide else word.text for word, hide in zip(words, hidden, strict=True)]
    before, behind = _once(shown[: run[0]]), _once(shown[run[1] + 1 :])
    room = WINDOW - 1
    left = before[max(0, len(before) - max(room // 2, room - len(behind))) :]
    return Gap(left, behind[: room - len(left)])


def _once(words: Sequence[str]) -> list[str]:
    """Leave out every mask behind another."""
    return [word for i, word in enumerate(words) if word != MASK or i == 0 or words[i - 1] != MASK]
