"""``safegen directions learn --method rece``: weight edits of concepts, for the loaded denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safegen.directions import edits, recipes
from safegen.directions.recipes import Concept
from safegen.models.options import LoadOptions


def learn(method: str, names: Sequence[str], out: Path | None, folder: Path | None, load: LoadOptions) -> None:
    """Learn a weight edit for every named concept, and save it.

    Raises:
        UnknownConcept, UsageError: there is no such recipe, it cannot be used, or the denoiser has nothing to edit.
        ModelError: there is no denoiser, or it is compiled or streamed.
    """
    from safegen import files
    from safegen.cli import console
    from safegen.families import family_of
    from safegen.learning import EDITS
    from safegen.models import loading
    from safegen.safeguards import import_object

    concepts = [Concept.load(name, folder) for name in names]
    targets = [target_folder(recipe, out, folder) for recipe in concepts]
    for target in targets:
        files.check_writable(target)
    family = family_of(loading.load(load))
    for recipe, target in zip(concepts, targets, strict=True):
        edit = import_object(EDITS[method])(recipe, family, console)
        console.say(f"{recipe.name}, {method}, {edit.figures()}")
        path = target / edit.file_name
        edit.save(path)
        console.show_path(path)


def target_folder(recipe: Concept, out: Path | None, folder: Path | None) -> Path:
    """Give the folder for a concept's edits: in `out`, else beside the user's own recipe, else the cache."""
    if out is not None:
        return out / recipe.name / edits.FOLDER
    own = recipes.known(folder).get(recipe.name)
    if own is not None and not own.is_relative_to(recipes.directions_folder()):
        return own / edits.FOLDER
    return edits.cached_folder() / recipe.name


def listed(folder: Path | None) -> list[tuple[str, str]]:
    """List the concepts that have weight edits, each with the names of its files."""
    found = []
    for name, where in recipes.known(folder).items():
        if stems := sorted({path.stem for path in edits.files(name, "*", where)}):
            found.append((name, ", ".join(stems)))
    return found
