"""Harmless texts pasted together, as people paste captions, and the harmless texts that a reader nearly flags.

Where one text ends and the next begins, words may look harmful together that are not: "a seagull stealing" of one
caption, "a man in a coat" of the next.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from safegen.reader.reader import Reader
from safegen.reader.words import WINDOW

WINDOWS, TEXTS = 20_000, 6_000  # windows, and texts of each list, that are read
NEARLY = 0.75  # share of the threshold from which on a text is nearly flagged

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


def nearly_flagged(lists: Lists, reader: Reader, count: int = WINDOWS) -> list[str]:
    """Find harmless texts of some lists, and windows of them pasted together, that a reader flags or nearly flags."""
    rng = random.Random(0)
    some = (text for _, texts in lists for text in rng.sample(texts, min(TEXTS, len(texts))))
    alone = (part for text in some for part in _parts(text))
    texts = [*alone, *(pasted(lists, rng) for _ in range(count))]
    return [one.text for one in reader.read(texts) if one.height >= NEARLY]


def _parts(text: str) -> Iterator[str]:
    """Cut a text into parts of a window's length."""
    words = text.split()
    for start in range(0, max(1, len(words) - WINDOW // 2), WINDOW // 2):
        yield " ".join(words[start : start + WINDOW])
