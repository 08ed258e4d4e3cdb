"""Speed and quantised weights: what they change is the denoiser, and the text encoder keeps its fingerprint."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from safegen import Generator
from safegen.errors import ModelError, UsageError
from safegen.families import family_of
from safegen.models import loading, quantizing, speed
from safegen.models.options import DrawOptions, LoadOptions
from tests.helpers import miniatures
from tests.helpers.pipelines import BENIGN, HARMFUL, pipeline, prepared

SMALL = DrawOptions(seed=1, steps=6, size=(64, 64))
CACHED = [
    ("flux-dev", "first-block"),
    ("flux-dev", "taylorseer"),
    ("flux2", "taylorseer"),
    ("flux2-klein", "taylorseer"),
]


def built(name: str, **asked: Any) -> Any:
    pipe = miniatures.BUILDERS[name]()
    pipe.set_progress_bar_config(disable=True)
    speed.apply(pipe, LoadOptions(**asked))
    return pipe


@pytest.mark.parametrize(
    "compile_", [lambda one: torch.compile(one, backend="eager"), lambda one: one.compile() or one]
)
def test_a_compiled_encoder_keeps_its_fingerprint_and_its_directions(compile_: Any) -> None:
    pipe = miniatures.stable_diffusion()
    pipe.set_progress_bar_config(disable=True)
    pipe.text_encoder = compile_(pipe.text_encoder)
    assert family_of(pipe).fingerprints() == family_of(pipeline("sd")).fingerprints()
    if hasattr(pipe.text_encoder, "_orig_mod"):  # the other waits for a compiler
        with prepared("sd").attached(pipe) as guard:
            pipe(HARMFUL, num_inference_steps=1, width=64, height=64)
        assert guard.last[0].sanitized


@pytest.mark.slow
@pytest.mark.parametrize(("name", "cache"), CACHED)
def test_a_denoiser_that_caches_is_guarded_and_begins_every_picture_afresh(name: str, cache: str) -> None:
    pipe = built(name, cache=cache)
    generator = Generator(pipe, prepared(name))
    asked = (SMALL, DrawOptions(seed=1, steps=6, image=Image.new("RGB", (64, 64), "teal")))
    first = [generator.generate(BENIGN, options)[0][0].image.tobytes() for options in asked]
    with pytest.raises(ZeroDivisionError):
        generator.generate(HARMFUL, SMALL, on_step=lambda step, _: 1 // 0 if step == 3 else None)
    (_,), report = generator.generate(HARMFUL, SMALL)
    assert report is not None
    assert report.sanitized
    again = [generator.generate(BENIGN, options)[0][0].image.tobytes() for options in asked]
    assert again == first


@pytest.mark.parametrize(
    ("name", "cache", "hint"),
    [
        ("sd", "first-block", "Leave it out"),
        ("sd3", "taylorseer", "Leave it out"),
        ("flux2", "first-block", "taylorseer"),
    ],
)
def test_a_denoiser_that_takes_no_such_cache_says_so_at_once(name: str, cache: str, hint: str) -> None:
    with pytest.raises(ModelError, match=f"takes no --cache {cache}") as raised:
        built(name, cache=cache)
    assert hint in raised.value.hint


def test_latent_directions_are_refused_where_steps_are_left_out_or_compiled() -> None:
    with pytest.raises(ModelError, match="reuses what it computed"):
        family_of(built("flux-dev", cache="first-block")).bottleneck.check()
    pipe = built("sd", compile=True)
    with pytest.raises(ModelError, match="compiled"):
        family_of(pipe).bottleneck.check()
    assert type(pipe.unet).__name__ == "UNet2DConditionModel"
    assert "_orig_mod" not in "".join(pipe.unet.state_dict())


def test_blocks_that_repeat_are_compiled_one_by_one() -> None:
    pipe = built("flux-dev", compile=True)
    compiled = [module for module in pipe.transformer.modules() if module._compiled_call_impl is not None]
    assert {type(module).__name__ for module in compiled} == set(pipe.transformer._repeated_blocks)


def test_another_attention_of_torch_draws_the_same() -> None:
    plain, other = (
        Generator(built("sd", **asked), None).generate(BENIGN, SMALL)[0][0].image.tobytes()
        for asked in ({}, {"attention": "native"})
    )
    assert plain == other


@pytest.mark.parametrize(
    "asked",
    [{"cache": "magic"}, {"attention": "magic"}, {"attention": "flash_hub"}, {"quantize": "magic"},
     {"quantize_encoders": True}],
)  # fmt: skip
def test_what_is_not_known_is_refused_before_anything_is_loaded(asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        loading.load("nowhere/at-all", offline=True, **asked)


@pytest.mark.parametrize(
    ("asked", "package", "extra"),
    [
        ({"quantize": "bitsandbytes_4bit"}, "bitsandbytes", "safegen[quantize]"),
        ({"quantize": "torchao_int8"}, "torchao", "safegen[torchao]"),
        ({"denoiser": "GGUF"}, "gguf", "safegen[gguf]"),
        ({"attention": "sage"}, "sageattention", "sageattention"),
        ({"attention": "flash"}, "flash_attn", "flash-attn"),
    ],
)
def test_what_is_not_installed_is_named_with_how_to_get_it(
    tmp_path: Path, asked: dict[str, str], package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "denoiser" in asked:
        (tmp_path / "d.gguf").write_bytes(b"GGUF")
        asked = {"denoiser": str(tmp_path / "d.gguf")}
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == package else find(name, *more))
    with pytest.raises(ModelError, match=package) as raised:
        loading.load("embedded", **asked)  # type: ignore[arg-type]
    assert extra in raised.value.hint


def test_a_denoisers_file_has_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no file"):
        loading.load("embedded", denoiser=str(tmp_path / "nothing.gguf"))
    (tmp_path / "d.gguf").write_bytes(b"PK\x03\x04 a pickle in a zip")
    with pytest.raises(ModelError, match="no GGUF"):
        loading.load("embedded", denoiser=str(tmp_path / "d.gguf"))


@pytest.mark.parametrize("encoders", [False, True])
def test_the_denoiser_alone_is_quantised_unless_encoders_are_asked_for(encoders: bool) -> None:
    parts = {"transformer": "X", "text_encoder": "Y", "text_encoder_2": "Z", "text_encoder_3": None, "vae": "V"}
    how = LoadOptions(quantize="bitsandbytes_4bit", quantize_encoders=encoders)
    found = quantizing.configuration(how, parts).components_to_quantize
    assert found == ["transformer", *(["text_encoder", "text_encoder_2"] if encoders else [])]
    assert quantizing.configuration(LoadOptions(), parts) is None
