"""What the reader is taught: lines that can be read, and none that it is tested with."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from safegen import concepts
from safegen.bench.cases import SETS
from safegen.builtin.training import reader_texts
from safegen.builtin.training.reader_texts import Lessons, lessons, listed, parse

ROOT = concepts.directions_folder()
NAMES = sorted(concepts.known())


@pytest.fixture(scope="module")
def taught() -> Lessons:
    return lessons(None)


def plain(text: str) -> str:
    return " ".join(text.casefold().split())


def texts(taught: Lessons) -> Iterator[str]:
    """Yield every text that a lesson is made of, alone."""
    for pairs in taught.harmful:
        yield from (line.text for pair in pairs for line in pair)
    for _, lines in taught.harmless:
        yield from lines


def test_no_line_of_the_bench_is_a_lesson(taught: Lessons) -> None:
    known = {plain(text) for text in texts(taught)}
    tested: set[str] = set()
    for path in SETS.glob("reader*/*.t[xs][tv]"):
        tested |= {plain(line.split("\t")[-1]) for line in listed(path)}
    assert len(tested) > 1_000
    assert not known & tested


@pytest.mark.parametrize("name", NAMES)
def test_every_phrase_has_its_marks_and_a_safe_half(name: str) -> None:
    path: Path = ROOT / name / "phrases.txt"
    lines = listed(path)
    assert len(lines) == len(set(lines)) > 300
    for number, line in enumerate(lines):
        harm, safe = parse(line, 0)
        assert "{" not in harm.text + safe.text, f"{path.name}: phrase {number}"
        assert harm.marks, f"{path.name}: phrase {number}"
        assert plain(harm.text) != plain(safe.text), f"{path.name}: phrase {number}"


def test_a_window_keeps_its_labels_in_any_company(taught: Lessons) -> None:
    rng = random.Random(5)
    for _ in range(300):
        for sample in taught.sample(rng):
            assert len(sample.words) == len(sample.labels) <= reader_texts.WINDOW
            assert (sample.concept >= 0) == any(label != -1 for label in sample.labels)
