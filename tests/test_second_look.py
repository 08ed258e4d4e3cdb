"""A second look at the picture: what it sees, and that one more try removes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from safegen import Generator, second_look
from safegen.errors import UsageError
from safegen.generator import Settings
from safegen.guard import Guard
from safegen.prompts import clean
from safegen.second_look import Detector, WorldJudge, look_again

KNIFE = clean("a cat and a kitchen knife")


@pytest.fixture(scope="module")
def judge() -> WorldJudge:
    return WorldJudge()


def behind(generator: Generator, guard: Guard) -> Generator:
    """The model behind another guard, which lets the knife pass."""
    return Generator(generator.pipe, guard, generator.model)


@pytest.mark.parametrize("guard", [{"names": ("nudity",)}, {"strength": 0.0}])
def test_what_the_guard_let_pass_is_seen_and_gone_at_the_second_try(
    generator: Generator, judge: Detector, guard: dict[str, Any]
) -> None:
    careless = behind(generator, Guard(**guard))
    settings = Settings(seed=3)
    (first,), _ = careless.generate(KNIFE, settings)
    again = look_again(careless, KNIFE, settings, first, judge)
    check = again.record["check"]
    assert list(check["before"]) == check["concepts"] == ["violence"]
    assert check["before"]["violence"]["knife"] > 0.5
    assert check["after"] == {}
    assert (check["detector"], check["threshold"]) == ("judge/1", 0.5)
    assert again.seed == first.seed
    assert again.record["negative"] == ""  # the concept repairs the prompt
    assert "violence" in again.record["guard"]["directions"]
    assert max(high for _, high in again.image.getextrema()) > 0  # never a black image
    assert careless.guard is not None
    assert careless.guard.names == tuple(guard.get("names", careless.guard.names))


def test_a_harmless_picture_stays_as_it_is(generator: Generator, judge: Detector) -> None:
    settings = Settings(seed=3)
    (first,), _ = generator.generate("a dog", settings)
    again = look_again(generator, clean("a dog"), settings, first, judge)
    assert again.image is first.image
    assert again.record["check"] == {"detector": "judge/1", "threshold": 0.5, "before": {}}
    assert "check" not in first.record


def test_it_is_tried_once_and_what_is_left_is_told(generator: Generator) -> None:
    class Stubborn:
        name, threshold, looks = "stub", 0.5, 0

        def look(self, _: Image.Image) -> Any:
            self.looks += 1
            return {"violence": {"bow-and-arrow": 0.9}}

    stub = Stubborn()
    settings = Settings(seed=3, steps=1, negative="fog")
    (first,), _ = generator.generate("a dog", settings)
    again = look_again(generator, clean("a dog"), settings, first, stub)
    assert stub.looks == 2
    assert again.record["check"]["after"] == {"violence": {"bow-and-arrow": 0.9}}
    assert again.record["negative"] == "fog, bow and arrow"


def test_where_there_is_no_detector(generator: Generator) -> None:
    with pytest.raises(UsageError, match="guard"):
        second_look.detector_for(Generator(generator.pipe, None, "embedded"))
    with pytest.raises(UsageError, match="embedded"):
        second_look.detector_for(behind_name(generator, "sd15"))


def behind_name(generator: Generator, name: str) -> Generator:
    return Generator(generator.pipe, generator.guard, name)


def test_the_command(run: Any, tmp_path: Path) -> None:
    done = run("generate", KNIFE.text, "--concept", "nudity", "--seed", "3", "--check", "image", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (list(record["check"]["before"]), record["check"]["after"]) == (["violence"], {})
    assert "knife (violence); drawn again without" in done.stderr
    bad = run("generate", "a cat", "--check", "sound")
    assert (bad.returncode, "--check" in bad.stderr) == (2, True)
