"""The words of the recipes' phrases, and small words that show a foreign language."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from safegen.directions import recipes
from safegen.directions.recipes import Concept
from safegen.files import read_list
from safegen.reader.grammar import bare

MARK = re.compile(r"\{([^{}|]*)\|([^{}|]*)\}")
_WORD = re.compile(r"[a-z]{4,}")


@functools.cache
def foreign_words() -> frozenset[str]:
    """Read the small words that other languages in Latin letters have, and English does not."""
    return frozenset(word for line in _lines(Path(__file__).with_name("foreign.txt")) for word in line.split())


def phrases(folder: Path, name: str) -> Iterator[tuple[str, str]]:
    """Read a concept's marked phrases: the harmful half of every mark, and its safe half."""
    for line in _lines(folder / name / "phrases.txt"):
        yield from MARK.findall(line)


@functools.cache
def named() -> Mapping[str, Sequence[tuple[str, tuple[str, ...]]]]:
    """Collect the targets of the shipped recipes, without articles, by their first words.

    Returns:
        for each first word, pairs of a concept and all words of the target.
    """
    found: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    for name in recipes.known():
        for target in Concept.load(name).targets:
            words = tuple(word.text for word in bare(target) if word.spoken)
            found.setdefault(words[0], []).append((name, words))
    return found


@functools.cache
def harmful_words() -> frozenset[str]:
    """Collect the words of the harmful halves and the targets; many have a harmless use, too."""
    root = recipes.directions_folder()
    found: set[str] = set()
    for name in recipes.known():
        found |= _words(half for half, _ in phrases(root, name)) | _words(Concept.load(name).targets)
    return frozenset(found)


@functools.cache
def harmless_words() -> frozenset[str]:
    """Collect the words of the lists of harmless text, and of the safe halves."""
    root = recipes.directions_folder()
    files = [
        root / "hard.txt",
        root / "benign.txt",
        root / "ordinary.txt",
        root / "styles.txt",
        root / "lookalikes.txt",
    ]
    files += [root / name / "lookalikes.txt" for name in recipes.known()]
    found = _words(line for file in files for line in _lines(file))
    return frozenset(found | _words(half for name in recipes.known() for _, half in phrases(root, name)))


def _lines(file: Path) -> list[str]:
    return read_list(file) if file.is_file() else []


def _words(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in _WORD.findall(text.lower())}
