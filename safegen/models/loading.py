"""Finding and loading models: the embedded one, aliases, hub ids, local folders and single files."""

from __future__ import annotations

import contextlib
import gc
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safegen.errors import ModelError, SafegenError, UsageError
from safegen.models import adapters, checkpoint, hub, placement, quantizing, schedulers, speed
from safegen.models.catalog import EMBEDDED, EMBEDDED_ID, locate
from safegen.models.options import LoadOptions


def load(model: str | LoadOptions = EMBEDDED, **changes: Any) -> Any:
    """Load a diffusers pipeline, from safetensors only and never with code of its own.

    Args:
        model: how to load it; or only its name: `embedded`, an alias, a hub id, or the path of a local
            folder or of one .safetensors file.
        changes: fields of `LoadOptions` that differ from those in `model`.

    Raises:
        ModelError: the model is not found, not in the cache while offline, pickled or incomplete; it has code of its
            own, a class that cannot be guarded, or a dtype that the device lacks; or an addition does not belong to
            it, see `adapters`.
        UsageError: the dtype, the way to offload or to quantise, the cache, the attention or the scheduler is unknown.
    """
    how = replace(LoadOptions(model) if isinstance(model, str) else model, **changes)
    with _without_collector():
        return _load(how)


def _load(how: LoadOptions) -> Any:
    name = how.model
    placement.check(how)
    quantizing.check(how)
    speed.check(how)
    schedulers.check(how.scheduler)
    additions = adapters.list_additions(how.embeddings, how.loras)
    source = locate(name)
    _quiet()
    import torch
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    from safegen.families import check_class

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    where = placement.device(how.device, torch)
    placement.check_dtype(how.dtype, where, torch)
    single = Path(source).suffix == ".safetensors"
    folder, kind = _configuration(name, Path(source), how) if single else _whole(name, source, how)
    checkpoint.check_packages(folder, name)
    parts = checkpoint.parts(checkpoint.index(folder, name))
    options = {
        "torch_dtype": placement.dtype(how.dtype, where, kind, torch),
        "variant": how.variant,
        "quantization_config": quantizing.configuration(how, parts),
    }
    options = {key: value for key, value in options.items() if value is not None}
    try:
        if how.denoiser is not None:
            options |= quantizing.load_denoiser(how.denoiser, folder, parts, options["torch_dtype"])
        pipe = _read(kind, folder, Path(source) if single else None, options)
    except SafegenError:
        raise
    except Exception as error:  # diffusers raises a dozen kinds; all mean that there is no model
        raise _explain(name, error, how) from error
    pipe.set_progress_bar_config(disable=True)
    schedulers.exchange(pipe, how.scheduler, check_class(kind).passes_sigmas)
    adapters.add(pipe, additions)
    pipe = placement.place(pipe, where, how)
    speed.apply(pipe, how)
    return pipe


def pull(name: str, *, revision: str | None = None, variant: str | None = None) -> str:
    """Download what loading needs, and nothing pickled; give the folder in the hub's cache.

    Raises:
        ModelError: the hub has no such model, or asks for its licence to be accepted first; or the model could not
            be loaded.
    """
    source = locate(name)
    if Path(source).is_file():
        _configuration(name, Path(source), LoadOptions(name))
        return source
    return str(_whole(name, source, LoadOptions(name, revision=revision, variant=variant))[0])


def find(name: str) -> Path:
    """Find the folder or file of a model that is whole on this machine; nothing is loaded or downloaded.

    Raises:
        ModelError: the model is not here, not whole or pickled, or has code of its own or a class that cannot be
            guarded.
    """
    source = locate(name)
    _quiet()
    if Path(source).is_file():
        _configuration(name, Path(source), LoadOptions(name, offline=True))
        return Path(source)
    return _whole(name, source, LoadOptions(name, offline=True))[0]


def _whole(name: str, source: str, how: LoadOptions) -> tuple[Path, str]:
    """Find a model's complete folder and its pipeline's class, which is checked before gigabytes are downloaded."""
    if Path(source).is_dir():
        folder = Path(source)
    else:
        repository = hub.Repository(name, source, how.revision, how.variant, how.offline)
        folder = repository.folder()
        _pipeline_class(name, folder)
        repository.fetch(folder)
    kind = _pipeline_class(name, folder)  # again: more than weights may have come
    if name != EMBEDDED:
        checkpoint.check_whole(folder, name, how.variant)
    return folder, kind


