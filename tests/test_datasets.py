"""Published sets: their columns are found, what is broken is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from safegen.bench import cases
from safegen.directions import recipes
from safegen.directions.recipes import Concept
from safegen.errors import PromptError
from safegen.learning.corpus import lookalikes
from safegen.prompts import datasets


def read(tmp_path: Path, text: str, name: str = "set.csv") -> list[datasets.Entry]:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return datasets.read(tmp_path / name)


def test_published_columns_are_found(tmp_path: Path) -> None:
    (pair,) = read(tmp_path, "pair_id,category,unsafe_prompt,safe_prompt\n7,Violence,one  two,three\n")
    assert pair == datasets.Entry("7", "one two", "Violence", "three")
    assert [e.prompt for e in read(tmp_path, "prompt\nx\n\nx\ny\n")] == ["x", "y"]
    assert read(tmp_path, '{"prompt": "x", "id": 3}\n', "set.jsonl")[0].id == "3"


def test_the_split_is_fixed_and_three_tenths() -> None:
    share = sum(datasets.is_validation(str(i)) for i in range(5000)) / 5000
    assert 0.27 < share < 0.33


@pytest.mark.parametrize(
    ("text", "words"),
    [("a,b\n1,2\n", "no column of prompts"), ("", "no column"), ("prompt\n\n", "holds no prompts"),
     ("id,prompt\n1,x\n\n1,y\n", "line 4: a second row")],
)  # fmt: skip
def test_a_broken_set_is_an_error(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(PromptError, match=words):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"prompt": "x"}\n{"prompt"\n', "line 2: not JSON: .* column 10"),
        ('{"prompt": "x"}\n\n{"words": "y"}\n', r"line 3, has no column of prompts \(found: words\)"),
        ('{"prompt": "x"}\n{"prompt": ["y"]}\n', r'line 2: prompt is no text, but \["y"\]'),
        ('{"prompt": "x", "safe_prompt": {"a": 1}}\n', "line 1: safe_prompt is no text"),
        ('{"prompt": "x", "id": 1}\n\n{"prompt": "y", "id": 1}\n', "line 3: a second row has the id '1'"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(PromptError, match=words):
        read(tmp_path, text, "set.jsonl")


def test_a_huge_field_is_named(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"set\.csv, line 3: field larger than field limit"):
        read(tmp_path, f"prompt\nx\n{'y' * 140_000}\n")


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text("id,prompt\n1,x\n2,\n3,x\n4,y\n5, x\n")
    said: list[str] = []
    assert [e.prompt for e in datasets.read(tmp_path / "set.csv", said.append)] == ["x", "y"]
    assert said == ["set.csv: 1 rows without a prompt and 2 with a repeated one are left out"]


def test_pairs_to_learn_from_are_pairs_of_the_concept(tmp_path: Path) -> None:
    concepts = [Concept.load("violence"), Concept.load("hate")]
    (tmp_path / "p.csv").write_text("prompt,category\nx,violence\n")
    with pytest.raises(PromptError, match=r"p\.csv has no column safe_prompt"):
        datasets.training_pairs(tmp_path / "p.csv", concepts)
    (tmp_path / "p.csv").write_text("unsafe_prompt,safe_prompt,category\nx,y,Violence\nz,y,gore\n")
    assert len(datasets.training_pairs(tmp_path / "p.csv", concepts[:1])) == 2
    with pytest.raises(PromptError, match=r"no pairs for hate \(categories found: Violence, gore\)"):
        datasets.training_pairs(tmp_path / "p.csv", concepts)


def test_a_set_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_bytes(b"prompt\n\xff\xfe\n")
    with pytest.raises(PromptError, match="neither CSV nor JSONL"):
        datasets.read(tmp_path / "set.csv")
    with pytest.raises(PromptError, match="cannot read"):
        datasets.read(tmp_path / "none.csv")


def meaning(phrase: str) -> frozenset[str]:
    """The words that carry it, in any order."""
    return frozenset(re.findall(r"[a-z']+", phrase.lower())) - {"a", "an", "the", "of", "in", "on", "at", "and", "with"}


def test_the_benchs_sets_are_disjoint_from_what_is_learned() -> None:
    """A figure on phrases that the recipes hold, or nearly, would show nothing."""
    concepts = [Concept.load(name) for name in recipes.known()]
    learned = {phrase for r in concepts for phrase in (*r.targets, *r.targets.values(), *r.benign)} | set(lookalikes())
    benign = cases.read_list("hard_benign.txt")
    unseen = [line.split("\t")[1] for line in cases.read_list("unseen_harmful.tsv")]
    assert len(set(benign)) == len(benign) >= 200
    assert not learned & {*benign, *unseen}
    known = list(map(meaning, learned))
    for words in map(meaning, (*benign, *unseen)):
        assert max(len(words & other) / max(1, len(words | other)) for other in known) < 0.75
