"""The kinds of files that are learned: where each lies, and what one from elsewhere must be to be kept here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from safegen.directions import attributes, direction, edits, latent, recipes, store
from safegen.directions.attributes import Attribute
from safegen.directions.recipes import Concept
from safegen.errors import DirectionError, UnknownConcept

if TYPE_CHECKING:
    from torch import Tensor


class Learned(Protocol):
    """The value of a file that was learned."""

    @property
    def info(self) -> Mapping[str, Any]: ...

    @property
    def tensors(self) -> Mapping[str, Tensor]: ...

    @property
    def sha256(self) -> str: ...

    @property
    def concept(self) -> str:
        """The concept, or the attribute and its class, in words."""

    @property
    def owner(self) -> str:
        """The concept or attribute that it is of."""

    @property
    def file_name(self) -> str: ...

    def figures(self) -> str: ...

    def save(self, path: Path) -> None: ...


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        folder: where it lies beside a recipe and in a bundle; empty for directions, which lie there themselves.
        load: reads and verifies a file.
        cached: gives its folder in the cache.
        files: finds the files of a concept or attribute, given the user's own folder.
        check_ready: raises where its held-out figures are poor; given the value and what to call it.
    """

    folder: str
    load: Callable[[Path], Learned]
    cached: Callable[[], Path]
    files: Callable[[str, Path | None], Iterable[Path]]
    check_ready: Callable[[Any, str], None] = lambda _found, _what: None

    def place(self, found: Learned) -> str:
        """Give a file's name in a bundle: CONCEPT/ENCODER.safetensors, or with the kind's folder between."""
        return "/".join(filter(None, (found.owner, self.folder, found.file_name)))

    def target(self, owner: Attribute | Concept, out: Path | None, folder: Path | None) -> Path:
        """Give the folder to save an owner's files in: in `out`, else beside the user's own recipe, else the cache."""
        fair = isinstance(owner, Attribute)
        if out is not None:
            return Path(out, *([attributes.FAIR] if fair else []), owner.name, self.folder)
        own = owner.folder if isinstance(owner, Attribute) else recipes.known(folder).get(owner.name)
        if own is not None and not own.is_relative_to(recipes.directions_folder()):
            return own / self.folder
        return self.cached() / owner.name


def _latent_files(name: str, folder: Path | None) -> Iterable[Path]:
    return latent.files(name, "*", recipe_folder(name, folder))


def _edit_files(name: str, folder: Path | None) -> Iterable[Path]:
    return edits.files(name, "*", recipe_folder(name, folder))


def _direction_files(name: str, folder: Path | None) -> Iterable[Path]:
    return store.direction_files(name, folder) if name in recipes.known(folder) else ()


KINDS = {
    direction.SCHEMA: Kind("", direction.Direction.load, store.cache_folder, _direction_files, store.check_ready),
    latent.SCHEMA: Kind(
        latent.FOLDER,
        latent.LatentDirection.load,
        latent.cached_folder,
        _latent_files,
        lambda found, _: latent.check_ready(found),
    ),
    edits.SCHEMA: Kind(
        edits.FOLDER,
        edits.WeightEdit.load,
        edits.cached_folder,
        _edit_files,
        lambda found, _: edits.check_ready(found),
    ),
}


def kind_of(path: Path) -> Kind:
    """Find a file's kind by the schema that it names."""
    return KINDS.get(direction.schema_of(path), KINDS[direction.SCHEMA])


def owners(folder: Path | None) -> list[str]:
    """List the concepts, and then the attributes, that there are."""
    return list(dict.fromkeys([*recipes.known(folder), *attributes.known(folder)]))


def is_concept(name: str, folder: Path | None) -> bool:
    """Tell whether a name is a concept's, and not only an attribute's."""
    return name in recipes.known(folder)


def recipe_folder(name: str, folder: Path | None) -> Path | None:
    """Give the folder of a concept's or an attribute's recipe, if there is one."""
    return recipes.known(folder).get(name) or attributes.known(folder).get(name)


def recipe_of(name: str, folder: Path | None) -> Concept | Attribute:
    """Load the recipe of a concept or attribute.

    Raises:
        UnknownConcept: there is none of that name.
    """
    if name in recipes.known(folder):
        return Concept.load(name, folder)
    if name in attributes.known(folder):
        return Attribute.load(name, folder)
    raise UnknownConcept(name, owners(folder))


def check_arrival(found: Learned, kind: Kind, name: str, folder: Path | None) -> None:
    """Check that a file from elsewhere is of today's recipe here, and good enough to use.

    Raises:
        UnknownConcept: there is no recipe for it here.
        DirectionError: it was learned from another recipe, or its held-out figures are poor.
    """
    recipe = recipe_of(found.owner, folder)
    if found.info["recipe_sha256"] != recipe.sha256:
        raise DirectionError(
            f"{name} was learned from another recipe of {recipe.name!r} than the one here",
            f"Use the same version on both machines, or learn it here: safegen directions learn {recipe.name}.",
        )
    kind.check_ready(found, name)
