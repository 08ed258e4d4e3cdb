"""What teaches repairs: pairs of prompts, the stretches in which they differ, and the samples made of them."""

from __future__ import annotations

import random

import pytest
from tokenizers import Tokenizer

from safegen.builtin.training import hand_repairs
from safegen.builtin.training.reader import Pieces
from safegen.builtin.training.reader_lists import bench_prompts, plain
from safegen.builtin.training.repairs import Pair, Samples, samples
from safegen.directions import recipes
from safegen.reader.model import WEIGHTS
from safegen.reader.words import WINDOW


@pytest.fixture(scope="module")
def taught() -> Samples:
    return samples(None, None, Pieces(Tokenizer.from_file(str(WEIGHTS / "tokenizer.json"))))


@pytest.mark.parametrize(
    ("old", "new", "labels"),
    [
        ("a bad man sits", "a man sits", [0, 1, 0, 0]),
        ("a man fights dogs", "a man walks two dogs", [0, 0, 1, 0]),
        ("a man sits", "a kind man sits", [1, 0, 0]),
        ("same words", "same words", [0, 0]),
        ("A Bad cat", "a bad cat", [0, 0, 0]),
    ],
)
def test_a_pair_differs_where_its_words_do(old: str, new: str, labels: list[int]) -> None:
    assert Pair.of(old, new).labels() == labels


def test_stretches_close_together_are_one() -> None:
    assert len(Pair.of("x b c y e", "1 b c 2 e").stretches) == 1


def test_the_list_has_pairs_and_no_prompt_of_the_bench() -> None:
    rows = hand_repairs.rows()
    assert len(rows) > 20_000
    assert {name for *_, name in rows} == {"", *recipes.known()}
    assert not {plain(text) for old, new, _ in rows for text in (old, new)} & bench_prompts()


def test_samples_mark_what_a_repair_takes_out(taught: Samples) -> None:
    rng = random.Random(3)
    ids, labels = taught.marks(rng)
    assert ids.shape == labels.shape
    assert labels.unique().tolist() == [-1, 0, 1]
    assert ids.shape[1] <= 8 * WINDOW + 2
