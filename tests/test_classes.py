"""The table of diffusers' pipeline classes: each is guarded, or refused by name."""

from __future__ import annotations

import ast
import functools
import inspect
import json
import textwrap
from collections.abc import Callable

import diffusers
import pytest

from safegen.errors import ModelError
from safegen.families import FAMILIES, check_class
from safegen.families.classes import PipelineClass, list_classes
from safegen.families.hunyuan_dit import HunyuanDiT
from safegen.families.modular import FORMS
from safegen.families.refused import REFUSED

pytestmark = [
    pytest.mark.slow,  # every pipeline of diffusers is imported
    pytest.mark.filterwarnings("ignore"),
]


@functools.cache
def classes() -> tuple[PipelineClass, ...]:
    return tuple(list_classes())


def test_every_class_of_diffusers_is_guarded_or_refused_by_name() -> None:
    """Of a new release, this names the classes that nobody has looked at."""
    assert [one.name for one in classes() if not one.family and not one.reason] == []
    assert [one.name for one in classes() if one.family and one.reason] == []


def test_no_class_has_two_families() -> None:
    names = [name for family in FAMILIES for name in family.pipelines]
    assert len(names) == len(set(names))


def test_most_of_what_diffusers_draws_from_text_is_guarded() -> None:
    drawn = [one for one in classes() if "text" in one.tasks]
    assert sum(bool(one.family) for one in drawn) >= 45
    for one in drawn:
        if one.reason:
            with pytest.raises(ModelError, match="cannot guard") as raised:
                check_class(one.name)
            assert one.reason in str(raised.value)


def returned(function: Callable[..., object]) -> int:
    """How many values a function's last statement returns."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    last = body.body[-1] if isinstance(body, ast.FunctionDef) else None
    assert isinstance(last, ast.Return)
    return len(last.value.elts) if isinstance(last.value, ast.Tuple) else 1


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_every_class_of_a_family_returns_what_the_family_takes_apart(family: type) -> None:
    for name in set(family.pipelines) - set(FORMS):  # type: ignore[attr-defined]
        taken = len(family.result) // (2 if family is HunyuanDiT else 1)  # type: ignore[attr-defined]
        assert returned(getattr(diffusers, name).encode_prompt) == taken, name


def test_refused_classes_have_a_reason_that_reads_on() -> None:
    assert all(reason and not reason.endswith(".") for reason in REFUSED.values())


def test_the_table_is_shown_and_given_as_json(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command("models", "classes", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == len(classes())
    by_name = {line["name"]: line for line in lines}
    assert by_name["FluxPipeline"] == {
        **{"schema": "safegen.pipeline_class/1", "name": "FluxPipeline", "tasks": ["text"], "family": "Flux"},
        "reason": "",
    }
    assert by_name["FluxModularPipeline"]["family"] == "Flux"
    assert by_name["LTXModularPipeline"]["reason"].startswith("it is modular")
    assert command("models", "classes") == 0
    shown = capsys.readouterr()
    assert "ChromaPipeline" in shown.out
    assert f"of {len(lines)} are guarded" in shown.err
