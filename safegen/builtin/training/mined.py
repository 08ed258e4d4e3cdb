"""Mining of hard lessons: the harmless texts that a reader nearly flags, and the harm that it nearly misses."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from safegen.builtin.training.pasted import Lists, pasted
from safegen.builtin.training.reader_lists import Line
from safegen.reader.reader import Reader
from safegen.reader.words import WINDOW

WINDOWS, TEXTS = 12_000, 4_000  # windows, and texts of each list, that are read
# Shares of the threshold: from the first on a harmless text is nearly flagged, below the second harm is nearly missed.
NEARLY, BARELY = 0.75, 1.25


def nearly_flagged(lists: Lists, reader: Reader, count: int = WINDOWS) -> list[str]:
    """Find harmless texts of some lists, and windows of them pasted together, that a reader flags or nearly flags."""
    rng = random.Random(0)
    some = (text for _, texts in lists for text in rng.sample(texts, min(TEXTS, len(texts))))
    alone = (part for text in some for part in _parts(text))
    texts = [*alone, *(pasted(lists, rng) for _ in range(count))]
    return [one.text for one in reader.read(texts) if one.height >= NEARLY]


def nearly_missed(pairs: Sequence[tuple[Line, Line]], reader: Reader) -> list[tuple[Line, Line]]:
    """Find pairs of a harmful prompt and its repair of which a reader misses one, or nearly does."""
    heights = [[one.height for one in reader.read([pair[half].text for pair in pairs])] for half in (0, 1)]
    return [pair for pair, harm, safe in zip(pairs, *heights, strict=True) if harm < BARELY or safe >= NEARLY]


def _parts(text: str) -> Iterator[str]:
    """Cut a text into parts of a window's length."""
    words = text.split()
    for start in range(0, max(1, len(words) - WINDOW // 2), WINDOW // 2):
        yield " ".join(words[start : start + WINDOW])
