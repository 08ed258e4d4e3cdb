"""Which direction file belongs to which output of which encoder, and where new ones go."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safegen.directions import recipes
from safegen.directions.direction import SCHEMA, Direction
from safegen.directions.recipes import Concept
from safegen.errors import DirectionError
from safegen.files import located

if TYPE_CHECKING:
    from safegen.directions.recipes import Concept
    from safegen.families import Family

POOR = 0.9  # held-out AUC under which a learned direction is not called ready


def available(
    names: Sequence[str], family: Family, folder: Path | None
) -> tuple[dict[str, dict[str, Direction]], list[str]]:
    """The directions of those concepts that have one for every channel, and the names of the others.

    Raises:
        DirectionError: a file is corrupt or of another revision of the encoder.
    """
    fingerprints = family.fingerprints()
    ready: dict[str, dict[str, Direction]] = {}
    for name in names:
        found = {channel: find(name, print_, folder) for channel, print_ in fingerprints.items()}
        whole = {channel: direction for channel, direction in found.items() if direction is not None}
        if len(whole) == len(found):
            ready[name] = whole
        else:
            refuse_strangers(name, family, folder)
    return ready, [name for name in names if name not in ready]


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


def refuse_strangers(name: str, family: Family, folder: Path | None) -> None:
    """A file that the user put beside a recipe, for the same kind of encoder but other weights, is a mistake."""
    if folder is None or not (folder / name).is_dir():
        return
    for path in sorted((folder / name).glob("*.safetensors")):
        info = Direction.load(path).info
        for reading in family.readings:
            same = (info["encoder"], info["output"], info["width"]) == (reading.kind, reading.output, reading.width)
            if same and info["fingerprint"] != reading.fingerprint:
                raise DirectionError(
                    f"{path.name} was learned for another revision of the {reading.kind} encoder "
                    f"({info['fingerprint'][:8]}, this one is {reading.fingerprint[:8]})",
                    f"Learn it again: safegen directions learn {name}, with this --model, --lora and --directions.",
                )


def current(recipe: Concept, family: Family, folder: Path | None) -> dict[str, Direction] | None:
    """By channel, what was learned for the family from the recipe as it is today; None where any is missing."""
    if recipe.name not in recipes.known(folder):
        return None  # a recipe from elsewhere, by its path
    found = {channel: find(recipe.name, print_, folder) for channel, print_ in family.fingerprints().items()}
    fresh = {c: d for c, d in found.items() if d is not None and d.info["recipe_sha256"] == recipe.sha256}
    return fresh if len(fresh) == len(found) else None


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
