"""Neighbours: the words that people put beside each other in many prompts and captions.

A search through an encoder ends at a row of words that nobody would put beside each other. The perplexity of a language
model shows that as well (Alon and Kamfonas 2023, arXiv 2308.14132). Small words stand beside almost anything, so pairs
are counted twice: with small words, and without them. They are kept as a Bloom filter (1970), which sets a few bits for
each. So no pair is forgotten, and about one in a hundred that was never met counts as known.
`safegen/builtin/training/neighbours.py` makes `neighbours.bin`.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from safegen.reader.grammar import LEADING

FILE = Path(__file__).with_name("neighbours.bin")
SIZE = 1 << 23  # bits
HASHES = 4  # bits of a pair
FEWEST = 3  # pairs that say something
Pair = tuple[str, str]


@functools.cache
def _filter() -> bytes:
    return FILE.read_bytes()


def is_known(pair: Pair, bits: bytes | None = None) -> bool:
    """Tell whether two words in lower case were met beside each other, by `FILE` or another filter."""
    bits = _filter() if bits is None else bits
    return all(bits[place >> 3] >> (place & 7) & 1 for place in _places(pair))


def pairs_of(words: Sequence[str]) -> tuple[list[Pair], list[Pair]]:
    """Pair the words in lower case that stand beside each other: all of them, and those that are not small."""
    return list(itertools.pairwise(words)), list(itertools.pairwise(w for w in words if w not in LEADING))


def share_known(words: Sequence[str]) -> float:
    """Give the share of known pairs in a row of words, from 0 to 1; 1 where there are too few pairs to tell.

    It is the mean of two shares: that of all pairs, and that of the pairs without small words.
    """
    every, large = pairs_of([word.lower() for word in words])
    if len(every) < FEWEST:
        return 1.0
    shares = [sum(map(is_known, pairs)) / len(pairs) for pairs in (every, large) if pairs]
    return sum(shares) / len(shares)


def make_filter(pairs: Iterable[Pair]) -> bytes:
    """Make the filter of pairs of words in lower case, in the form of `FILE`."""
    bits = bytearray(SIZE >> 3)
    for pair in pairs:
        for place in _places(pair):
            bits[place >> 3] |= 1 << (place & 7)
    return bytes(bits)


def _places(pair: Pair) -> Iterator[int]:
    digest = hashlib.blake2b(" ".join(pair).encode(), digest_size=4 * HASHES).digest()
    for at in range(0, len(digest), 4):
        yield int.from_bytes(digest[at : at + 4], "big") % SIZE
