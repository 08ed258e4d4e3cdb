"""The cache: directions learned on first use, and the encoded text that they were learned from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safegen.directions import edits, latent
from safegen.directions.store import cache_folder
from safegen.errors import OutputError

LEARNED, LATENT, EDIT = "direction", "latent direction", "weight edit"
TEXT, OLD = "encoded benign text", "of another version"


@dataclass(frozen=True)
class Kept:
    """One file of the cache; its kind is LEARNED, LATENT, EDIT, TEXT or OLD."""

    path: Path
    kind: str

    @property
    def name(self) -> str:
        """Its place in the cache; for a direction, CONCEPT/ENCODER."""
        roots = {LEARNED: cache_folder(), LATENT: latent.cached_folder(), EDIT: edits.cached_folder()}
        inner = self.path.relative_to(roots.get(self.kind, cache_folder().parent))
        return inner.with_suffix("").as_posix()

    @property
    def size(self) -> int:
        return self.path.stat().st_size


def kept(names: Sequence[str] = ()) -> list[Kept]:
    """List every file of the cache, or only the directions of some concepts.

    Files of kinds that safegen does not write are left out, and so is anything behind a link.
    """
    root = cache_folder().parent
    files = [
        p for p in sorted(root.rglob("*.safetensors")) if p.is_file() and p.resolve().is_relative_to(root.resolve())
    ]
    found = [Kept(path, _kind(path.relative_to(root).parts)) for path in files if not path.is_symlink()]
    return [k for k in found if not names or (k.kind in (LEARNED, LATENT, EDIT) and k.path.parent.name in names)]


def _kind(parts: Sequence[str]) -> str:
    kinds = {cache_folder().name: LEARNED, latent.cached_folder().name: LATENT, edits.cached_folder().name: EDIT}
    kinds["background"] = TEXT
    return kinds.get(parts[0], OLD)


def remove(files: Iterable[Kept]) -> None:
    """Remove files of the cache, and the folders that are empty afterwards.

    Raises:
        OutputError: a file cannot be removed.
    """
    root = cache_folder().parent
    for file in files:
        try:
            file.path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot remove {file.path}: {error.strerror}", "Check its permissions.") from error
        with contextlib.suppress(OSError):  # not empty
            for folder in file.path.parents:
                if folder == root:
                    break
                folder.rmdir()
