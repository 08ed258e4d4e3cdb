"""Words of a prompt and the windows in which the reader reads them.

A window holds `WINDOW` words and shares `OVERLAP` with the next one. So a phrase of up to `OVERLAP` words stands whole
in one of them, and words outside that window cannot dilute it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

WINDOW, OVERLAP = 28, 10
# Letters with their apostrophes, or one sign; an underscore separates.
_OLDER = frozenset("\u2620\u2622\u2623\u2694\u26b0\u26b1\u26d3\u2702")  # from skull and crossbones to scissors
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*|[^\w\s]|_")

_PICTURE = f"[\U0001f300-\U0001faff{''.join(sorted(_OLDER))}]"
# One pictograph, or several that are joined, with their marks.
PICTOGRAPHS = re.compile(rf"{_PICTURE}(?:[\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]|\u200d{_PICTURE})*")


@dataclass(frozen=True)
class Word:
    """One word or sign of a prompt, and its span."""

    text: str
    span: tuple[int, int]

    @property
    def spoken(self) -> bool:
        """True for a word, and for a pictograph, which is read by its name; false for any other sign."""
        return self.text[0].isalnum() or is_pictograph(self.text[0])


def is_pictograph(character: str) -> bool:
    """Tell whether a character is a picture of something, as an emoji is; signs such as that of a degree are none."""
    return "\U0001f300" <= character <= "\U0001faff" or character in _OLDER


def whole(text: str, span: tuple[int, int]) -> tuple[int, int]:
    """Widen a span by the combining marks and joiners that belong to its last letter."""
    start, end = span
    while start < end < len(text) and (unicodedata.category(text[end])[0] == "M" or text[end] in "\u200c\u200d"):
        end += 1
    return start, end


def split(text: str) -> list[Word]:
    """Split a text into words and signs, in reading order."""
    return [Word(match.group(), match.span()) for match in _WORD.finditer(text)]


def windows(count: int) -> list[tuple[int, int]]:
    """Lay windows over a number of words; give the first word of each, and the one after its last."""
    if count <= WINDOW:
        return [(0, count)]
    step = WINDOW - OVERLAP
    starts = list(range(0, count - WINDOW, step))
    return [(start, start + WINDOW) for start in starts] + [(count - WINDOW, count)]


def joined(words: Sequence[Word], text: str) -> str:
    """Cut out the text from the first to the last of some words."""
    return text[words[0].span[0] : words[-1].span[1]] if words else ""