def _configuration(name: str, file: Path, how: LoadOptions) -> tuple[Path, str]:
    """Find the folder with a one-file checkpoint's configuration, which is on the hub, and its pipeline's class."""
    kind = checkpoint.pipeline_class(file)
    repository = hub.Repository(name, checkpoint.configuration(file), offline=how.offline)
    return repository.configuration(), kind


def _pipeline_class(name: str, folder: Path) -> str:
    from safegen.families import check_class

    index = checkpoint.index(folder, name)
    kind = index["_class_name"]
    pairs = [value for key, value in index.items() if not key.startswith("_") and isinstance(value, list)]
    modules = [pair[0] for pair in pairs if len(pair) == 2 and isinstance(pair[0], str)]
    own = [module for module in modules if not _is_library(module)]
    own += [path.name for path in folder.glob("modular_config.json")]  # it names blocks of the model's own
    if not isinstance(kind, str) or own:
        raise ModelError(
            f"the model {name!r} brings code of its own ({', '.join(own) or kind})",
            "safegen runs no code from models; use one of plain diffusers classes.",
        )
    text_encoder = checkpoint.parts(index).get("text_encoder")
    _refuse_former(index, text_encoder)
    check_class(kind, text_encoder)
    return kind


def _refuse_former(index: Mapping[str, Any], text_encoder: str | None) -> None:
    if index.get("_name_or_path") == EMBEDDED_ID and text_encoder == "BertModel":
        raise ModelError(
            "this folder is a copy of the embedded model's former edition, which read prompts by BERT",
            "Leave out --model to draw with the edition that ships, or copy it anew.",
        )


def _is_library(module: str) -> bool:
    import diffusers.pipelines

    return module.split(".", maxsplit=1)[0] in checkpoint.LIBRARIES or hasattr(diffusers.pipelines, module)


def _read(kind: str, folder: Path, file: Path | None, options: dict[str, Any]) -> Any:
    """Load a pipeline of which every file is here: diffusers asks the hub for others despite `local_files_only`."""
    import diffusers

    if file is not None:
        return getattr(diffusers, kind).from_single_file(
            str(file), config=str(folder), local_files_only=True, **options
        )
    if checkpoint.is_modular(folder):
        return _read_modular(folder, options)
    # Diffusers looks for every part of the class, even for those that the index says are not there.
    absent = dict.fromkeys(checkpoint.list_absent(checkpoint.index(folder, str(folder))))
    return diffusers.DiffusionPipeline.from_pretrained(
        str(folder), local_files_only=True, use_safetensors=True, **absent, **options
    )


def _read_modular(folder: Path, options: dict[str, Any]) -> Any:
    """Load the parts of a modular pipeline from its own folder, and put its classic form around them."""
    import diffusers

    from safegen.families.modular import classic

    kind = diffusers.ModularPipeline.load_config(str(folder), local_files_only=True)["_class_name"]
    pipe = getattr(diffusers, kind)(pretrained_model_name_or_path=str(folder), local_files_only=True)
    named = checkpoint.parts(checkpoint.index(folder, str(folder)))
    if "quantization_config" in options:
        raise UsageError(
            "a modular pipeline cannot be quantised here", "Leave out --quantize, or take its classic form."
        )
    how = {"pretrained_model_name_or_path": str(folder), "local_files_only": True, "use_safetensors": True, **options}
    for name in (name for name, part in named.items() if part is not None):
        part = options[name] if name in options else pipe.get_component_spec(name).load(**how, subfolder=name)
        pipe.update_components(**{name: part})
    return classic(pipe)


def _explain(name: str, error: Exception, how: LoadOptions) -> ModelError:
    """Explain why a checkpoint that is here and seemed whole could not be loaded."""
    text = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    hint = "Download it again; it must be a diffusers model in safetensors."
    if isinstance(error, ImportError):
        hint = "Install what it asks for."
    elif how.denoiser:
        hint = "The file has to hold a denoiser of this very kind of model."
    elif how.quantize:
        hint = "Leave out --quantize, or load it on a GPU that the backend supports."
    return ModelError(f"cannot load the model {name!r}: {text[:300]}", hint)


def _quiet() -> None:
    """Keep the libraries' messages off the terminal; errors still arrive as exceptions."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "critical")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", module=r"(transformers|diffusers|huggingface_hub|torch)\b")


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Keep the garbage collector away, which searches the libraries again and again while they are imported."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
