"""Files that belong to one denoiser, which they name by a fingerprint: latent directions and weight edits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from safegen.directions.store import cache_folder
from safegen.errors import DirectionError


class OfDenoiser(Protocol):
    """The value of such a file."""

    @property
    def info(self) -> Mapping[str, Any]: ...


File = TypeVar("File", bound=OfDenoiser)


def figures(info: Mapping[str, Any]) -> str:
    """Say in one line how good a file is on what it was not learned from."""
    return "held out: " + ", ".join(f"{name} {value:.4g}" for name, value in info["held_out"].items())


def cached_folder(schema: str) -> Path:
    """Give the folder of such files in the cache; each version of a schema has its own."""
    return cache_folder().with_name(schema.replace("safegen.", "").replace("/", "-"))


def find_files(name: str, start: str, cached: Path, beside: Path | None) -> Iterator[Path]:
    """Find the files of a concept or attribute whose names start so: in the cache first, then beside the recipe."""
    for folder in (cached / name, beside):
        if folder is not None:
            yield from sorted(folder.glob(f"{start}-*.safetensors"))


def match(paths: Iterable[Path], load: Callable[[Path], File], fingerprint: str, what: str, learn: str) -> File:
    """Find, among files, the one that belongs to a denoiser.

    Raises:
        DirectionError: there is none, there is one of another denoiser alone, or a file is corrupt.
    """
    others = []
    for path in paths:
        found = load(path)
        if found.info["fingerprint"] == fingerprint:
            return found
        others.append(path.name)
    if others:
        raise DirectionError(
            f"{others[0]}, a {what}, was learned for another denoiser than this one ({fingerprint[:8]})", learn
        )
    raise DirectionError(f"there is no {what} for this denoiser", learn)
