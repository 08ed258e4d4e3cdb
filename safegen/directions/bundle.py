"""Bundles: what was learned, on its way to another machine, as a folder or one zip file.

A bundle holds directions, latent directions and weight edits. It lists its files with their hashes in `bundle.json`
and holds nothing else. An incoming bundle is checked completely before any of it is kept, because a direction decides
what a guard lets through.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safegen.directions import kinds, recipes
from safegen.directions.kinds import KINDS, Learned
from safegen.errors import DirectionError, OutputError, UnknownConcept
from safegen.files import as_path, write_atomically

MANIFEST, SCHEMA = "bundle.json", "safegen.bundle/1"
LARGEST, MOST = 2**28, 2**32  # bytes of one file and of a bundle; a direction has a few million
# CONCEPT/ENCODER-FINGERPRINT.safetensors, of plain names only, so that no path leads out of the cache; files that
# belong to a denoiser lie one folder deeper.
_FOLDERS = "|".join(f"{kind.folder}/" for kind in KINDS.values() if kind.folder)
NAME = re.compile(rf"(?!\.)[^/\\:\x00-\x1f]+/(?:{_FOLDERS})?[\w-]+-[0-9a-f]{{8}}\.safetensors")
PATHLESS = "A bundle holds CONCEPT/ENCODER.safetensors and bundle.json alone; export it again."


@dataclass(frozen=True)
class Arrival:
    """A sound file from elsewhere, its name in a bundle, and its path in the cache."""

    content: bytes
    found: Learned
    name: str
    path: Path

    @property
    def known(self) -> bool:
        """Whether the cache already holds the very same file."""
        return self.path.is_file() and self.path.read_bytes() == self.content


def learned(names: Sequence[str], encoder: str, folder: Path | None) -> dict[str, Path]:
    """Find every file that did not come with safegen itself, by its name in a bundle.

    Args:
        names: names of concepts and attributes; all when empty.
        encoder: how the file's name begins, such as `t5_encoder_model` or `clip_text_model-838667bc`.
        folder: the folder of the user's own concepts.

    Raises:
        UnknownConcept: a name has no recipe.
        DirectionError: there is no such file.
    """
    known, shipped = kinds.owners(folder), recipes.directions_folder()
    for name in names:
        if name not in known:
            raise UnknownConcept(name, known)
    found: dict[str, Path] = {}
    for name in names or known:
        for kind in KINDS.values():
            for path in kind.files(name, folder):
                if shipped not in path.parents and path.name.startswith(encoder):
                    found.setdefault("/".join(filter(None, (name, kind.folder, path.name))), path)
    if not found:
        raise DirectionError(
            f"nothing is learned here for {', '.join(names) or 'any concept'}" + (f" and {encoder}" if encoder else ""),
            "See what there is: safegen directions list. What ships with safegen needs no sharing.",
        )
    return found


def write(files: Mapping[str, Path], target: Path) -> None:
    """Write a bundle of sound files: one file where the target's name ends in .zip, else a folder.

    Raises:
        DirectionError: a file is not sound.
        OutputError: the target exists, or cannot be written.
    """
    target = as_path(target)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise OutputError(f"{target} exists", "Choose another --out, or remove it first.")
    contents = {}
    for name, path in files.items():
        kinds.kind_of(path).load(path)
        contents[name] = path.read_bytes()
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    manifest = json.dumps({"schema": SCHEMA, "files": hashes}, indent=1, sort_keys=True).encode()
    contents[MANIFEST] = manifest  # written last: without it there is no bundle
    if target.suffix != ".zip":
        for name, content in contents.items():
            write_atomically(target / name, content)
        return
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for name, content in contents.items():
            file.writestr(zipfile.ZipInfo(name), content)  # without times, so that the same files give the same bundle
    write_atomically(target, packed.getvalue())


def read(source: Path, folder: Path | None = None) -> list[Arrival]:
    """Read and check the files of a bundle, or one .safetensors file; nothing is kept yet.

    Raises:
        DirectionError: the source is not a bundle, or is incomplete; a hash differs; a name leads elsewhere; a file
            is no direction, is of another recipe than the one here, or has poor held-out figures.
        UnknownConcept: there is no recipe of that name here.
    """
    source = as_path(source)
    if source.suffix == ".safetensors":
        return [_arrival(_bounded(source), source.name, folder)]
    contents: dict[str, bytes] = {}
    for name, content in _zipped(source) if source.is_file() else _filed(source):
        contents[name] = content
        if sum(map(len, contents.values())) > MOST:
            raise DirectionError(f"{source.name} has more than {MOST >> 30} GB", "No bundle is as large.")
    hashes = _manifest(contents.pop(MANIFEST, None), source.name)
    if stray := sorted(contents.keys() ^ hashes.keys()):
        wrong = "lacks" if stray[0] in hashes else "holds, unnamed,"
        raise DirectionError(f"{source.name} {wrong} {stray[0]}", PATHLESS)
    arrivals = []
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != hashes[name]:
            raise DirectionError(f"{source.name}: {name} is not what was exported", "Fetch the bundle again.")
        arrival = _arrival(content, name, folder)
        if arrival.name != name:
            raise DirectionError(f"{source.name}: {name} holds {arrival.name}", PATHLESS)
        arrivals.append(arrival)
    return arrivals


def keep(arrivals: Sequence[Arrival], *, replace: bool = False) -> None:
    """Put the files that arrived into the cache.

    Raises:
        OutputError: another file is in the place of one and must not be replaced, or one cannot be written.
    """
    taken = [a.name for a in arrivals if a.path.exists() and not a.known]
    if taken and not replace:
        raise OutputError(
            f"another {taken[0]} is in the cache" + (f", and {len(taken) - 1} more" if taken[1:] else ""),
            "Nothing was kept. --replace puts the new ones in their place.",
        )
    for arrival in arrivals:
        if not arrival.known:
            write_atomically(arrival.path, arrival.content)


def _arrival(content: bytes, name: str, folder: Path | None) -> Arrival:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / Path(name).name
        path.write_bytes(content)
        kind = kinds.kind_of(path)
        found = kind.load(path)
    own = kind.place(found)
    if not NAME.fullmatch(own) or not re.fullmatch(r"[0-9a-f]{64}", str(found.info["fingerprint"])):
        raise DirectionError(f"{name} is of a concept or an encoder that cannot be named: {own!r}", PATHLESS)
    kinds.check_arrival(found, kind, name, folder)
    return Arrival(content, found, own, kind.cached() / found.owner / found.file_name)


def _manifest(content: bytes | None, source: str) -> dict[str, str]:
    hint = "Give what safegen directions export made: a folder or a .zip, or one .safetensors file."
    if content is None:
        raise DirectionError(f"{source} is no bundle: it has no {MANIFEST}", hint)
    try:
        manifest = json.loads(content)
        files = manifest["files"] if manifest["schema"] == SCHEMA else None
    except (ValueError, TypeError, KeyError):
        files = None
    if not isinstance(files, dict) or not files or not all(isinstance(v, str) for v in files.values()):
        raise DirectionError(f"{source}: its {MANIFEST} is not of {SCHEMA}", hint)
    return files


def _filed(source: Path) -> Iterator[tuple[str, bytes]]:
    if not source.is_dir():
        raise DirectionError(f"there is no {source}", "Give a bundle or a .safetensors file.")
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if path.is_symlink():
            raise DirectionError(f"{source.name} holds {name!r}, which is a link", PATHLESS)
        if not path.is_dir():
            yield _check(name, source.name), _bounded(path)


def _zipped(source: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(source) as file:
            entries = file.infolist()
            if len({entry.filename for entry in entries}) < len(entries):
                raise DirectionError(f"{source.name} holds a name twice", PATHLESS)
            for entry in entries:
                name = _check(entry.filename, source.name)
                with file.open(entry) as part:
                    yield name, _within(part.read(LARGEST + 1), name)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:
        raise DirectionError(
            f"{source.name} is no bundle: {error}", "Give a folder, a .zip or a .safetensors."
        ) from error


def _check(name: str, source: str) -> str:
    if name != MANIFEST and not NAME.fullmatch(name):
        raise DirectionError(f"{source} holds {name!r}, which is no direction file", PATHLESS)
    return name


def _bounded(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return _within(file.read(LARGEST + 1), path.name)
    except OSError as error:
        raise DirectionError(f"cannot read {path}: {error.strerror}", "Check the path.") from error


def _within(content: bytes, name: str) -> bytes:
    if len(content) > LARGEST:
        raise DirectionError(f"{name} has more than {LARGEST >> 20} MB", "No direction file is as large.")
    return content
