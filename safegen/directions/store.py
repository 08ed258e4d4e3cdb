"""The store of direction files: which file belongs to which output of an encoder, and where new ones go."""

from __future__ import annotations

import os
from pathlib import Path

from safegen.directions import recipes
from safegen.directions.direction import SCHEMA, Direction
from safegen.directions.recipes import Concept
from safegen.errors import DirectionError
from safegen.files import as_path

POOR = 0.9  # a learned direction with a held-out AUC below this is not ready


def find(name: str, fingerprint: str, folder: Path | None) -> Direction | None:
    """Find the concept's direction for this output of an encoder, or None; a corrupt file is an error, not a miss.

    A direction that the user learned for an encoder with a shipped one wins over the shipped one, as long as it was
    learned from the present recipe.
    """
    every = map(Direction.load, direction_files(name, folder))
    found = [direction for direction in every if direction.info["fingerprint"] == fingerprint]
    if len(found) > 1:
        recipe = Concept.load(name, folder).sha256
        found.sort(key=lambda d: d.info["recipe_sha256"] != recipe)
    return found[0] if found else None


def ships(fingerprint: str) -> bool:
    """Tell whether directions for this output of an encoder come with safegen."""
    files = recipes.directions_folder().glob(f"*/*-{fingerprint[:8]}.safetensors")
    return any(Direction.load(file).info["fingerprint"] == fingerprint for file in files)


def is_ready(direction: Direction) -> bool:
    """Tell whether a direction's numbers are finite, and its held-out figures good enough to guard with."""
    auc = _area(direction)
    return _is_finite(direction) and isinstance(auc, (int, float)) and auc >= POOR  # written so that NaN is poor, too


def check_ready(direction: Direction, what: str) -> None:
    """Check that a direction is ready.

    Raises:
        DirectionError: its held-out figures are poor, or there are none, or it holds numbers that are not finite.
    """
    if not _is_finite(direction):
        raise DirectionError(
            f"{what} holds numbers that are not finite (NaN)",
            "Try another --dtype, or learn it again: safegen directions learn.",
        )
    if not is_ready(direction):
        raise DirectionError(
            f"{what} reaches a held-out AUC of only {_area(direction)}; under {POOR} it is not ready",
            "Learn it with safegen directions learn --effort thorough, extend its recipe, or leave the concept out.",
        )


def _is_finite(direction: Direction) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in direction.tensors.values())


def _area(direction: Direction) -> object:
    held_out = direction.info.get("held_out")
    return held_out.get("auc") if isinstance(held_out, dict) else None


def cache_folder() -> Path:
    """Give the folder of directions learned on first use; each version of the schema has its own."""
    base = os.environ.get("SAFEGEN_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return as_path(base) / "safegen" / SCHEMA.replace("safegen.", "").replace("/", "-")


def direction_files(name: str, extra: Path | None = None) -> list[Path]:
    """List a concept's direction files: beside the user's own recipe, then in the cache, then the shipped ones."""
    folders = [recipes.known(extra)[name], cache_folder() / name]
    if folders[0].parent == recipes.directions_folder():
        folders.reverse()
    return [file for folder in folders for file in sorted(folder.glob("*.safetensors"))]


def learned_folder(name: str, extra: Path | None = None) -> Path:
    """Give the folder for a newly learned CONCEPT/ENCODER.safetensors: the user's own recipes', else the cache."""
    if name not in recipes.known(extra):
        recipe = as_path(name)
        return (recipe if recipe.is_dir() else recipe.parent).resolve().parent
    own = None if extra is None else as_path(extra)
    return own if own and (own / name / "concept.toml").is_file() else cache_folder()
