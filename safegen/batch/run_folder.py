"""The folder of a run: its lock, its side file, its records, and what is done already.

batch.json      settings, prompts and directions that fix the run; written once
metadata.jsonl  one line per picture, loadable as an image-folder data set
missing.jsonl   one line per picture that there is not: skipped, or failed with its error
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from safegen.batch.remote import Remote
from safegen.batch.store import HEADER, KEPT, PUSH_SECONDS, Local, Store, reach
from safegen.errors import OutputError, UsageError
from safegen.files import located
from safegen.records import now

SCHEMA = "safegen.batch/1"
PARTS = {"settings", "prompts", "source", "directions", "layout"}  # of the side file
PICTURES, MISSING = KEPT


class Folder:
    """A run's folder, held by one process at a time; made by `opened`.

    Attributes:
        store: where pictures and the side file go.
        path: where records are kept; of a local store the same folder.
        counts: how many pictures of the run's plan have which status.
    """

    def __init__(self, store: Store, path: Path) -> None:
        self.store, self.path = store, path
        self.header = read_header(store)
        self._pushed = time.monotonic()
        self.counts: Counter[str] = Counter()
        self._left: set[int] = set()
        self._files: dict[str, IO[bytes]] = {}

    @property
    def begun(self) -> str:
        """When the run was begun."""
        return str((self.header or {}).get("begun") or now())

    @property
    def left(self) -> int:
        """The count of pictures of the plan that have no record yet."""
        return len(self._left)

    def take_stock(self, plan: Iterable[str] = (), *, retry: bool) -> None:
        """Repair what a crash or an editor left, then see what of the plan is not done.

        A torn last line, a temporary file, a second record of a picture and a record whose picture is gone or broken
        are removed; with `retry` so are the failures. What has no record will be made. Records of anything else than
        this plan stay, and count for nothing.

        Args:
            plan: the file names of all pictures of the run.
            retry: forget failures.

        Raises:
            OutputError: a record other than the last is unreadable, or a file cannot be written.
        """
        for leftover in self.path.glob(".*.partial"):
            leftover.unlink(missing_ok=True)
        holds = self.store.holds()
        self._left = set(map(_key, plan))
        rewrite(self.path / PICTURES, lambda record: holds(name_of(record)))
        rewrite(self.path / MISSING, lambda record: not (retry and record["status"] == "error"))
        for name in (PICTURES, MISSING):
            for record in read_records(self.path / name):
                self._note(record)

    def begin(self, header: Mapping[str, Any]) -> None:
        """Write the side file of a new run.

        Raises:
            OutputError: it cannot be written.
        """
        self.header = {"schema": SCHEMA, "begun": now(), **header}
        self.store.put(HEADER, json.dumps(self.header, indent=1).encode() + b"\n")

    def agrees(self, part: str, values: Mapping[str, Any]) -> None:
        """Whether one part of the side file is what this run would write.

        Raises:
            UsageError: it is not; `details` show every difference.
        """
        old = (self.header or {}).get(part, {})
        keys = sorted({*old, *values})
        changes = [f"{k}: {_shown(old, k)} -> {_shown(values, k)}" for k in keys if old.get(k) != values.get(k)]
        if changes:
            raise UsageError(
                f"the run in {self.store.label} has other {part}",
                "Resume with --resume alone, or choose another --out.",
                changes,
            )

    def has(self, picture: str) -> bool:
        """Tell whether a picture of the plan, by its file name, is done or recorded as missing."""
        return _key(picture) not in self._left

    def add(self, record: Mapping[str, Any]) -> None:
        """Append one record and flush it; a picture is in place before its record is.

        Raises:
            OutputError: it cannot be written; nothing of it stays.
        """
        name = PICTURES if "file_name" in record else MISSING
        path = self.path / name
        try:
            if name not in self._files:
                self._files[name] = path.open("ab", buffering=0)
            file = self._files[name]
            end = file.seek(0, os.SEEK_END)
            line = line_of(record)
            try:
                if file.write(line) != len(line):
                    raise OSError(None, "the disk is full")
            except OSError:
                file.truncate(end)
                raise
        except OSError as error:
            raise _unwritable(path, error) from error
        self._note(record)

    def sync(self) -> None:
        """Make what was added outlive a power cut; to a remote store it goes every few seconds.

        Raises:
            OutputError: it cannot be written there.
        """
        for file in self._files.values():
            os.fsync(file.fileno())
        if time.monotonic() - self._pushed > PUSH_SECONDS:
            self.store.push(self.path)
            self._pushed = time.monotonic()

    def _note(self, record: Mapping[str, Any]) -> None:
        key = _key(name_of(record))
        if key in self._left:
            self._left.remove(key)
            self.counts[str(record["status"])] += 1

    def _close(self) -> None:
        for file in self._files.values():
            file.close()


@contextlib.contextmanager
def opened(place: str | Path | Store) -> Iterator[Folder]:
    """The folder of a run, made if need be and locked while the context lasts.

    Raises:
        OutputError: it cannot be written, or another run is writing to it.
        UsageError: it holds records of something else.
    """
    store = at(place)
    with store.held() as path:
        folder = Folder(store, path)
        if folder.header is None and any((path / name).exists() for name in KEPT):
            raise UsageError(f"{store.label} holds pictures that no batch made", "Choose another --out.")
        try:
            yield folder
        finally:
            folder._close()


def read_header(store: Store) -> dict[str, Any] | None:
    """The side file of the run in a folder; None where there is none.

    Raises:
        OutputError: there is one that cannot be used.
    """
    content = store.read(HEADER)
    if content is None:
        return None
    place = f"{store.label}/{HEADER}"
    try:
        header = json.loads(content.removeprefix(BOM_UTF8))
    except ValueError as error:
        raise OutputError(f"cannot read {place}: {error}", "Choose another --out.") from error
    if not isinstance(header, dict) or header.get("schema") != SCHEMA or not set(header) >= PARTS:
        raise OutputError(f"{place} is not in the form {SCHEMA}", "Resume it with the version that wrote it.")
    return header


def rewrite(path: Path, wanted: Callable[[Mapping[str, Any]], bool]) -> None:
    """Take a torn end, second records of a picture and what is not wanted out of a file of records, if it has any.

    Raises:
        OutputError: a record is unreadable, or the file cannot be written.
    """
    if not path.is_file():
        return
    kept, seen = bytearray(), set[int]()
    for record in read_records(path):
        key = _key(name_of(record))
        kept.append(key not in seen and wanted(record))
        seen.add(key)
    if all(kept) and _is_whole(path):
        return
    fresh = path.with_name(f".{path.name}.partial")
    try:
        with fresh.open("wb") as file:
            for record, keep in zip(read_records(path), kept, strict=True):
                if keep:
                    file.write(line_of(record))
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except OSError as error:
        raise _unwritable(path, error) from error


def name_of(record: Mapping[str, Any]) -> str:
    """The file name of a record's picture, or of the picture that there is not."""
    return str(record.get("file_name") or record.get("picture") or "")


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file, one at a time; none if there is no file. Blank lines and a torn last one are left out.

    Raises:
        OutputError: another line is unreadable.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                record = _parsed(line.removeprefix(BOM_UTF8) if number == 1 else line)
                if record is not None:
                    yield record
                elif line.strip() and file.read(1):
                    raise OutputError(f"{path}, line {number} is not a record", "Remove the line; its row is redone.")
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}", "Check the folder.") from error


def _is_whole(path: Path) -> bool:
    last = b"\n"
    with path.open("rb") as file:
        for line in file:
            last = line
    return last.endswith(b"\n")


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A record; None for what a crash may leave, which lacks its end."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "id" in record and "status" in record else None


def line_of(record: Mapping[str, Any]) -> bytes:
    """Write a record as its line."""
    return json.dumps(record, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def _key(identity: str) -> int:
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big")


def _shown(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=True)[:80] if key in values else "nothing"


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}: {error.strerror or error}", "Make room, then run the same command again: it goes on."
    )


def at(place: str | Path | Store) -> Store:
    """The store at a path, or at a URL with a protocol of fsspec's.

    Raises:
        UsageError: the protocol is unknown, or its package is not installed.
    """
    if isinstance(place, Path) or (isinstance(place, str) and "://" not in place and "::" not in place):
        return Local(located(place).absolute(), str(place))
    if not isinstance(place, str):
        return place
    from fsspec.implementations.local import LocalFileSystem

    fs, root = reach(place)
    # Disks that are mounted here are worth their locks and their appending.
    return Local(Path(root), place) if type(fs) is LocalFileSystem else Remote(place)
