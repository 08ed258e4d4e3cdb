"""Which direction file belongs to which encoder: found, or learned on first use and cached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safegen import concepts, directions
from safegen.errors import DirectionError

if TYPE_CHECKING:
    from safegen.concepts import Concept
    from safegen.directions import Direction
    from safegen.families import Family

POOR = 0.9  # held-out AUC under which a learned direction is not called ready


def resolve(
    names: Sequence[str], family: Family, folder: Path | None, on_learn: Callable[[str], None] | None = None
) -> dict[str, Direction]:
    """The direction of every named concept for the family's encoder.

    Raises:
        DirectionError: a file is corrupt, or a freshly learned direction is too poor to use.
    """
    fingerprints = family.fingerprints()
    found = {name: find(name, fingerprints, folder) for name in names}
    missing = [name for name, direction in found.items() if direction is None]
    fresh = learn_missing(missing, family, folder, on_learn) if missing else {}
    return {name: direction or fresh[name] for name, direction in found.items()}


def find(name: str, fingerprints: dict[str, str], folder: Path | None) -> Direction | None:
    """The concept's direction for this encoder, or None; a corrupt file is an error, not a miss."""
    for path in concepts.direction_files(name, folder):
        direction = directions.load(path)
        if direction.info["fingerprints"] == fingerprints:
            return direction
    return None


def current(recipe: Concept, fingerprints: dict[str, str], folder: Path | None) -> Direction | None:
    """The direction that was learned for this encoder from the recipe as it is today, or None."""
    if recipe.name not in concepts.known(folder):
        return None  # a recipe from elsewhere, by its path
    direction = find(recipe.name, fingerprints, folder)
    return direction if direction and direction.info["recipe_sha256"] == recipe.sha256 else None


def learn_missing(
    names: Sequence[str], family: Family, folder: Path | None, on_learn: Callable[[str], None] | None
) -> dict[str, Direction]:
    """Learn directions for a new encoder and keep them in the cache."""
    from safegen.learning import contrastive, encoded

    everyday = encoded.background(family)
    fresh = {}
    for name in names:
        if on_learn:
            on_learn(name)
        direction = contrastive.learn(concepts.load(name, folder), family, everyday)
        auc = direction.info["held_out"]["auc"]
        if auc < POOR:
            raise DirectionError(
                f"the direction learned for {name!r} reaches a held-out AUC of only {auc}",
                "This encoder cannot be guarded on that concept; extend its recipe, or leave the concept out.",
            )
        direction.save(concepts.cache_folder() / name / f"{direction.stem}.safetensors")
        fresh[name] = direction
    return fresh
