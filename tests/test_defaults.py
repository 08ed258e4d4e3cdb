"""Steps, guidance, sizes and schedulers follow what is loaded, whatever it is called."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest

from safegen import Generator
from safegen.batch.settings import BatchSettings
from safegen.batch.worker import Worker
from safegen.errors import ModelError, UsageError
from safegen.families import family_of, sizes
from safegen.guard.preparation import unwrap
from safegen.models import catalog, defaults, loading, schedulers
from safegen.models.options import DrawOptions
from safegen.prompts.prompt import clean
from tests.helpers import miniatures
from tests.helpers.pipelines import DRAWING, pipeline

pytestmark = [pytest.mark.filterwarnings("ignore")]  # of the libraries, about models as small as these


def resolved(pipe: Any, name: str) -> tuple[int, float]:
    return Generator(pipe, None, name).resolve(DrawOptions())[:2]


def saved(folder: Path, name: str, **scheduler: Any) -> Any:
    """A miniature as a folder loads it, with its scheduler's configuration changed."""
    miniatures.BUILDERS[name]().save_pretrained(folder)
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **scheduler}))
    return loading.load(str(folder), device="cpu")


def test_the_embedded_model_is_known_wherever_it_lies(generator: Generator, tmp_path: Path) -> None:
    wanted = (catalog.EMBEDDED_STEPS, catalog.EMBEDDED_GUIDANCE, (128, 128))
    assert generator.resolve(DrawOptions()) == wanted
    copied = shutil.copytree(catalog.EMBEDDED_FOLDER, tmp_path / "my model")
    for name in (str(catalog.EMBEDDED_FOLDER), str(copied), f"{copied}/"):
        found = Generator(loading.load(name, device="cpu"), None, name)
        assert found.resolve(DrawOptions()) == wanted
        assert found.notes(DrawOptions()) == []
    generator.pipe.save_pretrained(tmp_path / "again")
    assert "safegen/embedded" in defaults.identities(str(tmp_path / "again"))
    assert resolved(generator.pipe, "custom") == wanted[:2]  # a user's own pipeline, loaded from there


@pytest.mark.parametrize("name", sorted(catalog.ALIASES))
def test_alias_hub_id_and_folders_are_one_model(name: str, tmp_path: Path) -> None:
    repo = catalog.ALIASES[name].repo
    pipe = pipeline(next(key for key in ("z-image", "sd3", "sd") if key in name or key == "sd"))
    family = family_of(pipe)
    wanted = defaults.of(family, name)
    assert not wanted.assumed
    cached = tmp_path / f"models--{repo.replace('/', '--')}" / "snapshots" / "abc"
    named = tmp_path / repo.split("/")[1]
    indexed = tmp_path / "renamed"
    indexed.mkdir()
    (indexed / "model_index.json").write_text(json.dumps({"_name_or_path": repo}))
    for other in (repo, repo.upper(), str(cached), str(named), f"{named}.safetensors", str(indexed)):
        assert defaults.of(family, other) == wanted, other


def test_what_files_tell_goes_before_the_family(tmp_path: Path) -> None:
    for number, (name, scheduler, wanted) in enumerate(
        (
            ("z-image", {"shift": 3.0}, (9, 0.0)),
            ("z-image", {"shift": 6.0}, (50, 4.0)),
            ("flux-schnell", {}, (4, 0.0)),
            ("flux-dev", {}, (28, 3.5)),
        )
    ):
        path = tmp_path / str(number)
        pipe = saved(path, name, **scheduler)
        assert resolved(pipe, str(path)) == wanted
        assert not Generator(pipe, None, str(path)).notes(DrawOptions())


def test_a_consistency_model_is_told_by_its_scheduler() -> None:
    for name in ("sd", "sdxl"):
        pipe = miniatures.BUILDERS[name]()
        schedulers.exchange(pipe, "lcm", False)
        assert resolved(pipe, "./mine") == (4, 1.0)
    pipe.unet.register_to_config(time_cond_proj_dim=256)
    assert resolved(pipe, "./mine") == (4, 8.0)


