"""The folder of a run: its lock, its side file, its records, and what is done already.

batch.json      settings, prompts and directions that fix the run; written once
metadata.jsonl  one line per picture, loadable as an image-folder data set
missing.jsonl   one line per picture that was not made: skipped, or failed with its error
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from safegen.batch.manifest import MISSING, PICTURES, key_of, line_of, name_of, read_records, rewrite, unwritable
from safegen.batch.remote import Remote
from safegen.batch.store import HEADER, KEPT, PUSH_SECONDS, Local, Store, reach
from safegen.errors import OutputError, UsageError
from safegen.files import as_path
from safegen.records import now

SCHEMA = "safegen.batch/1"
PARTS = {"settings", "prompts", "source", "directions", "layout"}  # of the side file


class Folder:
    """A run's folder, held by one process at a time; made by `open_run_folder`.

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
        """The time at which the run was begun."""
        return str((self.header or {}).get("begun") or now())

    @property
    def left(self) -> int:
        """The number of pictures of the plan that have no record yet."""
        return len(self._left)

    def take_stock(self, plan: Iterable[str] = (), *, retry: bool) -> None:
        """Repair what a crash or an editor left, then find what of the plan is not done.

        A torn last line, a temporary file, a second record of a picture and a record whose picture is gone or broken
        are removed; with `retry` so are the failures. Pictures without a record will be made. Records of pictures
        outside this plan stay, and are not counted.

        Args:
            plan: the file names of all pictures of the run.
            retry: forget failures.

        Raises:
            OutputError: a record other than the last is unreadable, or a file cannot be written.
        """
        for leftover in self.path.glob(".*.partial"):
            leftover.unlink(missing_ok=True)
        holds = self.store.holds()
        self._left = set(map(key_of, plan))
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
        """Check that one part of the side file is what this run would write.

        Raises:
            UsageError: it is not; `details` show every difference.
        """
        old = (self.header or {}).get(part, {})
        keys = sorted({*old, *values})
        changes = [f"{k}: {_shown(old, k)} -> {_shown(values, k)}" for k in keys if old.get(k) != values.get(k)]
        if changes:
            raise UsageError(
                f"the run in {self.store.label} was started with other {part}",
                "Resume with --resume alone, or choose another --out.",
                changes,
            )

    def has(self, picture: str) -> bool:
        """Tell whether a picture of the plan, by its file name, is done or recorded as missing."""
        return key_of(picture) not in self._left

    def add(self, record: Mapping[str, Any]) -> None:
        """Append one record and flush it; its picture is in place already.

        Raises:
            OutputError: it cannot be written; no part of it stays.
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
            raise unwritable(path, error) from error
        self._note(record)

    def sync(self) -> None:
        """Make what was added outlive a power cut; a remote store gets it every few seconds.

        Raises:
            OutputError: it cannot be written to the store.
        """
        for file in self._files.values():
            os.fsync(file.fileno())
        if time.monotonic() - self._pushed > PUSH_SECONDS:
            self.store.push(self.path)
            self._pushed = time.monotonic()

    def _note(self, record: Mapping[str, Any]) -> None:
        key = key_of(name_of(record))
        if key in self._left:
            self._left.remove(key)
            self.counts[str(record["status"])] += 1

    def _close(self) -> None:
        for file in self._files.values():
            file.close()


@contextlib.contextmanager
def open_run_folder(place: str | Path | Store) -> Iterator[Folder]:
    """Make the folder of a run if need be, and hold its lock while the context lasts.

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
    """Read the side file of the run in a folder; None if there is none.

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


def _shown(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=True)[:80] if key in values else "nothing"


def at(place: str | Path | Store) -> Store:
    """Give the store at a path, or at an fsspec URL.

    Raises:
        UsageError: the protocol is unknown, or its package is not installed.
    """
    if isinstance(place, Path) or (isinstance(place, str) and "://" not in place and "::" not in place):
        return Local(as_path(place).absolute(), str(place))
    if not isinstance(place, str):
        return place
    from fsspec.implementations.local import LocalFileSystem

    fs, root = reach(place)
    # A disk that is mounted here can lock and append, so it is used as a local folder.
    return Local(Path(root), place) if type(fs) is LocalFileSystem else Remote(place)
