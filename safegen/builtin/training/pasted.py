"""Harmless texts pasted together, as people paste captions.

Where one text ends and the next begins, words may look harmful together that are not: "a seagull stealing" of one
caption, "a man in a coat" of the next.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from safegen.reader.words import WINDOW

SEAMS = (", ", ", ", ". ", " ")  # between a line and texts pasted together

Lists = Sequence[tuple[float, Sequence[str]]]


def draw(lists: Lists, rng: random.Random) -> str:
    """Draw a text from lists, of which each has its share."""
    texts = rng.choices([some for _, some in lists], [share for share, _ in lists])[0]
    return rng.choice(texts)


def pasted(lists: Lists, rng: random.Random) -> str:
    """Put texts behind one another with nothing between them, and cut out a window; it may begin inside a text."""
    words: list[str] = []
    while len(words) < 2 * WINDOW:
        some = draw(lists, rng).rstrip(".,;:! ").split()
        start = rng.randrange(max(1, len(some) - 2 * WINDOW + 1))  # of a long text only a part
        words += some[start : start + 2 * WINDOW]
    count = rng.randint(WINDOW // 2, WINDOW)
    start = rng.randrange(len(words) - count + 1)
    return " ".join(words[start : start + count])


def amid(lists: Lists, rng: random.Random) -> tuple[str, str]:
    """Draw texts pasted together to stand before and behind a line, or on one side of it, with a sign or none."""
    sides = rng.choice(((True, True), (True, False), (False, True)))
    before, behind = (pasted(lists, rng) if side else "" for side in sides)
    return (before and before + rng.choice(SEAMS)), (behind and rng.choice(SEAMS) + behind)
