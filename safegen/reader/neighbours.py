"""Neighbours: which words stand beside each other in English, as far as many prompts and captions show.

What a search through an encoder ends at is a row of words that nobody would put beside each other (a language model's
perplexity shows it as well: Alon and Kamfonas 2023, arXiv 2308.14132). Small words stand beside almost anything, so
neighbours are looked at twice: with them, and without them. Pairs are kept as a Bloom filter (1970): a few bits of each
are set. So no pair is forgotten, and one in a hundred that was never met is taken for a known one. `neighbours.bin` has
been made by `safegen/builtin/training/neighbours.py`.
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
    """Give the share of neighbours in a row of words that were met so elsewhere; 1 where there are too few to tell.

    It is the mean of that of all words, and of that of words that are not small.
    """
    every, large = pairs_of([word.lower() for word in words])
    if len(every) < FEWEST:
        return 1.0
    shares = [sum(map(is_known, pairs)) / len(pairs) for pairs in (every, large) if pairs]
    return sum(shares) / len(shares)


def make_filter(pairs: Iterable[Pair]) -> bytes:
    """Write pairs of words in lower case down as `FILE` has them."""
    bits = bytearray(SIZE >> 3)
    for pair in pairs:
        for place in _places(pair):
            bits[place >> 3] |= 1 << (place & 7)
    return bytes(bits)


def _places(pair: Pair) -> Iterator[int]:
    digest = hashlib.blake2b(" ".join(pair).encode(), digest_size=4 * HASHES).digest()
    for at in range(0, len(digest), 4):
        yield int.from_bytes(digest[at : at + 4], "big") % SIZE
