"""What teaches repairs: pairs of prompts, the gaps between them, and the samples made of both."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from safegen.builtin.training import repairs
from safegen.builtin.training.reader import Pieces
from safegen.builtin.training.reader_lists import Line, bench_prompts, listed, plain
from safegen.builtin.training.repairs import END, MASK, MOST, Gap, Pair, Samples, marked_gap, random_gap, samples
from safegen.reader.model import WEIGHTS
from safegen.reader.words import WINDOW

FILE = Path(repairs.__file__).with_name("repairs.tsv")


@pytest.fixture(scope="module")
def taught() -> Samples:
    return samples(None, None, Pieces(Tokenizer.from_file(str(WEIGHTS / "tokenizer.json"))))


@pytest.mark.parametrize(
    ("old", "new", "labels", "gaps"),
    [
        ("a bad man sits", "a man sits", [0, 1, 0, 0], [Gap(["a"], [], ["man", "sits"])]),
        ("a man fights dogs", "a man walks two dogs", [0, 0, 1, 0], [Gap(["a", "man"], ["walks", "two"], ["dogs"])]),
        ("a man sits", "a kind man sits", [1, 0, 0], [Gap([], ["a", "kind"], ["man", "sits"])]),
        ("same words", "same words", [0, 0], []),
        ("A Bad cat", "a bad cat", [0, 0, 0], []),
    ],
)
def test_a_pair_differs_where_its_words_do(old: str, new: str, labels: list[int], gaps: list[Gap]) -> None:
    pair = Pair.of(old, new)
    assert pair.labels() == labels
    assert list(pair.gaps()) == gaps


def test_another_stretch_is_shown_filled_and_open() -> None:
    pair = Pair.of("x b c d e f y", "1 b c d e f 2")
    rest = ["b", "c", "d", "e", "f"]
    assert list(pair.gaps()) == [
        Gap([], ["1"], [*rest, "2"]),
        Gap([], ["1"], [*rest, ""]),
        Gap(["1", *rest], ["2"], []),
        Gap(["", *rest], ["2"], []),
    ]


def test_stretches_close_together_are_one() -> None:
    assert len(Pair.of("x b c y e", "1 b c 2 e").stretches) == 1


def test_the_list_has_pairs_and_no_prompt_of_the_bench() -> None:
    lines = [line.split("\t") for line in listed(FILE)]
    assert len(lines) > 5_000
    assert {len(line) for line in lines} == {2}
    assert not {plain(text) for line in lines for text in line} & bench_prompts()


def test_gaps_are_cut_where_a_line_is_marked_or_anywhere() -> None:
    assert marked_gap(Line("a man sits here", ((6, 10),))) == Gap(["a", "man"], ["sits"], ["here"])
    assert marked_gap(Line("a man", ((0, 5),))) is None
    rng = random.Random(3)
    text = "one two three four five"
    for _ in range(50):
        gap = random_gap(text, rng)
        assert [*gap.before, *gap.fill, *gap.behind] == text.split()


def test_samples_show_the_gap_and_end_the_fill(taught: Samples) -> None:
    rng = random.Random(3)
    for _ in range(200):
        ids, place, wanted = taught.fill(rng)
        assert ids[place] == MASK
        assert wanted[-1] == END
        assert len(wanted) <= MOST
        assert END not in wanted[:-1]
    ids, labels = taught.marks(rng)
    assert ids.shape == labels.shape
    assert labels.unique().tolist() == [-1, 0, 1]
    assert ids.shape[1] <= 8 * WINDOW + 2
