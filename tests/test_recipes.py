"""Recipes of any length: what is learned from few lines, what is refused at once; and the README's own."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from safegen import Generator
from safegen.conditioning import Position
from safegen.directions import recipes
from safegen.directions.recipes import Concept
from safegen.errors import UsageError
from safegen.learning import contrastive, es, features, region
from safegen.learning.effort import ANALYTIC, BRIEF, Effort
from safegen.learning.encoded import Encoded
from safegen.learning.held import LINES, SENTENCES, kind, split_held_out

README = Path(__file__).parents[1] / "README.md"
LINE = {"a banana": "an apple"}
MORE = {**LINE, "a bunch of bananas": "a bunch of grapes", "a man peeling a banana": "a man peeling an orange"}
MANY = {f"a {colour} banana": f"a {colour} apple" for colour in ("red", "green", "yellow", "brown", "ripe", "big")}


def recipe(targets: Mapping[str, str]) -> Concept:
    return Concept("bananas", "Bananas", "", targets, ("banana bread",), ("bananas",), "0" * 64)


@pytest.fixture(scope="module")
def everyday(generator: Generator) -> Mapping[str, Encoded]:
    return features.background(generator.family, ANALYTIC)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("targets", "effort"),
    [
        *((some, ANALYTIC) for some in ({"a banana": "a toy banana"}, dict(list(MORE.items())[:2]), MORE, MANY)),
        (LINE, ANALYTIC),
        (LINE, replace(BRIEF, captions=200, plain=200, long=30, fitted=110, lookalikes=60)),
    ],
)
def test_a_recipe_of_any_length_is_learned_and_no_figure_is_of_nothing(
    generator: Generator, everyday: Mapping[str, Encoded], targets: Mapping[str, str], effort: Effort
) -> None:
    direction = contrastive.learn(recipe(targets), generator.family, effort, everyday)["text"]
    assert all(math.isfinite(value) for value in direction.info["held_out"].values())
    assert all(bool(torch.isfinite(tensor).all()) for tensor in direction.tensors.values())
    assert direction.info["held_out"]["auc"] > 0.9
    assert ("sentences" in direction.figures()) == (len(targets) < 5)
    assert "nan" not in direction.figures()


def test_what_is_kept_out_is_never_all_and_never_nothing() -> None:
    for every in (5, 10):
        for lines in range(1, 12):
            for prompts in range(2, 7):
                groups = [line for line in range(lines) for _ in range(prompts)]
                held = split_held_out(groups, every)
                assert 0 < int(held.sum()) < len(groups)
                whole = {g for g, out in zip(groups, held.tolist(), strict=True) if out}
                inside = {g for g, out in zip(groups, held.tolist(), strict=True) if not out}
                assert not whole & inside or kind(groups, every) == SENTENCES
    assert kind(range(5), 5) == LINES


@pytest.mark.slow
def test_other_methods_learn_from_one_line(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    little = replace(BRIEF, draws=2)
    for module, changes in (
        (es, {"STEPS": 3, "KEPT": 24, "PLAIN_SIGHT": little}),
        (region, {"PROMPTS": 8, "STEPS": 2, "NOISE_STEPS": 3, "KEPT": 24, "PLAIN_SIGHT": little}),
    ):
        for name, value in changes.items():
            monkeypatch.setattr(module, name, value)
    assert generator.guard is not None
    shipped = generator.guard.directions["violence"]
    for method, learned in (
        ("es", es.learn(recipe(LINE), generator.family, shipped)),
        ("region", region.learn(recipe(LINE), generator.family, shipped)),
    ):
        info = learned["text"].info
        assert all(math.isfinite(value) for value in info[method].values())
        assert info[f"{method}_of"] == SENTENCES
        assert Position.TOKEN.name.lower() in " ".join(learned["text"].tensors)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no [targets]"),
        ("[targets]\n", "has no [targets]"),
        ('[targets]\n"a knife" = ""', "'a knife' has no safe phrase"),
        ('[targets]\n"a knife" = "A knife"', "'a knife' has no safe phrase"),
        ('[targets]\n"of the" = "a spoon"', "'of the' names nothing harmful"),
        ('[targets]\n"  " = "a spoon"', "names nothing harmful"),
        ('benign = ["x"]\n[targets]\n"a knife" = "a spoon"', "bad list of [benign] phrases"),
        ('categories = "x"\n[targets]\n"a knife" = "a spoon"', "bad list of categories"),
    ],
)
def test_what_cannot_be_learned_from_is_said_at_once(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "concept.toml").write_text(text)
    with pytest.raises(UsageError) as raised:
        recipes.parse(tmp_path / "concept.toml")
    assert words in str(raised.value)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_readmes_recipe_word_for_word(
    tmp_path: Path, command: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    section = README.read_text().split("## Your own concept")[1]
    file = re.search(r"`(\S+/concept\.toml)`", section)
    toml, commands = re.findall(r"```\w+\n(.*?)```", section, re.DOTALL)[:2]
    assert file is not None
    monkeypatch.chdir(tmp_path)
    Path(file[1]).parent.mkdir(parents=True)
    Path(file[1]).write_text(toml)
    for line in commands.splitlines():
        assert command(*shlex.split(line, comments=True)[1:]) == 0
        assert "nan" not in capsys.readouterr().err
    record = json.loads((tmp_path / "safegen-out" / "metadata.jsonl").read_text())
    assert record["status"] == "sanitized"
    assert record["guard"]["before"]["cigarettes"]["flagged"]
    assert command("score", "a dog", "-c", "cigarettes", "--directions", "mine", "--json") == 0
    assert json.loads(capsys.readouterr().out)["flagged"] is False
    assert command("directions", "list", "--directions", "mine") == 0
    assert "cigarettes" in capsys.readouterr().out
