"""Words for groups of people: a repair in words of other prompts may make nobody one of a group who was none."""

from __future__ import annotations

import functools

from safegen.directions import recipes
from safegen.files import read_list
from safegen.reader import english
from safegen.reader.words import split

MOST = 3  # words of a group's name


@functools.cache
def groups() -> frozenset[str]:
    """Read the groups of people."""
    lines = read_list(recipes.directions_folder() / "people.txt")
    return frozenset(line.strip() for line in lines if line.strip())


def groups_in(text: str) -> frozenset[str]:
    """Find the groups that a text names: before somebody, or at its end."""
    words = [word.text.lower() for word in split(text)]
    runs = ((at, at + size) for size in range(1, MOST + 1) for at in range(len(words) - size + 1))
    return frozenset(
        name
        for start, end in runs
        if (name := " ".join(words[start:end])) in groups() and (end == len(words) or english.is_person(words[end]))
    )


def brings_group(new: str, old: str) -> bool:
    """Tell whether a text calls somebody one of a group that the text it was made of does not name."""
    said = f" {' '.join(word.text.lower() for word in split(old))} "
    return any(f" {name} " not in said for name in groups_in(new))
