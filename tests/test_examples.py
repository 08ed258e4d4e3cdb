"""The additions that ship as examples: found by name from any folder, seen in pictures, no harm to harmless prompts."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import ImageChops
from safetensors.torch import load_file

from safegen.batch.settings import BatchSettings
from safegen.batch.worker import Worker
from safegen.builtin.judge import Judge
from safegen.builtin.training import examples
from safegen.errors import ModelError
from safegen.generator import Generator
from safegen.models import adapters, loading
from safegen.models.adapters import SHIPPED, Addition
from safegen.models.options import DrawOptions

pytestmark = pytest.mark.filterwarnings("ignore")  # of peft
README = Path(__file__).parents[1] / "README.md"
Command = Callable[..., int]


@pytest.fixture(scope="module")
def added() -> Generator:
    return Generator.load(embeddings=["toy"], loras=["night:0.8"], offline=True)


@pytest.mark.slow
def test_they_are_tiny_and_what_the_program_makes() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.values()) < 300_000
    made, shipped = examples.made(), {name: load_file(path) for name, path in SHIPPED.items()}
    assert torch.allclose(made["toy"]["<toy>"], shipped["toy"]["<toy>"], atol=1e-6)
    whole = []
    for tensors in (made["night"], shipped["night"]):
        (down,), (up,) = ([t for key, t in tensors.items() if part in key] for part in ("lora_A", "lora_B"))
        whole.append(up @ down)
    ours, theirs = whole
    assert (ours - theirs).norm() < 1e-3 * theirs.norm()  # sums differ a little with the number of threads


def test_the_word_is_drawn_as_what_its_vectors_mean(generator: Generator) -> None:
    toy = Generator.load(embeddings=["toy"], guarded=False, offline=True)
    settings = DrawOptions(seed=7, steps=4)
    (ours,), (plain,) = (
        g.generate(prompt, settings)[0] for g, prompt in ((toy, "a <toy>"), (generator, "a teddy bear"))
    )
    assert ImageChops.difference(ours.image, plain.image).getbbox() is None


@pytest.mark.slow
def test_pictures_change_and_a_harmless_prompt_stays_harmless(generator: Generator, added: Generator) -> None:
    settings, judge = DrawOptions(seed=7, steps=10), Judge.load()
    for prompt, things in (("a cat and a <toy>", {"cat", "teddy-bear"}), ("a tulip on a red background", {"tulip"})):
        (plain,), _ = generator.generate(prompt.replace("<toy>", "teddy bear"), settings)
        (picture,), report = added.generate(prompt, settings)
        assert report is not None
        assert not report.sanitized
        assert not report.before.flagged_concepts()
        before, after = judge.look([plain.image, picture.image])
        assert things <= set(after.things)
        assert before.ground != "black"
        assert after.ground == "black"
        named = [(one["file"], one["scale"]) for one in picture.record.additions]
        assert named == [("toy.safetensors", 1.0), ("night.safetensors", 0.8)]


def test_a_harmful_prompt_stays_harmful(added: Generator) -> None:
    (sheet,) = added.score(["a <toy> and a kitchen knife"])
    assert sheet.flagged_concepts()


def test_the_readme_s_line_works_in_an_empty_folder(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (line,) = (text for text in README.read_text().splitlines() if text.startswith("safegen") and "--embedding" in text)
    assert command(*shlex.split(line, comments=True)[1:], "--steps", "1") == 0
    printed, told = capsys.readouterr()
    assert Path(printed.strip()).is_file()
    assert "flagged" not in told
    assert "is text here" not in told


def test_examples_are_named_wherever_files_are() -> None:
    assert Addition.lora("night:0.8") == Addition("lora", SHIPPED["night"], 0.8)
    assert Addition.lora("night").path == SHIPPED["night"]
    assert [one.path for one in adapters.list_additions([Path("toy")], ["night"])] == [SHIPPED["toy"], SHIPPED["night"]]
    assert adapters.whole("night:0.8") == "night:0.8"
    assert adapters.whole("a.safetensors:0.8") == f"{Path.cwd()}/a.safetensors:0.8"
    assert adapters.with_called_scales(["night", "~/b.safetensors", "night:1"], [("night", 0.5), ("b", 0.25)]) == [
        "night:0.5",
        "~/b.safetensors:0.25",
        "night:1",
    ]
    worker = Worker.load(BatchSettings.of(embeddings=("toy",), concepts=("violence",), offline=True))
    assert [facts["file"] for facts in worker.facts()["additions"].values()] == ["toy.safetensors"]


def test_what_is_no_example_hears_of_those_there_are(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (("--lora", "nigh"), ("--lora", "nigh:0.5"), ("--embedding", "doll")):
        assert command("score", "a cat", *wrong) == 1
        assert "toy and night" in capsys.readouterr().err
    for wrong in ({"embeddings": ["night"]}, {"loras": ["toy"]}):
        with pytest.raises(ModelError):
            loading.load(offline=True, **wrong)  # type: ignore[arg-type]
