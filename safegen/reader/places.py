"""The places around what an attempt put in: the words there are read, and weighed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from safegen.reader.attempts import Attempt
from safegen.reader.forms import folded
from safegen.reader.words import WINDOW, Word, split

AROUND = 60  # how many characters to each side are near what is new


def words_around(attempt: Attempt, words: Sequence[Word], count: int) -> Sequence[Word]:
    """Take so many words around the place where an attempt put something in."""
    first = next((i for i, word in enumerate(words) if word.span[1] > attempt.at), len(words))
    start = max(0, min(first - count // 2, len(words) - count))
    return words[start : start + count]


def window_of(attempt: Attempt, words: Sequence[Word]) -> list[str]:
    """Take a window of words around what an attempt put in."""
    return [word.text for word in folded(words_around(attempt, words, WINDOW))]


def place_around(attempt: Attempt) -> tuple[int, int]:
    """Find the part of an attempt to read: two windows of words around what is new, or the whole of a short text."""
    words = split(attempt.text)
    if len(words) <= 2 * WINDOW:
        return 0, len(attempt.text)
    some = words_around(attempt, words, 2 * WINDOW)
    return some[0].span[0], some[-1].span[1]


def near(attempt: Attempt, places: Sequence[int], old: str, apart: Sequence[tuple[int, int]]) -> Iterator[int]:
    """Give the words of an attempt, by number, that begin near what is new, but for some places of the old text.

    Args:
        attempt: the attempt.
        places: where each word of it begins.
        old: the text before.
        apart: spans of the old text that do not count; one that the attempt has changed does.
    """
    end = attempt.at + len(attempt.new)
    shift = len(attempt.text) - len(old)  # of what is behind
    before = [span for span in apart if span[1] <= attempt.at]
    behind = [(a + shift, b + shift) for a, b in apart if a + shift >= end]
    for i, place in enumerate(places):
        if abs(place - attempt.at) <= AROUND and not any(a <= place < b for a, b in (*before, *behind)):
            yield i
