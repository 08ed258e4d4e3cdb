"""Loading: local folders, one-file checkpoints, and everything that can be wrong with them."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from safegen.errors import ModelError, UsageError
from safegen.families import family_of
from safegen.families.pictured import check_from_text
from safegen.generator import Generator
from safegen.models import catalog, checkpoint, loading
from tests.helpers import miniatures
from tests.helpers.pipelines import ATTACHED

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
    pipe = loading.load(str(folder), device="cpu", slicing=True, tiling=True)
    assert pipe.vae.use_slicing
    assert pipe.vae.use_tiling
    assert family_of(pipe).fingerprints() == family_of(miniatures.stable_diffusion()).fingerprints()


def test_a_half_downloaded_folder_names_what_is_missing(folder: Path) -> None:
    shards = sorted((folder / "unet").glob("*.safetensors"))
    assert len(shards) > 1
    shards[-1].unlink()
    with pytest.raises(ModelError, match=f"half-downloaded: unet/{shards[-1].name} is missing"):
        loading.load(str(folder))


def test_pickled_weights_are_not_read(folder: Path) -> None:
    (folder / "vae" / "diffusion_pytorch_model.safetensors").rename(folder / "vae" / "diffusion_pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pickled weights only.*vae/diffusion_pytorch_model\.bin"):
        loading.load(str(folder))


@pytest.mark.parametrize("change", [{"_class_name": ["pipeline", "Mine"]}, {"unet": ["my_unet", "Mine"]}])
def test_code_of_a_model_s_own_is_not_run(folder: Path, change: dict[str, Any]) -> None:
    for name in ("pipeline.py", "my_unet.py", "unet/my_unet.py"):
        (folder / name).write_text("raise SystemExit('this must not run')")
    with pytest.raises(ModelError, match="brings code of its own"):
        loading.load(str(indexed(folder, **change)))


def test_an_unsupported_class_is_refused_before_its_weights_are_read(folder: Path) -> None:
    for weights in folder.glob("*/*.safetensors"):
        weights.unlink()
    with pytest.raises(ModelError, match="cannot guard a KandinskyPipeline: its prompt goes through a prior") as raised:
        loading.load(str(indexed(folder, _class_name="KandinskyPipeline")))
    assert "safegen models classes" in raised.value.hint
    with pytest.raises(ModelError, match="cannot guard a StrangePipeline") as raised:
        loading.load(str(indexed(folder, _class_name="StrangePipeline")))
    assert "CLIPTextModel reach the denoiser is not known" in raised.value.hint


def test_a_missing_encoder_is_an_error(folder: Path) -> None:
    with pytest.raises(ModelError, match="model has no text_encoder"):
        loading.load(str(indexed(folder, text_encoder=[None, None])))


# A part of the pipeline, what of it did not arrive, and the words that say so.
LOST: dict[str, tuple[str, str, str]] = {
    "the vocabulary": ("sd", "tokenizer/tokenizer.json", "half-downloaded: tokenizer/ has no vocabulary"),
    "its configuration": ("sd", "tokenizer/tokenizer_config.json", "tokenizer/tokenizer_config.json is missing"),
    "the tokenizer": ("sd", "tokenizer", "half-downloaded: tokenizer/ is missing"),
    "the encoder": ("sd", "text_encoder", "half-downloaded: text_encoder/ is missing"),
    "the encoder's weights": ("sd", "text_encoder/model.safetensors", "text_encoder/ has no weights"),
    "the denoiser's configuration": ("sd", "unet/config.json", "unet/config.json is missing"),
    "SDXL's second tokenizer": ("sdxl", "tokenizer_2", "half-downloaded: tokenizer_2/ is missing"),
    "FLUX's tokenizer": ("flux-dev", "tokenizer", "half-downloaded: tokenizer/ is missing"),
    "FLUX's second vocabulary": ("flux-dev", "tokenizer_2/tokenizer.json", "tokenizer_2/ has no vocabulary"),
}


@pytest.mark.parametrize("case", LOST)
def test_what_did_not_arrive_is_named(tmp_path: Path, case: str) -> None:
    name, lost, words = LOST[case]
    miniatures.BUILDERS[name]().save_pretrained(tmp_path / "model")
    checkpoint.check_whole(tmp_path / "model", "it")
    path = tmp_path / "model" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ModelError, match=words) as raised:
        loading.load(str(tmp_path / "model"))
    assert "Download it again" in raised.value.hint


def test_half_a_vocabulary_is_none(folder: Path) -> None:
    (folder / "tokenizer" / "tokenizer.json").rename(folder / "tokenizer" / "vocab.json")
    with pytest.raises(ModelError, match="has no vocabulary"):
        checkpoint.check_whole(folder, "it")
    (folder / "tokenizer" / "merges.txt").write_text("a b")
    checkpoint.check_whole(folder, "it")


def test_a_tokenizer_without_a_length_reads_nothing() -> None:
    pipe = miniatures.stable_diffusion()
    pipe.tokenizer.model_max_length = int(1e30)
    with pytest.raises(ModelError, match="names no length"):
        family_of(pipe)


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("model_index.json", "{}", "names no pipeline class"),
        ("model_index.json", '{"_class_name": {"a": 1}}', "brings code of its own"),
        ("model_index.json", "[]", "model_index.json is not a JSON object"),
        ("model_index.json", '{"_class', "half-downloaded: model_index.json is not JSON"),
        ("unet/diffusion_pytorch_model.safetensors.index.json", "{", "unet/diffusion.*index.json is not JSON"),
        ("unet/diffusion_pytorch_model.safetensors.index.json", '{"weight_map": {"a": [1]}}', "names no weights"),
        ("vae/diffusion_pytorch_model.safetensors", "shorter", "vae/diffusion_pytorch_model.safetensors is not whole"),
    ],
)
def test_files_cut_short_are_named(folder: Path, file: str, text: str, words: str) -> None:
    (folder / file).write_text(text)
    with pytest.raises(ModelError, match=words):
        loading.load(str(folder))


def test_weights_cut_short_are_not_read(folder: Path) -> None:
    weights = folder / "text_encoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"text_encoder/model\.safetensors is not whole"):
        loading.load(str(folder))


def test_shards_need_their_index(folder: Path) -> None:
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").unlink()
    with pytest.raises(ModelError, match="unet/ has no weights but parts without their index"):
        loading.load(str(folder))


def test_a_variant_is_of_some_parts_and_not_of_none(folder: Path) -> None:
    vae = folder / "vae" / "diffusion_pytorch_model.safetensors"
    with pytest.raises(ModelError, match="no weights of the variant 'fp16'"):
        loading.load(str(folder), variant="fp16")
    vae.rename(vae.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert loading.load(str(folder), variant="fp16", device="cpu").vae is not None
    with pytest.raises(ModelError, match="other weights than those asked for: vae/") as raised:
        loading.load(str(folder))
    assert raised.value.hint == "Say --variant fp16."


def test_a_variant_in_shards_is_read_by_its_own_index(folder: Path) -> None:
    pipe = miniatures.stable_diffusion()
    shutil.rmtree(folder / "unet")
    pipe.unet.save_pretrained(folder / "unet", max_shard_size="50KB", variant="fp16")
    assert loading.load(str(folder), variant="fp16", device="cpu").unet is not None
    sorted((folder / "unet").glob("*.safetensors"))[0].unlink()
    with pytest.raises(ModelError, match=r"half-downloaded: unet/.*fp16.* is missing"):
        loading.load(str(folder), variant="fp16")


def test_a_dtype_that_the_device_lacks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object) -> None:
        raise RuntimeError("not implemented for 'BFloat16'")

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.functional, "conv2d", lacking)
        with pytest.raises(ModelError, match="'cpu' cannot compute in bfloat16"):
            loading.load(str(folder), device="cpu", dtype="bfloat16")
    assert loading.load(str(folder), device="cpu", dtype="bfloat16").unet.dtype is torch.bfloat16


def test_offloading_needs_something_to_offload_from(folder: Path) -> None:
    with pytest.raises(ModelError, match="needs a GPU"):
        loading.load(str(folder), device="cpu", offload="model")


def test_an_offloaded_encoder_is_still_known() -> None:
    from accelerate import cpu_offload

    pipe = miniatures.stable_diffusion()
    before = family_of(pipe).fingerprints()
    cpu_offload(pipe.text_encoder, execution_device=torch.device("cpu"))
    assert next(pipe.text_encoder.parameters()).is_meta
    assert family_of(pipe).fingerprints() == before


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_an_encoder_stored_in_half_precision_is_the_same_in_every_dtype(dtype: str) -> None:
    """What ships for it is used, and nothing learned anew."""
    known = family_of(loading.load(offline=True)).fingerprints()
    assert family_of(loading.load(offline=True, dtype=dtype)).fingerprints() == known


def test_a_backend_that_is_not_installed_is_named(folder: Path) -> None:
    with pytest.raises(ModelError, match="bitsandbytes_4bit needs bitsandbytes") as raised:
        loading.load(str(folder), quantize="bitsandbytes_4bit")
    assert raised.value.hint == "pip install 'safegen[quantize]'"


@pytest.mark.parametrize("how", [{"dtype": "float8"}, {"offload": "everything"}, {"quantize": "magic"}])
def test_unknown_options_are_usage_errors(how: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="unknown") as raised:
        loading.load(**how)
    assert raised.value.hint.startswith("One of:")


def test_one_file_checkpoints(tmp_path: Path) -> None:
    for name in ("model.ckpt", "model.pt", "model.bin"):
        (tmp_path / name).write_bytes(b"\x80\x04pickle")
        with pytest.raises(ModelError, match=f"{name} is a pickle"):
            loading.load(str(tmp_path / name))
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(ModelError, match="not a safetensors file"):
        loading.load(str(tmp_path / "broken.safetensors"))
    save_file({"lora.weight": torch.zeros(2, 2)}, tmp_path / "lora.safetensors")
    with pytest.raises(ModelError, match="not a whole checkpoint"):
        loading.load(str(tmp_path / "lora.safetensors"))


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
    assert checkpoint.pipeline_class(tmp_path / "model.safetensors") == kind


def test_the_commands_tell_and_exit(
    command: Callable[..., int], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("models", "list", "--json") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [model["name"] for model in found] == [catalog.EMBEDDED, *catalog.ALIASES]
    assert all(model["licence"] for model in found)
    assert all((model["gigabytes"] > 1) is (model["name"] in catalog.ALIASES) for model in found)
    assert command("models", "list") == 0
    assert "qwen-image" in capsys.readouterr().out
    assert command("pull", str(folder)) == 0
    assert str(folder) in capsys.readouterr().out
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert command("pull", "sd15") == 1
    shutil.rmtree(folder / "text_encoder")
    capsys.readouterr()
    assert command("generate", "a cat", "--model", str(folder)) == 1
    lines = capsys.readouterr().err.splitlines()
    assert "text_encoder/ is missing" in lines[0]  # and no line of diffusers' own before it
    assert command("generate", "a cat", "--model", "model.ckpt") == 1
    assert "is a pickle" in capsys.readouterr().err
    assert command("generate", "a cat", "--dtype", "float8") == 2


@pytest.mark.parametrize(
    "arguments",
    [
        *[("generate", "a cat", "--strength", value) for value in ("2", "nan", "-1", "inf")],
        ("generate", "a cat", "--no-guard", "--strength", "2"),
        ("batch", "prompts.txt", "--strength", "nan"),
        ("generate", "a cat", "--size", "100"),
        ("batch", "prompts.txt", "--size", "64x100"),
    ],
)
def test_settings_are_checked_before_a_model_is_looked_for(
    command: Callable[..., int], arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*arguments, "--model", "./nowhere") == 2
    said = capsys.readouterr().err
    assert "outside 0 to 1.5" in said or "cannot be drawn" in said
    assert arguments[-1] in said.replace("2.0", "2")


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "a cat"),
        ("score", "a cat"),
        ("directions", "learn", "hate"),
        ("serve", "--port", "0", "--vae-slicing", "--vae-tiling"),
    ],
)
def test_commands_take_every_option_of_loading(
    command: Callable[..., int], arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for option, value in (("--dtype", "float8"), ("--offload", "half"), ("--quantize", "magic")):
        assert command(*arguments, option, value) == 2
        assert repr(value) in capsys.readouterr().err
    where = ("--model", "owner/model", "--revision", "old", "--variant", "fp16", "--offline")
    assert command(*arguments, *where) == 1
    assert "(owner/model, revision old, variant fp16)" in capsys.readouterr().err


def test_files_are_verified_for_the_encoder_as_it_is_loaded(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("directions", "verify", "hate", "--device", "cpu", "--dtype", "float32") == 0
    assert command("directions", "verify", "hate", "--device", "cpu", "--dtype", "bfloat16") == 0
    where = ("--model", "owner/model", "--revision", "old", "--variant", "fp16", "--offline")
    assert command("directions", "verify", *where) == 1
    assert "(owner/model, revision old, variant fp16)" in capsys.readouterr().err


@pytest.mark.parametrize("channels", [9, 8, 5])
def test_a_denoiser_that_takes_more_than_latents_wants_a_picture(folder: Path, channels: int) -> None:
    """Inpainting, editing and depth: pipelines for text take their models, and fail in the first step."""
    shutil.rmtree(folder / "unet")
    miniatures.unet(64, in_channels=channels, out_channels=4).save_pretrained(folder / "unet")
    with pytest.raises(ModelError, match=f"draws from a picture.*its unet takes {channels} channels"):
        Generator.load(str(folder), guarded=False, device="cpu")
    assert family_of(loading.load(str(folder), device="cpu")) is not None  # to score with


def test_so_does_a_transformer() -> None:
    for name in miniatures.BUILDERS.keys() - set(ATTACHED):
        check_from_text(family_of(miniatures.BUILDERS[name]()).pipe)
    for channels in (32, 96):  # FLUX.1 for edges and depth, and for filling in, by its proportions
        pipe = miniatures.flux()
        pipe.transformer.register_to_config(in_channels=channels)
        with pytest.raises(ModelError, match=f"its transformer takes {channels} channels, and latents have 4"):
            Generator(pipe, None)


@pytest.mark.parametrize(
    ("first", "shape", "beside"),
    [
        ("model.diffusion_model.input_blocks.0.0.weight", (8, 9, 3, 3), "cond_stage_model.x"),
        ("model.diffusion_model.input_blocks.0.0.weight", (8, 8, 3, 3), "cond_stage_model.x"),
        (
            "model.diffusion_model.input_blocks.0.0.weight",
            *((8, 5, 3, 3), "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias"),
        ),
    ],
)
def test_a_one_file_checkpoint_that_wants_a_picture(
    tmp_path: Path, first: str, shape: tuple[int, ...], beside: str
) -> None:
    save_file({first: torch.zeros(shape), beside: torch.zeros(2)}, tmp_path / "edit.safetensors")
    with pytest.raises(ModelError, match=r"edit\.safetensors draws from a picture"):
        loading.load(str(tmp_path / "edit.safetensors"), offline=True)


@pytest.mark.skipif(importlib.util.find_spec("sentencepiece") is not None, reason="what is missing is named")
@pytest.mark.parametrize(
    ("name", "part", "file"),
    [
        ("flux-dev", "tokenizer_2", "spiece.model"),
        ("pixart", "tokenizer", "spiece.model"),
        ("sd3", "tokenizer_3", "spiece.model"),
        ("sana", "tokenizer", "tokenizer.model"),
    ],
)
def test_a_vocabulary_in_pieces_names_the_package_that_reads_it(
    tmp_path: Path, name: str, part: str, file: str
) -> None:
    miniatures.BUILDERS[name]().save_pretrained(tmp_path / "model")
    (tmp_path / "model" / part / file).write_bytes(b"\n\x0c\n\x05<unk>")
    assert loading.load(str(tmp_path / "model"), device="cpu") is not None
    (tmp_path / "model" / part / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=f"the vocabulary of {part} as {file} alone.* sentencepiece") as raised:
        loading.load(str(tmp_path / "model"), device="cpu")
    assert "pip install sentencepiece" in raised.value.hint
    assert loading.pull(str(tmp_path / "model"))  # it is whole


def test_a_model_that_was_saved_without_what_it_can_spare_loads(tmp_path: Path) -> None:
    miniatures.BUILDERS["sd3-without-t5"]().save_pretrained(tmp_path / "model")
    pipe = loading.load(str(tmp_path / "model"), device="cpu")
    assert pipe.text_encoder_3 is None
    assert pipe.text_encoder_2 is not None


@pytest.mark.parametrize("part", ["text_encoder", "text_encoder_2", "vae"])
def test_a_model_that_was_saved_without_what_it_needs_is_refused(tmp_path: Path, part: str) -> None:
    miniatures.BUILDERS["sd3-without-t5"]().save_pretrained(tmp_path / "model")
    index = json.loads((tmp_path / "model" / "model_index.json").read_text())
    index[part] = [None, None]
    (tmp_path / "model" / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=f"has no {part}$"):
        loading.load(str(tmp_path / "model"), device="cpu")
