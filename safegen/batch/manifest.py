"""The manifest of a run: files with a line of JSON for every picture, read and repaired line by line.

A crash may leave a torn last line, and people edit these files. A torn end is left out; any other line that is no
record is an error that names it.
"""

from __future__ import annotations

import hashlib
import json
import os
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safegen.batch.store import KEPT
from safegen.errors import OutputError

PICTURES, MISSING = KEPT


def rewrite(path: Path, wanted: Callable[[Mapping[str, Any]], bool]) -> None:
    """Remove a torn end, second records of a picture and unwanted records from a file of records, if it has any.

    Raises:
        OutputError: a record is unreadable, or the file cannot be written.
    """
    if not path.is_file():
        return
    kept, seen = bytearray(), set[int]()
    for record in read_records(path):
        key = key_of(name_of(record))
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
        raise unwritable(path, error) from error


def name_of(record: Mapping[str, Any]) -> str:
    """Give the file name of a record's picture, or the one that its missing picture would have had."""
    return str(record.get("file_name") or record.get("picture") or "")


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Read the records of a file, one at a time; there are none if there is no file.

    Blank lines and a torn last line are left out.

    Raises:
        OutputError: another line is unreadable.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                record = _parse_record(line.removeprefix(BOM_UTF8) if number == 1 else line)
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


def _parse_record(line: bytes) -> dict[str, Any] | None:
    """Parse a record; None for a line that is cut off, as a crash may leave it."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "id" in record and "status" in record else None


def line_of(record: Mapping[str, Any]) -> bytes:
    """Write a record as its line."""
    return json.dumps(record, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def key_of(picture: str) -> int:
    """Give a number that stands for the file name of a picture; a million names would fill the memory."""
    return int.from_bytes(hashlib.sha256(picture.encode()).digest()[:8], "big")


def unwritable(path: Path, error: OSError) -> OutputError:
    """Make the error for a file of records that cannot be written."""
    return OutputError(
        f"cannot write {path}: {error.strerror or error}", "Make room, then run the same command again: it goes on."
    )
