"""A check of this installation: versions, device, caches, extras, and the guard tried on one prompt."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safegen.errors import SafegenError
from safegen.records import versions

# The modules that the optional parts need.
EXTRAS: Mapping[str, Sequence[str]] = {
    "ray": ("ray",),
    "serve": ("fastapi", "uvicorn"),
    "offload": ("accelerate",),
    "lora": ("peft",),
    "quantize": ("bitsandbytes", "accelerate"),
    "torchao": ("torchao",),
    "gguf": ("gguf", "accelerate"),
    "nudenet": ("nudenet",),
    "eval-unlearn": ("eval_unlearn",),
    "train": ("onnx", "sympy"),
}
CALM = "a red apple"


@dataclass(frozen=True)
class Finding:
    """One thing that was checked; where it is not `good`, safegen does not work as it is set up."""

    what: str
    found: str
    good: bool = True
    hint: str = ""


def examine(model: str, device: str, directions: Path | None) -> Iterator[Finding]:
    """Check everything, the quick things first.

    Args:
        model: name of the model that is set.
        device: name of the device that is set.
        directions: folder of the user's own concepts.
    """
    yield Finding("versions", ", ".join(f"{name} {version}" for name, version in versions().items()))
    yield from extras()
    yield from try_out("device", lambda: _device(device))
    yield from try_out("cache", _cache)
    yield from try_out("reader", _reader)
    yield from try_out(f"model {model}", lambda: _model(model))
    yield from try_out("guard of the embedded model", lambda: _guard(directions))


def extras() -> Iterator[Finding]:
    """Check the optional parts; for absent ones, tell how to get them."""
    for extra, modules in EXTRAS.items():
        here = all(importlib.util.find_spec(module) for module in modules)
        hint = "" if here else f"pip install 'safegen[{extra}]'"
        yield Finding(f"extra {extra}", "installed" if here else "absent", hint=hint)


def try_out(what: str, look: Callable[[], str]) -> Iterator[Finding]:
    """Give what `look` finds, or why it fails."""
    try:
        yield Finding(what, look())
    except SafegenError as error:
        yield Finding(what, str(error), good=False, hint=error.hint)


def _device(wanted: str) -> str:
    import torch

    from safegen.models import placement

    name = placement.device(wanted, torch)
    return f"{name} ({torch.cuda.get_device_name(name)})" if name.startswith("cuda") else name


def _cache() -> str:
    from safegen.cli import console
    from safegen.directions import cache, store

    kept = cache.kept()
    size = console.megabytes(sum(file.size for file in kept))
    return f"{store.cache_folder().parent}, {len(kept)} files, {size}"


def _model(name: str) -> str:
    from safegen.models import loading

    return str(loading.find(name))


def _guard(directions: Path | None) -> str:
    from safegen.generator import Generator

    (sheet,) = Generator.load(offline=True, folder=directions, device="cpu").score([CALM])
    senses = " and ".join(sheet.senses)
    return f"{len(sheet.concepts)} concepts by {senses}, {len(sheet.flagged_concepts())} flagged for {CALM!r}"


def _reader() -> str:
    from safegen.reader import Reader

    reader = Reader.load()
    return f"{len(reader.concepts)} concepts, sha256 {reader.sha256[:12]}"
