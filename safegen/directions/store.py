"""Which direction file belongs to which output of which encoder, and where new ones go."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from safegen.directions import recipes
from safegen.directions.direction import SCHEMA, Direction
from safegen.directions.recipes import Concept
from safegen.errors import DirectionError
from safegen.files import located

if TYPE_CHECKING:
    from safegen.directions.recipes import Concept

POOR = 0.9  # held-out AUC under which a learned direction is not called ready


def find(name: str, fingerprint: str, folder: Path | None) -> Direction | None:
    """The concept's direction for this output of an encoder, or None; a corrupt file is an error, not a miss.

    What was learned here for a shipped encoder, from data of one's own, goes before what is shipped, while
    it is of today's recipe.
    """
    every = map(Direction.load, direction_files(name, folder))
    found = [direction for direction in every if direction.info["fingerprint"] == fingerprint]
    if len(found) > 1:
        recipe = Concept.load(name, folder).sha256
        found.sort(key=lambda d: d.info["recipe_sha256"] != recipe)
    return found[0] if found else None


def check_ready(direction: Direction, what: str) -> None:
    """Whether the held-out figures are good enough to guard by.

    Raises:
        DirectionError: they are poor, or there are none.
    """
    held_out = direction.info.get("held_out")
    auc = held_out.get("auc") if isinstance(held_out, dict) else None
    if not isinstance(auc, (int, float)) or not auc >= POOR:  # not a number is poor, too
        raise DirectionError(
            f"{what} reaches a held-out AUC of only {auc}; under {POOR} it is not ready",
            "Learn it with safegen directions learn --effort thorough, extend its recipe, or leave the concept out.",
        )


def cache_folder() -> Path:
    """Where directions learned on first use are kept; another version's files are left alone."""
    base = os.environ.get("SAFEGEN_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return located(base) / "safegen" / SCHEMA.replace("safegen.", "").replace("/", "-")


def direction_files(name: str, extra: Path | None = None) -> list[Path]:
    """Every direction file of a concept: beside the user's own recipe, in the cache, then what is shipped."""
    folders = [recipes.known(extra)[name], cache_folder() / name]
    if folders[0].parent == recipes.directions_folder():
        folders.reverse()
    return [file for folder in folders for file in sorted(folder.glob("*.safetensors"))]


def learned_folder(name: str, extra: Path | None = None) -> Path:
    """Where a newly learned CONCEPT/ENCODER.safetensors goes: to the user's own recipe, else to the cache."""
    if name not in recipes.known(extra):
        recipe = located(name)
        return (recipe if recipe.is_dir() else recipe.parent).resolve().parent
    own = None if extra is None else located(extra)
    return own if own and (own / name / "concept.toml").is_file() else cache_folder()
