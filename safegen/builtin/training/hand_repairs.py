"""Prompts that were repaired by hand, as lessons for the prompt reader: what a repair takes out is what harms."""

from __future__ import annotations

from difflib import SequenceMatcher
from pathlib import Path

from safegen.builtin.training.reader_lists import Line, listed
from safegen.reader import Reader, grammar
from safegen.reader.words import split

FILE = Path(__file__).with_name("repairs.tsv")
SMALLEST = 2  # words with a meaning in a phrase that harms as a whole


def compared(old: str, new: str, concept: int) -> tuple[Line, Line]:
    """Read a prompt and its repair as two lines: what is gone harms, or, where that is much, some of it does."""
    words, others = split(old), split(new)
    same = SequenceMatcher(None, [w.text.lower() for w in words], [w.text.lower() for w in others], autojunk=False)
    marks: list[tuple[int, int]] = []
    unsure: list[tuple[int, int]] = []
    for tag, start, end, _, _ in same.get_opcodes():
        gone = words[start:end]
        means = sum(word.spoken and word.text.lower() not in grammar.LEADING for word in gone)
        if tag in ("replace", "delete") and means:
            (marks if means <= SMALLEST else unsure).append((gone[0].span[0], gone[-1].span[1]))
    return Line(old, tuple(marks), concept, tuple(unsure)), Line(new)


def repaired() -> list[tuple[Line, Line]]:
    """Read them; each one's concept is what the shipped reader finds likeliest.

    Raises:
        ReaderError: no reader ships.
    """
    halves = (line.split("\t") for line in listed(FILE))
    pairs = [(old, new) for old, new in halves if old != new]
    reader = Reader.load()
    heights = [(reading.scores / reader.lines).max(0) for reading in reader.read([old for old, _ in pairs])]
    return [compared(old, new, int(height.argmax())) for (old, new), height in zip(pairs, heights, strict=True)]
