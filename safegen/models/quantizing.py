"""Quantised weights: of the denoiser alone, unless the text encoders are asked for as well.

A quantised text encoder is another encoder: it has another fingerprint, and directions have to be learned for it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safegen.errors import ModelError, UsageError
from safegen.files import as_path

if TYPE_CHECKING:
    from safegen.models.options import LoadOptions

DENOISERS = ("unet", "transformer")


@dataclass(frozen=True)
class Backend:
    """A way to quantise.

    Attributes:
        extra: the extra of safegen that brings what it needs.
        packages: the modules of what it needs.
        options: the arguments of diffusers' configuration.
    """

    extra: str
    packages: tuple[str, ...]
    options: Mapping[str, bool] = field(default_factory=dict)


BACKENDS: Mapping[str, Backend] = {
    "bitsandbytes_4bit": Backend("quantize", ("bitsandbytes", "accelerate"), {"load_in_4bit": True}),
    "bitsandbytes_8bit": Backend("quantize", ("bitsandbytes", "accelerate"), {"load_in_8bit": True}),
    "torchao_int8": Backend("torchao", ("torchao",)),
    "torchao_float8": Backend("torchao", ("torchao",)),
}
_TORCHAO = {"torchao_int8": "Int8WeightOnlyConfig", "torchao_float8": "Float8WeightOnlyConfig"}


def check(how: LoadOptions) -> None:
    """Check that the backend is known and installed, and that the denoiser's file can be read here.

    Raises:
        UsageError: the backend is not known; or there is nothing to quantise the encoders with.
        ModelError: a package is not installed; or there is no such file, or it is no GGUF.
    """
    name = how.quantize
    if name is not None and name not in BACKENDS:
        raise UsageError(f"unknown backend to quantise with: {name!r}", f"One of: {', '.join(BACKENDS)}.")
    if how.quantize_encoders and name is None:
        raise UsageError("--quantize-encoders goes with --quantize", "Say what to quantise with.")
    if name is not None:
        _require(BACKENDS[name].packages, f"--quantize {name}", BACKENDS[name].extra)
    if how.denoiser is None:
        return
    path = as_path(how.denoiser)
    if not path.is_file():
        raise ModelError(f"no file at {path}", "Check the path.")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelError(f"{path.name} is no GGUF file", "--denoiser takes a GGUF file; --model takes all others.")
    if name is not None:
        raise UsageError("a denoiser in a GGUF file is quantised already", "Leave out --quantize.")
    _require(("gguf", "accelerate"), "--denoiser", "gguf")


def _require(packages: Iterable[str], what: str, extra: str) -> None:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ModelError(f"{what} needs {' and '.join(missing)}", f"pip install 'safegen[{extra}]'")


def configuration(how: LoadOptions, parts: Mapping[str, str | None]) -> Any:
    """Make diffusers' configuration for the backend; None for none.

    Args:
        how: says the backend, and whether encoders are meant as well.
        parts: the classes of the pipeline's parts, by name.
    """
    if how.quantize is None:
        return None
    from diffusers import PipelineQuantizationConfig

    named = [name for name in DENOISERS if parts.get(name)]
    if how.quantize_encoders:
        named += [name for name, kind in parts.items() if name.startswith("text_encoder") and kind]
    if how.quantize in _TORCHAO:
        return PipelineQuantizationConfig(quant_mapping={name: _torchao(how.quantize, name) for name in named})
    options = dict(BACKENDS[how.quantize].options)
    return PipelineQuantizationConfig(quant_backend=how.quantize, quant_kwargs=options, components_to_quantize=named)


def _torchao(name: str, part: str) -> Any:
    """Make the configuration of torchao for a part; transformers and diffusers each have their own class for it."""
    import diffusers
    import transformers
    from torchao import quantization

    library: Any = transformers if part.startswith("text_encoder") else diffusers
    return library.TorchAoConfig(getattr(quantization, _TORCHAO[name])())


def load_denoiser(file: str, folder: Path, parts: Mapping[str, str | None], dtype: Any) -> dict[str, Any]:
    """Load a denoiser from a GGUF file, by the configuration of the model that it is put into; named as its part.

    Raises:
        ModelError: the model has no transformer, or diffusers reads none from single files.
    """
    import diffusers

    kind = getattr(diffusers, parts.get("transformer") or "", None)
    if kind is None or not hasattr(kind, "from_single_file"):
        raise ModelError("this model's denoiser is not read from a single file", "Leave out --denoiser.")
    config = diffusers.GGUFQuantizationConfig(compute_dtype=dtype)
    denoiser = kind.from_single_file(
        str(as_path(file)),
        quantization_config=config,
        config=str(folder),
        subfolder="transformer",
        torch_dtype=dtype,
        local_files_only=True,
    )
    return {"transformer": denoiser}
