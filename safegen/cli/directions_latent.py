"""``safegen directions learn --method latent``: vectors of concepts and attributes, for the loaded denoiser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safegen.cli.directions_saving import save_useful
from safegen.directions import attributes, kinds, latent, recipes
from safegen.directions.attributes import Attribute
from safegen.directions.latent import LatentDirection
from safegen.directions.recipes import Concept
from safegen.errors import DirectionError, ModelError, UsageError
from safegen.models.options import LoadOptions

if TYPE_CHECKING:
    from safegen.families import Family

METHOD = "latent"


def learn(names: Sequence[str], out: Path | None, folder: Path | None, load: LoadOptions) -> None:
    """Learn every meaning of the named concepts and attributes, and save the vectors that are of use.

    Raises:
        UnknownConcept, UsageError: there is no such recipe, or it cannot be used.
        ModelError: the denoiser has no place for a vector, or is compiled or streamed.
        DirectionError: a vector is of no use; the others are saved.
    """
    from safegen import files
    from safegen.cli import console
    from safegen.families import family_of
    from safegen.learning import latent as learning
    from safegen.learning.lessons import meanings
    from safegen.models import defaults, loading

    found = [find_recipe(name, folder) for name in names]
    kind = kinds.KINDS[latent.SCHEMA]
    targets = [kind.target(recipe, out, folder) for recipe in found]
    for target in targets:
        files.check_writable(target)
    family = family_of(loading.load(load))
    guidance, print_ = defaults.of(family, load.model).guidance, family.bottleneck.fingerprint

    def learned() -> Iterator[tuple[str, LatentDirection, Path]]:
        for recipe, target in zip(found, targets, strict=True):
            for meaning in meanings(recipe):
                partial = latent.cached_folder() / recipe.name / f".{meaning}-{print_[:8]}.partial"
                vector = learning.learn(recipe, meaning, family, guidance, partial=partial, progress=console)
                yield f"{recipe.name}, {meaning}", vector, target

    save_useful(kind, learned())


def find_recipe(name: str, folder: Path | None) -> Attribute | Concept:
    """Find the recipe of an attribute, or else of a concept."""
    return Attribute.load(name, folder) if name in attributes.known(folder) else Concept.load(name, folder)


def listed(folder: Path | None) -> Iterator[tuple[str, str, list[str]]]:
    """List every class of every attribute, and the concepts that have a vector, each with its denoisers."""
    for name, where in attributes.known(folder).items():
        for label in Attribute.load(name, folder).classes:
            yield name, label, _denoisers(name, label, where)
    for name, where in recipes.known(folder).items():
        if found := _denoisers(name, latent.SAFE, where):
            yield name, latent.SAFE, found


def verdicts(
    family: Family, owners: Mapping[str, Attribute | Concept], folder: Path | None
) -> list[tuple[str, str, str]]:
    """Check the files that belong to this model's denoiser: whose each is, what it means, and what is wrong if any."""
    try:
        fingerprint = family.bottleneck.fingerprint
    except ModelError:
        return []  # this denoiser has no place for any
    found = []
    for name, recipe in owners.items():
        for kind in (kind for kind in kinds.KINDS.values() if kind.folder):
            for path in kind.files(name, folder):
                verdict = _verdict(kind, path, fingerprint, recipe.sha256)
                if verdict:
                    found.append((name, f"{kind.folder}, {path.stem.rpartition('-')[0]}", verdict))
    return found


def _verdict(kind: kinds.Kind, path: Path, fingerprint: str, recipe: str) -> str:
    """Say what is wrong with a file, or that it is sound; empty for one of another denoiser."""
    try:
        info = kind.load(path).info
    except DirectionError as error:
        return str(error)
    if info["fingerprint"] != fingerprint:
        return ""
    return "sound" if info["recipe_sha256"] == recipe else "older than its recipe"


def _denoisers(name: str, meaning: str, where: Path) -> list[str]:
    return sorted({path.stem.removeprefix(f"{meaning}-") for path in latent.files(name, meaning, where)})


def refuse_attributes(names: Sequence[str], folder: Path | None) -> None:
    """Refuse to learn an attribute by a method that is for concepts.

    Raises:
        UsageError: a name is an attribute's.
    """
    for name in names:
        if name in attributes.known(folder) and name not in recipes.known(folder):
            raise UsageError(f"{name} is an attribute, and no concept", f"Learn it with --method {METHOD}.")
