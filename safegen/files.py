"""Files as people and crashes leave them: read whatever program wrote them, and written whole or not at all."""

from __future__ import annotations

import io
import os
import tempfile
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from safegen.errors import OutputError

ENDS = ("\n", "\r")
MAX_LINE = 1_000_000  # characters; a longer line is no prompt, and must not fill the memory


def home(text: str) -> str:
    """Replace a leading `~` by the home folder; a shell does not do it in a setting or after `=`."""
    return os.path.expanduser(text)


def as_path(path: str | Path) -> Path:
    """Turn a path that a user gives to a command, a setting or the library into a `Path`."""
    return Path(home(str(path)))


def decode(raw: bytes) -> str:
    """Decode a text file: UTF-8, or UTF-16 with its byte order mark, with line ends of any system.

    Raises:
        UnicodeDecodeError: it is neither.
    """
    wide = raw.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    return raw.decode("utf-16" if wide else "utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def lines(file: BinaryIO, most: int = MAX_LINE) -> Iterator[tuple[int, str | None]]:
    """Read numbered lines in little memory, decoded as by `decode`; a line of `most` characters gives None.

    A line keeps its end. Some systems write text as UTF-16, with a mark. Bytes that are not text become lone
    surrogates, so that they can be found later, see `unusable`.
    """
    wide = file.read(2) in (BOM_UTF16_LE, BOM_UTF16_BE)
    file.seek(0)
    encoding, errors = ("utf-16", "surrogatepass") if wide else ("utf-8-sig", "surrogateescape")
    texts = io.TextIOWrapper(file, encoding=encoding, errors=errors, newline="")
    number = 0
    try:
        while line := texts.readline(most):
            number += 1
            if whole := len(line) < most or line.endswith(ENDS):
                yield number, line
                continue
            while line and not whole:
                line = texts.readline(most)
                whole = line.endswith(ENDS)
            yield number, None
    except UnicodeDecodeError:
        yield number + 1, "\udcff"  # the file ends within a letter of two bytes
    finally:
        if not file.closed:
            texts.detach()  # the caller opened the file and closes it


def read_list(path: Path) -> list[str]:
    """Read a list that ships: one text a line; comments are left out."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def unusable(line: str | None) -> str:
    """Say what is wrong with one of `lines`, or with a part of it; empty where nothing is."""
    if line is None:
        return f"longer than {MAX_LINE:,} characters"
    try:
        line.encode()
    except UnicodeEncodeError:
        return "not valid UTF-8"
    return ""


def append_line(path: Path, line: bytes) -> None:
    """Add a line and flush it to disk; a last line that a crash or an editor left without its end is ended first.

    Raises:
        OSError: the line cannot be written; nothing of it stays.
    """
    with path.open("a+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            line = line if file.read(1) == b"\n" else b"\n" + line
        try:
            if file.write(line) != len(line):
                raise OSError(None, "the disk is full")
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary file beside `path`, then move it into place.

    Raises:
        OutputError: the folder cannot be made or written, or the disk is full.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".", suffix=".partial", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}", "Choose another folder with --out, or make room."
        ) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Check, before a model loads, that results can be written to `folder`.

    Raises:
        OutputError: the folder is a file, cannot be made, or is read-only.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}", "Choose another folder with --out.") from error


def readable(name: str) -> str:
    """Escape what is not text in a file's name, which may hold any bytes."""
    return name.encode("utf-8", "backslashreplace").decode()
