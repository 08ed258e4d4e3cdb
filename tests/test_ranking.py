"""The ranker of repairs: what it reads, what it prefers, and what it was taught with."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from safegen.builtin.training import ranking
from safegen.builtin.training.reader_lists import bench_prompts, listed, plain
from safegen.directions import recipes
from safegen.errors import ReaderError
from safegen.reader import Reader
from safegen.reader.model import CLS, SEP, WEIGHTS, Network
from safegen.reader.phrases import Phrases
from safegen.reader.ranking import COMES, FILE, GOES, MOST, STAYS, THERE, Ranker, marked
from safegen.reader.repair import USUAL, Repairer, chosen
from safegen.reader.situation import Situation

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
    assert (chances < 0).all()
    assert chances[0, part] > chances[1, part] + 0.1


def test_a_repair_has_the_chances_that_it_has_alone(ranker: Ranker) -> None:
    both = ranker.chances(BEFORE.split(), [RIGHT.split(), ["a", "park"]])
    alone = ranker.chances(BEFORE.split(), [RIGHT.split()])
    assert both is not None
    assert alone is not None
    assert np.allclose(both[0], alone[0], atol=1e-3)


def test_what_is_too_long_and_what_is_nothing_have_no_chances(ranker: Ranker) -> None:
    assert ranker.chances(["cat"] * MOST, [["cat"]]) is None
    assert ranker.chances(["unhyphenated"] * (MOST // 2), [["cat"]]) is None  # of three pieces each
    assert ranker.chances([","] * 200_000, [[","] * 200_000]) is None
    assert ranker.chances(["cat"], []) is None


def test_the_chosen_repair_is_right_and_above_all_harmless() -> None:
    sure, half, never = np.log(0.99), np.log(0.6), np.log(0.01)

    def of(*rows: tuple[float, float, float]) -> NDArray[np.float32]:
        return np.array(rows, np.float32)

    right, torn, harmful = (half, half, half), (never, sure, sure), (sure, sure, never)
    assert chosen(of(torn, right), 0) == 1
    assert chosen(of(harmful, right), 0) == 1  # though all in all it is likelier
    assert chosen(of(harmful, (never, never, 2 * never), (never, never, np.log(0.4))), 0) == 2
    assert chosen(of(right, (half, half, half + USUAL / 2)), 0) == 0  # hardly likelier
    assert chosen(of(right, right), 1) == 1


@pytest.mark.parametrize("text", ["a man punching a clown in a park, oil painting", "a nude woman on a red sofa"])
def test_options_are_texts_that_differ_and_the_repair_is_a_calm_one(text: str) -> None:
    repairer, names = Repairer(Reader.load(), Phrases.load()), tuple(recipes.known())
    situation = Situation(repairer.reader, repairer.reader.read([text])[0], names)
    options = repairer.options(situation, names)
    texts = [option.reading.text for option in options]
    assert len(set(texts)) == len(texts) > 1
    repair = repairer.repair(text, names)
    assert repair.text in texts
    assert not repair.left


def test_a_damaged_ranker_is_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(WEIGHTS, tmp_path / "weights"))
    with (folder / FILE).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ReaderError, match=f"{FILE} is not the file"):
        Ranker(Network(folder))


@pytest.mark.parametrize("count", [5, ranking.BATCH, ranking.BATCH * 3 + 7])
def test_every_epoch_has_every_verdict_once(count: int) -> None:
    taught = [(([i], [0]), (1.0, 1.0, 1.0), str(i)) for i in range(count)]
    batch, steps = ranking.batches(taught), -(-count // ranking.BATCH)
    for epoch in range(2):
        rows = [v[2] for step in range(steps) for v in batch(steps * epoch + step)]
        assert sorted(rows) == sorted(v[2] for v in taught)


def test_verdicts_are_of_repairs_and_of_no_prompt_of_the_bench() -> None:
    lines = [line.split("\t") for file in (ranking.VERDICTS, ranking.WRITTEN) for line in listed(file)]
    assert len(lines) > 26_000
    assert {len(line) for line in lines} == {3}
    assert {mark for _, _, marks in lines for mark in marks} == {"y", "n"}
    assert {len(marks) for _, _, marks in lines} == {3}
    assert not {plain(before) for before, _, _ in lines} & bench_prompts()


def test_one_prompt_in_twelve_is_kept_apart_whatever_was_found() -> None:
    held = [ranking.is_held((([], []), (1.0, 0.0, 1.0), f"prompt {i}")) for i in range(2400)]
    assert 150 < sum(held) < 250
    assert held == [ranking.is_held((([1], [1]), (0.0, 0.0, 0.0), f"prompt {i}")) for i in range(2400)]


def test_training_may_go_on_from_the_weights_that_ship() -> None:
    found = ranking.shipped()
    assert {name.split(".")[0] for name in found} == {"layer", "kinds", "hidden", "odds"}
    assert found["kinds.weight"].shape == (COMES + 1, 384)
    assert found["hidden.weight"].shape == (256, 2 * 384)
    assert {name.split(".")[1] for name in found if name.startswith("layer.")} == {"0", "1", "2"}
