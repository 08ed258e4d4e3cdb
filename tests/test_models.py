"""Loading: local folders, one-file checkpoints, and everything that can be wrong with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from safegen import checkpoints, models
from safegen.errors import ModelError, UsageError
from safegen.families import family_of
from tests import miniatures

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, about models as small as these


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature in diffusers' own layout; tests work on copies."""
    folder = tmp_path_factory.mktemp("models") / "miniature"
    pipe = miniatures.stable_diffusion()
    pipe.save_pretrained(folder)
    shutil.rmtree(folder / "unet")
    pipe.unet.save_pretrained(folder / "unet", max_shard_size="50KB")
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def indexed(folder: Path, **changes: Any) -> Path:
    file = folder / "model_index.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return folder


def test_a_local_folder_is_loaded(folder: Path) -> None:
    pipe = models.load(str(folder), device="cpu", slicing=True, tiling=True)
    assert pipe.vae.use_slicing
    assert pipe.vae.use_tiling
    assert family_of(pipe).fingerprints() == family_of(miniatures.stable_diffusion()).fingerprints()


def test_a_half_downloaded_folder_names_what_is_missing(folder: Path) -> None:
    shards = sorted((folder / "unet").glob("*.safetensors"))
    assert len(shards) > 1
    shards[-1].unlink()
    with pytest.raises(ModelError, match=f"half-downloaded: unet/{shards[-1].name} is missing"):
        models.load(str(folder))


def test_pickled_weights_are_not_read(folder: Path) -> None:
    (folder / "vae" / "diffusion_pytorch_model.safetensors").rename(folder / "vae" / "diffusion_pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pickled weights only.*vae/diffusion_pytorch_model\.bin"):
        models.load(str(folder))


@pytest.mark.parametrize("change", [{"_class_name": ["pipeline", "Mine"]}, {"unet": ["my_unet", "Mine"]}])
def test_code_of_a_model_s_own_is_not_run(folder: Path, change: dict[str, Any]) -> None:
    for name in ("pipeline.py", "my_unet.py", "unet/my_unet.py"):
        (folder / name).write_text("raise SystemExit('this must not run')")
    with pytest.raises(ModelError, match="brings code of its own"):
        models.load(str(indexed(folder, **change)))


def test_an_unsupported_class_is_refused_before_its_weights_are_read(folder: Path) -> None:
    for weights in folder.glob("*/*.safetensors"):
        weights.unlink()
    with pytest.raises(ModelError, match="cannot guard a KandinskyPipeline") as raised:
        models.load(str(indexed(folder, _class_name="KandinskyPipeline")))
    assert "StableDiffusionXLPipeline" in raised.value.hint


def test_a_missing_encoder_is_an_error(folder: Path) -> None:
    with pytest.raises(ModelError, match="cannot load the model"):
        family_of(models.load(str(indexed(folder, text_encoder=[None, None]))))
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(ModelError):
        models.load(str(folder))


def test_a_dtype_that_the_device_lacks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object) -> None:
        raise RuntimeError("not implemented for 'BFloat16'")

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.functional, "conv2d", lacking)
        with pytest.raises(ModelError, match="'cpu' cannot compute in bfloat16"):
            models.load(str(folder), device="cpu", dtype="bfloat16")
    assert models.load(str(folder), device="cpu", dtype="bfloat16").unet.dtype is torch.bfloat16


def test_offloading_needs_something_to_offload_from(folder: Path) -> None:
    with pytest.raises(ModelError, match="needs a GPU"):
        models.load(str(folder), device="cpu", offload="model")


def test_an_offloaded_encoder_is_still_known() -> None:
    from accelerate import cpu_offload

    pipe = miniatures.stable_diffusion()
    before = family_of(pipe).fingerprints()
    cpu_offload(pipe.text_encoder, execution_device=torch.device("cpu"))
    assert next(pipe.text_encoder.parameters()).is_meta
    assert family_of(pipe).fingerprints() == before


def test_an_unknown_quantisation_is_an_error(folder: Path) -> None:
    with pytest.raises(ModelError, match="cannot quantise with 'magic'"):
        models.load(str(folder), quantize="magic")


@pytest.mark.parametrize("how", [{"dtype": "float8"}, {"offload": "everything"}])
def test_unknown_options_are_usage_errors(how: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="unknown"):
        models.load(**how)


def test_one_file_checkpoints(tmp_path: Path) -> None:
    for name in ("model.ckpt", "model.pt", "model.bin"):
        (tmp_path / name).write_bytes(b"\x80\x04pickle")
        with pytest.raises(ModelError, match=f"{name} is a pickle"):
            models.load(str(tmp_path / name))
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(ModelError, match="not a safetensors file"):
        models.load(str(tmp_path / "broken.safetensors"))
    save_file({"lora.weight": torch.zeros(2, 2)}, tmp_path / "lora.safetensors")
    with pytest.raises(ModelError, match="not a whole checkpoint"):
        models.load(str(tmp_path / "lora.safetensors"))


@pytest.mark.parametrize(
    ("key", "shape", "kind"),
    [
        ("cond_stage_model.transformer.text_model.embeddings.position_ids", (1, 77), "StableDiffusionPipeline"),
        ("conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias", (2,), "StableDiffusionXLPipeline"),
    ],
)
def test_a_one_file_checkpoint_says_its_class_by_its_weights(
    tmp_path: Path, key: str, shape: tuple[int, ...], kind: str
) -> None:
    save_file({key: torch.zeros(shape)}, tmp_path / "model.safetensors")
    assert checkpoints.pipeline_class(tmp_path / "model.safetensors") == kind


def test_the_commands_tell_and_exit(
    command: Callable[..., int], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("models", "list", "--json") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [model["name"] for model in found] == list(models.ALIASES)
    assert all(model["licence"] and model["gigabytes"] > 1 for model in found)
    assert command("models", "list") == 0
    assert "qwen-image" in capsys.readouterr().out
    assert command("pull", str(folder)) == 0
    assert str(folder) in capsys.readouterr().out
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert command("pull", "sd15") == 1
    shutil.rmtree(folder / "text_encoder")
    assert command("generate", "a cat", "--model", str(folder)) == 1
    assert command("generate", "a cat", "--model", "model.ckpt") == 1
    assert "is a pickle" in capsys.readouterr().err
    assert command("generate", "a cat", "--dtype", "float8") == 2
