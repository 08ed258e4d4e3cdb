"""Prompts that were repaired by hand, as lessons for the prompt reader: what a repair takes out is what harms."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path

from safegen.builtin.training.reader_lists import Line, listed
from safegen.reader import Reader, grammar, roles
from safegen.reader.words import split

FILE = Path(__file__).with_name("repairs.tsv")
SMALLEST = 2  # words with a meaning in a phrase that harms as a whole
BETWEEN = 2  # equal words between two stretches that count as one


def stretches(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """Find the stretches of words that a repair changes; two with up to `BETWEEN` words between them are one."""
    found: list[tuple[int, int]] = []
    same = SequenceMatcher(None, [w.lower() for w in old], [w.lower() for w in new], autojunk=False)
    for tag, start, end, into, _ in same.get_opcodes():
        if tag == "equal":
            continue
        back = int(start == end and min(start, into) > 0)  # words were only added: the word before them changes
        if found and start - back - found[-1][1] <= BETWEEN:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start - back, end))
    return found


def changes(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int, int, int]]:
    """Find what a repair changes: where in the old words, and where in the new.

    Two changes are one unless a word that means something stands between them.
    """
    found: list[tuple[int, int, int, int]] = []
    for tag, start, end, into, until in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        if found and not any(roles.means(word) for word in old[found[-1][1] : start]):
            found[-1] = found[-1][0], end, found[-1][2], until
        else:
            found.append((start, end, into, until))
    return found


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
    changed = stretches([w.text for w in words], [w.text for w in others])
    taken = tuple((words[start].span[0], words[end - 1].span[1]) for start, end in changed if end > start)
    return Line(old, tuple(marks), concept, tuple(unsure), taken), Line(new)


def rows() -> list[tuple[str, str, str]]:
    """Read the list: a prompt, its repair, and the concept of its harm, which is empty where nobody said."""
    split_lines = ([part.strip() for part in line.split("\t")] for line in listed(FILE))
    return [(old, new, named[0] if named else "") for old, new, *named in split_lines]


def repaired() -> list[tuple[Line, Line]]:
    """Make lines of the prompts and repairs; an unnamed concept is the one that the shipped reader finds likeliest.

    Raises:
        ReaderError: no reader ships.
    """
    found = [row for row in rows() if row[0] != row[1]]
    reader = Reader.load()
    readings = iter(reader.read([old for old, _, name in found if not name]))
    names = [name or reader.concepts[int((next(readings).scores / reader.lines).max(0).argmax())] for *_, name in found]
    return [compared(old, new, reader.concepts.index(name)) for (old, new, _), name in zip(found, names, strict=True)]
