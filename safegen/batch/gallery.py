"""The gallery: one self-contained page over a folder of pictures and their records.

Prompts are untrusted. The page holds them as JSON with every `<` escaped, and its script turns them into text
nodes only. Its content policy lets no other script run and nothing be fetched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safegen import pages
from safegen.batch.manifest import MISSING, PICTURES, line_of, name_of, read_records, rewrite
from safegen.batch.store import Local, is_whole
from safegen.errors import OutputError, UsageError
from safegen.files import append_line, as_path, write_atomically

NAME, REMOVED = "gallery.html", "removed.jsonl"


def prune(folder: Path) -> int:
    """Move the records of deleted pictures to `REMOVED`, so that data sets load; gives how many there were.

    Nothing is moved while a command writes to the folder, or if it holds no picture at all.

    Raises:
        OutputError: a record is unreadable, or a file cannot be written.
    """
    folder = as_path(folder)
    if not (folder / PICTURES).is_file():
        return 0
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(Local(folder, str(folder)).held())
        except OutputError:
            return 0
        found = list(read_records(folder / PICTURES))
        gone = [record for record in found if not _is_there(folder, record)]
        if not gone or len(gone) == len(found):
            return 0
        try:
            append_line(folder / REMOVED, b"".join(map(line_of, gone)))
        except OSError as error:
            raise OutputError(f"cannot write {folder / REMOVED}: {error.strerror}", "Make room.") from error
        rewrite(folder / PICTURES, lambda record: _is_there(folder, record))
        return len(gone)


def _is_there(folder: Path, record: Mapping[str, Any]) -> bool:
    return is_whole(folder / name_of(record))


def write(folder: Path) -> Path:
    """Write the page of a finished or half-finished run into its folder.

    Raises:
        UsageError: the folder holds no records, or none of their pictures.
        OutputError: a record is unreadable, or the page cannot be written.
    """
    folder = as_path(folder)
    cards = list(_cards(folder))
    if not cards:
        raise UsageError(
            f"there are no records in {folder}, or no pictures to them",
            "Give a folder that safegen batch or generate wrote to.",
        )
    write_atomically(folder / NAME, page(cards).encode())
    return folder / NAME


def page(cards: list[dict[str, Any]]) -> str:
    """Make the page of cards, see `card`."""
    return pages.render(Path(__file__), cards)


def _cards(folder: Path) -> Iterator[dict[str, Any]]:
    for name in (PICTURES, MISSING):
        for record in read_records(folder / name):
            if name == MISSING or _is_there(folder, record):
                yield card(record)


def card(record: Mapping[str, Any]) -> dict[str, Any]:
    """Make what the page shows of a record.

    `parts` is the prompt in pieces, each with the concepts that it carries. `concepts` has the flagged
    concepts with their scores before and after, in standard deviations over benign text.
    """
    guard = record.get("guard") or {}
    before, after = guard.get("before", {}), guard.get("after", {})
    file = str(record.get("file_name", ""))
    notes = [f"drawn as: {guard['rewritten']}"] if guard.get("rewritten") else []
    notes += [str(record["error"]["message"])] if "error" in record else []
    return {
        "file": file if Path(file).name == file else "",  # a link must not lead out of the folder
        "id": str(record["id"]),
        "seed": record.get("seed"),
        "status": str(record["status"]),
        "parts": _parts(str(record.get("text", "")), guard.get("words", [])),
        "concepts": {k: [v["z"], after.get(k, v)["z"]] for k, v in before.items() if v["flagged"]},
        "note": "; ".join(notes),
    }


def _parts(text: str, words: list[Mapping[str, Any]]) -> list[tuple[str, str]]:
    parts, end = [], 0
    for word in words:
        start, stop = word.get("span", (0, 0))
        if end <= start < stop:
            parts += [(text[end:start], ""), (text[start:stop], ", ".join(word["concepts"]))]
            end = stop
    return [part for part in (*parts, (text[end:], "")) if part[0]]