def test_what_was_assumed_is_said_in_one_line(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family = pipeline("sd")
    (line,) = Generator(family, None, "./mine").notes(DrawOptions())
    assert "30 steps and guidance 7.5" in line
    assert "distilled" not in line
    assert Generator(family, None, "./mine").notes(DrawOptions(steps=3, guidance=1.0)) == []
    for name in ("me/anything-Lightning", "sd_xl_turbo_1.0.safetensors", "./Hyper-SD"):
        assert "distilled" in Generator(family, None, name).notes(DrawOptions())[0]
    folder, out = tmp_path / "mine", ("--out", str(tmp_path / "out"), "--no-guard", "--size", "64")
    miniatures.stable_diffusion().save_pretrained(folder)
    assert command("generate", "a cat", "--model", str(folder), "--steps", "1", *out) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("nothing in mine says how it wants to be drawn: 30 steps and guidance 7.5") == 1
    assert command("generate", "a cat", "--model", str(folder), "--steps", "1", "--guidance", "2", *out) == 0
    assert "nothing in mine" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("written", "kind", "told"),
    [
        ("euler", "EulerDiscreteScheduler", {}),
        ("Euler a", "EulerAncestralDiscreteScheduler", {}),
        ("euler_ancestral", "EulerAncestralDiscreteScheduler", {}),
        ("DPM++ 2M Karras", "DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        ("dpmpp_2m", "DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
        ("dpmpp_2m_sde_exponential", "DPMSolverMultistepScheduler", {"use_exponential_sigmas": True}),
        ("euler sgm_uniform", "EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
        ("PLMS", "PNDMScheduler", {}),
        ("uni_pc", "UniPCMultistepScheduler", {}),
        *((name, kind, {}) for name, (kind, _) in schedulers.NAMES.items()),
    ],
)
def test_a_scheduler_is_chosen_by_the_names_that_people_know(written: str, kind: str, told: dict[str, Any]) -> None:
    pipe = miniatures.stable_diffusion()
    pipe.scheduler = diffusers.DDIMScheduler(beta_end=0.013)
    schedulers.exchange(pipe, written, False)
    assert type(pipe.scheduler).__name__ == kind
    assert told.items() <= pipe.scheduler.config.items()
    assert pipe.scheduler.config["beta_end"] == 0.013  # what the model was trained with stays


@pytest.mark.slow
@DRAWING
def test_every_scheduler_that_is_offered_draws(name: str) -> None:
    family = family_of(miniatures.BUILDERS[name]())
    pipe, own = family.pipe, family.pipe.scheduler
    pipe.set_progress_bar_config(disable=True)
    if isinstance(own, diffusers.SCMScheduler):
        with pytest.raises(ModelError, match="distilled for its own scheduler"):
            schedulers.exchange(pipe, "ddim", family.passes_sigmas)
        return
    with pytest.raises(ModelError, match=r"no trailing spacing|cannot be drawn") as raised:
        schedulers.exchange(pipe, "tcd" if "Flow" in type(own).__name__ else "dpm++ 2s trailing", family.passes_sigmas)
    known = raised.value.hint.removeprefix("One of: ").rstrip(".").split(", ")
    offered = known if known[0] in schedulers.NAMES else [*schedulers.NAMES]
    if name not in ("sd", "sd3", "flux-dev", "z-image", "sana"):
        offered = offered[:2]
    for one in offered:
        pipe.scheduler = own
        schedulers.exchange(pipe, one, family.passes_sigmas)
        generator = Generator(pipe, None)
        prepared = unwrap(generator.prepare([clean("a dog")])[0])
        (image,) = generator.draw([prepared], DrawOptions(steps=3, size=(64, 64)), [1])
        assert image is not None


def test_a_scheduler_nobody_knows_is_refused_before_a_model_loads(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (("generate", "a cat"), ("batch", "prompts.txt"), ("serve", "--port", "0")):
        assert command(*arguments, "--scheduler", "restart", "--model", "./nowhere") == 2
        assert "unknown scheduler 'restart'" in capsys.readouterr().err
    with pytest.raises(UsageError, match="unknown scheduler"):
        BatchSettings.of(scheduler="euler b")


def test_a_scheduler_changes_the_picture_and_the_record(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how = ("--steps", "3", "--seed", "1", "--json", "--out", str(tmp_path))
    assert command("generate", "a cat", *how, "--scheduler", "DPM++ 2M Karras") == 0
    assert json.loads(capsys.readouterr().out)["scheduler"] == "DPMSolverMultistepScheduler"


STEPS = {
    "sd": 8,
    "sdxl": 8,
    "sd3": 16,
    "flux-dev": 16,
    "pixart": 16,
    "sana": 32,
    "qwen-image": 16,
    "z-image": 16,
    "flux2": 16,
    "flux2-klein": 16,
}


@pytest.mark.parametrize("name", STEPS)
def test_each_pipeline_has_its_own_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family = family_of(pipeline(name))
    monkeypatch.setattr(family.pipe, "vae_scale_factor", 32 if name == "sana" else 8)  # as large as in the real models
    assert family.step == STEPS[name]
    good = [(1328, 1328), (1664, 928), (1360, 768)] if family.step < 32 else [(1344, 768)]
    for size in good:
        sizes.check(*size, family.step)
    if family.step > 8:
        with pytest.raises(UsageError, match="1920x1080 cannot be drawn") as raised:
            sizes.check(1920, 1080, family.step)
        assert "The nearest that can is 1920x1088" in raised.value.hint


@DRAWING
def test_pictures_have_the_size_that_was_asked_for(name: str) -> None:
    generator = Generator(pipeline(name), None)
    step = generator.family.step
    size = (64 + step, 64 + 3 * step)
    (picture,), _ = generator.generate("a dog", DrawOptions(seed=1, steps=1, size=size))
    assert picture.image.size == size


@pytest.mark.parametrize(
    ("size", "step", "near"),
    [
        ((1000, 1001), 8, "1000x1000"), ((1080, 1920), 16, "1088x1920"), ((1, 9999), 8, "64x4096"),
        ((1023, 1025), 32, "1024x1024"), ((50, 50), 48, "96x96"),
    ],
)  # fmt: skip
def test_the_hint_names_the_nearest_good_size(size: tuple[int, int], step: int, near: str) -> None:
    with pytest.raises(UsageError) as raised:
        sizes.check(*size, step)
    assert f"The nearest that can is {near}" in raised.value.hint
    width, height = map(int, re.findall(r"\d+", near))
    sizes.check(width, height, step)


@pytest.mark.slow
def test_sizes_of_the_embedded_model(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how = ("--steps", "1", "--no-guard", "--out", str(tmp_path))
    assert command("generate", "a cat", "--size", "136x72", *how) == 0
    assert command("generate", "a cat", "--size", "256", *how) == 0
    assert "far beyond" not in capsys.readouterr().err
    assert command("generate", "a cat", "--size", "264x128", *how) == 0
    assert "264x128 is far beyond the 128x128" in " ".join(capsys.readouterr().err.split())
    assert command("generate", "a cat", "--size", "1000x1001", *how) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "The nearest that can is 1000x1000 (or 992x992, which every model draws)" in said


def test_a_row_of_a_size_that_this_model_cannot_draw_fails_alone(tmp_path: Path) -> None:
    from safegen.batch.readers import Line
    from safegen.batch.rows import RowParser

    worker = Worker(Generator(pipeline("sana"), None), BatchSettings.of(guarded=False))
    reader = RowParser(worker.settings)
    good, bad = (
        reader.row(Line(i, {"prompt": "a cat", "width": side, "height": side}), i) for i, side in ((1, 64), (2, 72))
    )
    found = worker.prepare([good, bad])
    assert not isinstance(found[1], UsageError)
    assert isinstance(found[2], UsageError)
    assert "64x64" in found[2].hint
