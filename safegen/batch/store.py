"""Where a run's folder is: on this machine's disks, or wherever fsspec reaches.

A store of objects appends to nothing. There, pictures go straight to their place, while the records
are kept in a local folder and copied over every few seconds and at the end. What a crash loses of them
is drawn again by the same command: the same pictures under the same names.
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
GUEST = ".generate-{}.lock"  # of every command that adds picture by picture
HEADER = "batch.json"
KEPT = ("metadata.jsonl", "missing.jsonl")  # grow line by line
PUSH_SECONDS = 10.0
END = b"IEND\xaeB\x60\x82"  # of every PNG


class Store(Protocol):
    """A folder of files without folders in it."""

    @property
    def label(self) -> str:
        """What people call it."""
        ...

    def held(self) -> contextlib.AbstractContextManager[Path]:
        """While this lasts, no other run writes here; gives the local folder to keep records in.

        Raises:
            OutputError: another run does, or nothing can be written.
        """
        ...

    def put(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all where the store can.

        Raises:
            OutputError: it cannot be written.
        """
        ...

    def read(self, name: str) -> bytes | None:
        """A file's content; None if there is no such file.

        Raises:
            OutputError: it cannot be read.
        """
        ...

    def holds(self) -> Callable[[str], bool]:
        """Tells of names whether there are such pictures, as whole as can be seen."""
        ...

    def push(self, records: Path) -> None:
        """Copy what has changed of the records, see `held`.

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
        with locked(self.path / LOCK, self.label):
            if any(map(_is_held, self.path.glob(GUEST.format("*")))):
                raise taken(self.label)
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
        """They are in place already."""


@contextlib.contextmanager
def visited(folder: Path) -> Iterator[None]:
    """Add to a folder picture by picture: while this lasts no batch begins there, and others may do the same.

    Raises:
        OutputError: a batch is at work there.
        UsageError: a batch was.
    """
    guest = folder / GUEST.format(secrets.token_hex(4))
    try:
        with locked(guest, str(folder)):
            if _is_held(folder / LOCK):
                raise taken(str(folder))
            if (folder / HEADER).exists():
                raise UsageError(f"{folder} is the folder of a batch", "Choose another --out.")
            yield
    finally:
        guest.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, label: str, patience: float = 0) -> Iterator[None]:
    """Hold a lock while this lasts.

    Raises:
        OutputError: another has it; `label` is what people call the place.
    """
    lock = FileLock(path, timeout=patience)
    try:
        lock.acquire()
    except Timeout as error:
        raise taken(label) from error
    try:
        yield
    finally:
        lock.release()


def _is_held(path: Path) -> bool:
    """Tell whether somebody alive has a lock, and not just looks at it like this."""
    if not path.exists():
        return False
    try:
        with locked(path, "", patience=0.5):
            return False
    except OutputError:
        return True


def is_whole(picture: Path) -> bool:
    """Tell whether there is a PNG with its end."""
    try:
        with picture.open("rb") as file:
            file.seek(-len(END), os.SEEK_END)
            return file.read() == END
    except OSError:
        return False


def taken(label: str) -> OutputError:
    """That there is another run in a folder."""
    return OutputError(f"another run is writing to {label}", "Wait for it, or choose another --out.")


def reach(url: str) -> tuple[Any, str]:
    """The file system behind a URL, one for each thread, and the path in it.

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
