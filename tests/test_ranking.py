"""The ranker of repairs: what it reads, what it prefers, and what it was taught with."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from safegen.builtin.training import ranking
from safegen.builtin.training.reader import Pieces
from safegen.builtin.training.reader_lists import bench_prompts, listed, plain
from safegen.errors import ReaderError
from safegen.reader import Reader
from safegen.reader.model import CLS, SEP, WEIGHTS, Network
from safegen.reader.ranking import COMES, FILE, GOES, MOST, STAYS, THERE, Ranker, marked

WORDS = st.lists(st.sampled_from(["a", "man", "greets", "his", "dog", ","]), max_size=12)
BEFORE = "a man punching a clown in a park , oil painting"
RIGHT = "a man greeting a clown in a park , oil painting"


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    return Reader.load().ranker


def cut(word: str) -> list[int]:
    return [1000 + ord(letter) for letter in word[:2]]


@given(WORDS, WORDS)
def test_what_stays_is_the_same_on_both_sides(before: list[str], after: list[str]) -> None:
    ids, marks = marked(before, after, cut)
    assert len(ids) == len(marks)
    middle = 1 + sum(len(cut(word)) for word in before)
    assert [ids[0], ids[middle], ids[-1]] == [CLS, SEP, SEP]
    assert set(marks[: middle + 1]) <= {STAYS, GOES}
    assert set(marks[middle + 1 :]) <= {THERE, COMES}
    stays = [i for i, mark in zip(ids[1:middle], marks[1:middle], strict=True) if mark == STAYS]
    there = [i for i, mark in zip(ids[middle + 1 : -1], marks[middle + 1 : -1], strict=True) if mark == THERE]
    assert stays == there


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ("a man a clown in a park , oil painting", 0),
        ("a man greeting a clown in a , oil painting", 0),
        ("a man in a park , oil painting", 1),
        ("a man greeting a clown", 1),
        ("a man punching a clown in a park", 2),
    ],
)
def test_the_right_repair_is_likelier_english_whole_and_harmless(ranker: Ranker, wrong: str, part: int) -> None:
    chances = ranker.chances(BEFORE.split(), [RIGHT.split(), wrong.split()])
    assert chances is not None
    assert chances.shape == (2, 3)
    assert ((chances > 0) & (chances < 1)).all()
    assert chances[0, part] > chances[1, part] + 0.1


def test_a_repair_has_the_chances_that_it_has_alone(ranker: Ranker) -> None:
    both = ranker.chances(BEFORE.split(), [RIGHT.split(), ["a", "park"]])
    alone = ranker.chances(BEFORE.split(), [RIGHT.split()])
    assert both is not None
    assert alone is not None
    assert np.allclose(both[0], alone[0], atol=1e-3)


def test_what_is_too_long_and_what_is_nothing_have_no_chances(ranker: Ranker) -> None:
    assert ranker.chances(["cat"] * MOST, [["cat"]]) is None
    assert ranker.chances(["cat"], []) is None


def test_a_damaged_ranker_is_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(WEIGHTS, tmp_path / "weights"))
    with (folder / FILE).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ReaderError, match=f"{FILE} is not the file"):
        Ranker(Network(folder))


def test_every_epoch_has_every_verdict_once() -> None:
    taught = [(([i], [0]), (1.0, 1.0, 1.0), str(i)) for i in range(ranking.BATCH * 3)]
    batch = ranking.batches(taught)
    for epoch in range(2):
        rows = [v[2] for step in range(3) for v in batch(3 * epoch + step)]
        assert sorted(rows) == sorted(v[2] for v in taught)


def test_the_area_is_one_where_all_right_ones_are_higher_and_a_half_where_scores_say_nothing() -> None:
    marks = np.array([0.0, 0.0, 1.0, 1.0])
    assert ranking.area(np.array([0.1, 0.2, 0.3, 0.4]), marks) == 1
    assert ranking.area(np.array([0.4, 0.1, 0.2, 0.3]), marks) == 0.5


def test_verdicts_are_of_repairs_and_of_no_prompt_of_the_bench() -> None:
    lines = [line.split("\t") for line in listed(ranking.VERDICTS)]
    assert len(lines) > 15_000
    assert {len(line) for line in lines} == {3}
    assert {mark for _, _, marks in lines for mark in marks} == {"y", "n"}
    assert {len(marks) for _, _, marks in lines} == {3}
    assert not {plain(before) for before, _, _ in lines} & bench_prompts()


def test_all_verdicts_on_a_prompt_are_kept_apart_or_none() -> None:
    some = ranking.verdicts(Pieces(Tokenizer.from_file(str(WEIGHTS / "tokenizer.json"))))[:2000]
    held = {v[2] for v in some if ranking.is_held(v)}
    assert held
    assert held.isdisjoint(v[2] for v in some if not ranking.is_held(v))
