"""Where a run's folder is: on this machine's disks, or wherever fsspec reaches.

An object store cannot append to a file. There, pictures go straight to their place, while the records are
kept in a local folder and copied over every few seconds and at the end. If a crash loses some records, the
same command draws their pictures again, under the same names.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from safegen.errors import OutputError, UsageError
from safegen.files import check_writable, write_atomically

LOCK = ".batch.lock"
GUEST = ".generate-{}.lock"  # held by each command that adds picture by picture
HEADER = "batch.json"
KEPT = ("metadata.jsonl", "missing.jsonl")  # files of records; they grow line by line
PUSH_SECONDS = 10.0
END = b"IEND\xaeB\x60\x82"  # the last bytes of every PNG


class Store(Protocol):
    """A flat folder of files."""

    @property
    def label(self) -> str:
        """The name that people know it by."""
        ...

    def held(self) -> contextlib.AbstractContextManager[Path]:
        """Keep other runs from writing here while the context lasts; gives the local folder to keep records in.

        Raises:
            OutputError: another run writes here, or nothing can be written.
        """
        ...

    def put(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all where the store can.

        Raises:
            OutputError: it cannot be written.
        """
        ...

    def read(self, name: str) -> bytes | None:
        """Read a file's content; None if there is no such file.

        Raises:
            OutputError: it cannot be read.
        """
        ...

    def holds(self) -> Callable[[str], bool]:
        """Give a test of names: is there such a picture, and is it whole as far as can be seen?"""
        ...

    def push(self, records: Path) -> None:
        """Copy the records that have changed, see `held`.

        Raises:
            OutputError: they cannot be written.
        """
        ...


@dataclass(frozen=True)
class Local:
    """A folder of this machine, or one that it has mounted."""

    path: Path
    label: str

    @contextlib.contextmanager
    def held(self) -> Iterator[Path]:
        check_writable(self.path)
        with lock(self.path / LOCK, self.label):
            if any(map(_is_held, self.path.glob(GUEST.format("*")))):
                raise in_use(self.label)
            yield self.path

    def put(self, name: str, content: bytes) -> None:
        write_atomically(self.path / name, content)

    def read(self, name: str) -> bytes | None:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OutputError(f"cannot read {self.path / name}: {error.strerror}", "Choose another --out.") from error

    def holds(self) -> Callable[[str], bool]:
        return lambda name: is_whole(self.path / name)

    def push(self, records: Path) -> None:
        """Do nothing: the records are in place already."""


@contextlib.contextmanager
def visit(folder: Path) -> Iterator[None]:
    """Add pictures to a folder one by one; while the context lasts no batch begins there.

    Several commands may do so at once.

    Raises:
        OutputError: a batch is at work there.
        UsageError: the folder belongs to a batch.
    """
    guest = folder / GUEST.format(secrets.token_hex(4))
    try:
        with lock(guest, str(folder)):
            if _is_held(folder / LOCK):
                raise in_use(str(folder))
            if (folder / HEADER).exists():
                raise UsageError(f"{folder} is the folder of a batch", "Choose another --out.")
            yield
    finally:
        guest.unlink(missing_ok=True)


@contextlib.contextmanager
def lock(path: Path, label: str, patience: float = 0) -> Iterator[None]:
    """Hold a lock while the context lasts.

    Raises:
        OutputError: somebody else has it; `label` is the name of the place in the message.
    """
    lock = FileLock(path, timeout=patience)
    try:
        lock.acquire()
    except Timeout as error:
        raise in_use(label) from error
    try:
        yield
    finally:
        lock.release()


def _is_held(path: Path) -> bool:
    """Tell whether a live process holds a lock, and does not just look at it as this function does."""
    if not path.exists():
        return False
    try:
        with lock(path, "", patience=0.5):
            return False
    except OutputError:
        return True


def is_whole(picture: Path) -> bool:
    """Tell whether a file exists and ends as a PNG does."""
    try:
        with picture.open("rb") as file:
            file.seek(-len(END), os.SEEK_END)
            return file.read() == END
    except OSError:
        return False


def in_use(label: str) -> OutputError:
    """Make the error that another run is writing to a folder."""
    return OutputError(f"another run is writing to {label}", "Wait for it, or choose another --out.")


def reach(url: str) -> tuple[Any, str]:
    """Give the file system behind a URL, one for each thread, and the path in it.

    Raises:
        UsageError: the protocol is unknown, or its package is not installed.
    """
    from fsspec.core import url_to_fs

    try:
        fs, root = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"cannot write to {url}: {error}", "Use a local path, or a protocol that fsspec has."
        ) from error
    return fs, str(root).rstrip("/")
