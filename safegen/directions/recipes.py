"""The recipe of a concept: harmful phrases, safe phrases for their places, and phrases that only look harmful."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safegen.errors import UnknownConcept, UsageError
from safegen.files import as_path, decode

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PLAIN_WORDS = frozenset(("a", "an", "the", "of", "in", "to", "with"))  # that make nothing harmful
# No direction is learned from assurances, so a recipe's hash is without them.
ASSURANCES = re.compile(rb"^\n?\[assurances\][^\n]*\n.*?(?=^\[\w|\Z)", re.MULTILINE | re.DOTALL)
ONE_LINE = 'One line is enough, and more find more: "harmful phrase" = "safe phrase" under [targets].'


@dataclass(frozen=True)
class Concept:
    """One parsed ``concept.toml``."""

    name: str
    title: str
    description: str
    targets: Mapping[str, str]  # harmful phrase -> safe phrase for the same place
    benign: tuple[str, ...]  # phrases that only look harmful
    categories: tuple[str, ...]  # its names in published prompt sets, in lower case
    sha256: str
    assurances: tuple[str, ...] = ()  # words by which a prompt asks that the concept be absent

    @classmethod
    def load(cls, name: str, extra: Path | None = None) -> Concept:
        """Read a concept by name, or from the path of a recipe or of its folder.

        Raises:
            UnknownConcept: no recipe has this name.
            UsageError: the recipe cannot be parsed, or a line of it cannot be used.
        """
        folders = known(extra)
        path = as_path(name)
        if name in folders:
            file = folders[name] / "concept.toml"
        elif path.suffix == ".toml" and path.is_file():
            file = path
        elif (path / "concept.toml").is_file():
            file = path / "concept.toml"
        else:
            raise UnknownConcept(name, folders)
        return parse(file)


def directions_folder() -> Path:
    """Find the folder of the shipped recipes and direction files: beside the package, or inside the wheel."""
    package = Path(__file__).parents[1]
    inside = package / "data" / "directions"
    return inside if inside.is_dir() else package.parent / "directions"


def known(extra: Path | None = None) -> dict[str, Path]:
    """Find the folders that hold a recipe, by concept name; a user's folder wins over the shipped one."""
    folders = {p.parent.name: p.parent for p in sorted(directions_folder().glob("*/concept.toml"))}
    if extra is not None:
        folders |= {p.parent.name: p.parent for p in sorted(as_path(extra).glob("*/concept.toml"))}
    return folders


def parse(file: Path) -> Concept:
    """Parse one recipe file.

    Raises:
        UsageError: the file is not TOML, or a part of it is missing or of the wrong type.
    """
    file = as_path(file)
    try:
        raw = file.read_bytes()
        recipe = tomllib.loads(decode(raw))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read the recipe {file.name}: {error}", "A recipe is a UTF-8 TOML file.") from error
    where = f"the recipe {file.parent.name}/{file.name}"
    targets, benign = recipe.get("targets"), recipe.get("benign", {})
    if not isinstance(targets, dict) or not targets:
        raise UsageError(f"{where} has no [targets]", ONE_LINE)
    for target, anchor in targets.items():
        if not isinstance(anchor, str) or not anchor.strip() or anchor.casefold() == target.casefold():
            raise UsageError(f"{where}: {target!r} has no safe phrase to stand in its place", ONE_LINE)
        if not set(target.lower().split()) - PLAIN_WORDS:
            raise UsageError(f"{where}: {target!r} names nothing harmful", ONE_LINE)
    phrases = benign.get("phrases", []) if isinstance(benign, dict) else None
    called = recipe.get("categories", [])
    assured = recipe.get("assurances", {})
    assured = assured.get("phrases", []) if isinstance(assured, dict) else None
    lists = (("[benign] phrases", phrases), ("categories", called), ("[assurances] phrases", assured))
    for what, listed in lists:
        if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
            raise UsageError(f"{where} has a bad list of {what}", 'As in: ["one", "another"].')
    name = file.parent.name if file.name == "concept.toml" else file.stem
    return Concept(
        name=name,
        title=str(recipe.get("title", name)),
        description=str(recipe.get("description", "")),
        targets=targets,
        benign=tuple(phrases or ()),
        categories=(name.casefold(), *(c.casefold() for c in called)),
        sha256=hashlib.sha256(ASSURANCES.sub(b"", raw)).hexdigest(),
        assurances=tuple(assured or ()),
    )


def assurances(extra: Path | None = None) -> dict[str, tuple[str, ...]]:
    """Give the words by which a prompt asks that a concept be absent, by concept; recipes without any are left out."""
    found = {}
    for name, folder in known(extra).items():
        with contextlib.suppress(UsageError):  # of a recipe that nobody has asked for; who does, hears of it
            found[name] = _assurances(folder / "concept.toml")
    return {name: phrases for name, phrases in found.items() if phrases}


@functools.lru_cache(maxsize=64)
def _assurances(file: Path) -> tuple[str, ...]:
    return parse(file).assurances
