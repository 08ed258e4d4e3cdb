"""The lists that teach the prompt reader, as they lie in `directions/`.

A line of `phrases.txt` marks the smallest phrase that carries the harm, with a safe phrase for its place:
``a man {stabbed|standing} in an alley``.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safegen.bench.cases import SETS
from safegen.builtin.training.wordnet import harmless as harmless_english
from safegen.builtin.world import with_article
from safegen.directions import recipes
from safegen.directions.recipes import Concept
from safegen.files import read_list
from safegen.reader import grammar
from safegen.reader.lexicon import MARK

TELLING = 3  # a word that harms by itself was seen at least this often in marked phrases


@dataclass(frozen=True)
class Line:
    """One text to teach: its words, and which of them carry harm under which concept.

    Attributes:
        text: the text as it is read.
        marks: characters of the phrases that carry the harm, or replace it safely; empty if they are not known.
        concept: index of the concept, or -1 for harmless text.
        unsure: characters of phrases in which the harm is, among other words.
        taken: characters of the stretches that a repair changes, or None if that is not known.
    """

    text: str
    marks: tuple[tuple[int, int], ...] = ()
    concept: int = -1
    unsure: tuple[tuple[int, int], ...] = ()
    taken: tuple[tuple[int, int], ...] | None = None


def parse(line: str, concept: int) -> tuple[Line, Line]:
    """Read a marked line as two lines, the harmful one and the safe one."""
    halves: list[tuple[str, tuple[tuple[int, int], ...]]] = []
    for half in (1, 2):
        text, end = "", 0
        marks: list[tuple[int, int]] = []
        for match in MARK.finditer(line):
            text += line[end : match.start()]
            marks.append((len(text), len(text) + len(match[half])))
            text += match[half]
            end = match.end()
        halves.append((text + line[end:], tuple(m for m in marks if m[1] > m[0])))
    (harm, found), (safe, kept) = halves
    tidy = " ".join(safe.split())
    return Line(harm, found, concept), Line(tidy, kept if tidy == safe else ())


def listed(path: Path) -> list[str]:
    """Read a list: one text a line; comments are left out."""
    return [line.strip() for line in read_list(path) if line.strip()] if path.is_file() else []


def plain(text: str) -> str:
    """Normalise a text for comparison with others."""
    return " ".join(text.casefold().split())


@functools.cache
def bench_prompts() -> frozenset[str]:
    """Read every prompt that the bench measures the reader with."""
    files = SETS.glob("reader*/*.t[xs][tv]")
    return frozenset(plain(line.split("\t")[-1]) for file in files for line in listed(file))


def reserved(text: str) -> bool:
    """Tell whether a harmless text is kept out of training to calibrate the lines: one in ten is."""
    return zlib.crc32(text.casefold().encode()) % 10 == 0


def harmless_lists(wordnet: Path | None) -> dict[str, list[str]]:
    """Read every shipped list of harmless text by its name, and WordNet if it is given."""
    root = recipes.directions_folder()
    concepts = {name: Concept.load(name) for name in recipes.known()}
    found = {name: listed(root / f"{name}.txt") for name in ("lookalikes", "hard", "ordinary", "long", "benign")}
    # Directions were learned from this list before the bench's prompts were written. Some prompts are in both, and
    # the reader must not see those.
    found["hard"] = [text for text in found["hard"] if plain(text) not in bench_prompts()]
    for name, recipe in concepts.items():
        found["lookalikes"] += [*recipe.benign, *listed(root / name / "lookalikes.txt")]
    things = [with_article(noun) for noun in listed(root / "nouns.txt")]
    found["things"] = [*things, *(f"{a} and {b}" for a, b in zip(things, things[1:] + things[:1], strict=True))]
    jobs = listed(root / "jobs.txt")
    found["people"] = [with_article(f"{group} {job}") for group in listed(root / "people.txt") for job in jobs]
    if wordnet is not None:
        found["sentences"], found["nouns"] = harmless_english(wordnet, frozenset(listed(root / "wordnet.txt")))
    return found


Shape = tuple[grammar.Form, int, bool]


def shape(phrase: str) -> Shape:
    """Tell what a phrase must share with another to take its place: form, length, and whether it leads on."""
    return grammar.form_of(phrase), min(len(phrase.split()), 4), grammar.leads(phrase)


def phrase_of(line: Line) -> str:
    """Read the first marked phrase of a line."""
    return line.text[slice(*line.marks[0])]


def telling(pairs: Sequence[tuple[Line, Line]], harmless: Sequence[str]) -> list[tuple[Line, Line]]:
    """Choose the marked lines whose phrases harm by one of their words, and not only by their place.

    Such a word is seen more often in marked phrases than in all harmless text.
    """
    single = [pair for pair in pairs if all(len(line.marks) == 1 for line in pair)]
    harm = Counter(word for pair in single for word in content(phrase_of(pair[0])))
    safe = Counter(word for text in (*(pair[1].text for pair in single), *harmless) for word in content(text))
    known = {word for word, count in harm.items() if count >= TELLING and count > safe[word]}
    return [pair for pair in single if known & content(phrase_of(pair[0]))]


def content(text: str) -> set[str]:
    """List the content words of a text."""
    return {word for word in re.findall(r"[a-z][a-z'-]+", text.lower()) if word not in grammar.LEADING}
