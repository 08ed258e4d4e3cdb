"""The public face: what `import safegen` gives, in five lines each, and what it was called in 0.1."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import safegen
from safegen.directions.recipes import Concept
from safegen.errors import Refused, UnknownConcept, UsageError

KNIFE = "a cat and a kitchen knife"
RECIPE = '[targets]\n"a cigarette" = "a pencil"\n"a man smoking" = "a man whistling"\n'


def test_everything_named_is_there() -> None:
    assert all(getattr(safegen, name) for name in safegen.__all__)
    with pytest.raises(AttributeError, match="gate"):
        safegen.gate  # noqa: B018


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, safegen; assert not {'torch', 'diffusers', 'transformers', 'rich', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_prompt_is_scored_without_a_model() -> None:
    (sheet,) = safegen.score(KNIFE)
    assert sheet.flagged_concepts() == ["violence"]
    assert [safegen.score([KNIFE, "a cat"], "violence")[i].flagged for i in range(2)] == [True, False]
    with pytest.raises(UnknownConcept):
        safegen.score(KNIFE, "violense")
    with pytest.raises(Refused):
        safegen.score("a naked child")


def test_a_guard_takes_names_and_says_what_it_does_not_know() -> None:
    assert safegen.Guard("violence", "hate", strength=0.5).names == ("violence", "hate")
    for wrong in ({"strength": 2}, {"safeguard": "localize"}, {"unread": "perhaps"}):
        with pytest.raises(UsageError):
            safegen.Guard(**wrong)
    with pytest.raises(TypeError):
        safegen.Guard(strenght=1)


@pytest.mark.slow
def test_a_concept_of_ones_own_is_learned_and_used(generator: safegen.Generator, tmp_path: Path) -> None:
    (tmp_path / "cigarettes").mkdir()
    (tmp_path / "cigarettes" / "concept.toml").write_text(RECIPE)
    learned = safegen.Direction.learn("cigarettes", generator.pipe, effort="analytic", folder=tmp_path)
    assert {direction.concept for direction in learned.values()} == {"cigarettes"}
    with safegen.Guard("cigarettes", folder=tmp_path).attached(generator.pipe) as guard:
        generator.pipe.encode_prompt("a man smoking", "cpu", 1, False)
    assert guard.last[0].before.flagged_concepts() == ["cigarettes"]
    for wrong in ({"effort": "some"}, {"method": "gates"}):
        with pytest.raises(UsageError):
            safegen.Direction.learn(Concept.load("cigarettes", tmp_path), generator.pipe, **wrong)


def test_names_of_0_1_work_and_warn(generator: safegen.Generator) -> None:
    with pytest.warns(DeprecationWarning, match=r"Guard\(\.\.\.\)"):
        assert safegen.Guard.load("violence").names == ("violence",)
    with pytest.warns(DeprecationWarning, match="DrawOptions"):
        from safegen.generator import Settings
    (picture,), _ = generator.generate("a cat", Settings(seed=1, steps=1))
    with pytest.warns(DeprecationWarning, match="flagged_concepts"):
        assert safegen.score(KNIFE)[0].open_gates() == ["violence"]
    with pytest.warns(DeprecationWarning, match=r"record\.text"):
        assert picture.record["prompt"] == "a cat"
