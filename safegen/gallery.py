"""The gallery: one self-contained page over a folder of pictures and their records.

Prompts are untrusted: the page holds them as JSON with every `<` escaped, its script turns them into
text nodes only, and its content policy lets no other script run and nothing be fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safegen import pages
from safegen.batch.folder import MISSING, PICTURES, read_records
from safegen.errors import UsageError
from safegen.files import write_atomically

NAME = "gallery.html"


def write(folder: Path) -> Path:
    """Write the page of a finished or half-finished run into its folder.

    Raises:
        UsageError: the folder holds no records.
        OutputError: a record is unreadable, or the page cannot be written.
    """
    cards = list(_cards(folder))
    if not cards:
        raise UsageError(f"there are no records in {folder}", "Give a folder that safegen batch or generate wrote to.")
    write_atomically(folder / NAME, page(cards).encode())
    return folder / NAME


def page(cards: list[dict[str, Any]]) -> str:
    """The page over cards, see `card`."""
    return pages.render(Path(__file__), cards)


def _cards(folder: Path) -> Iterator[dict[str, Any]]:
    for name in (PICTURES, MISSING):
        for record in read_records(folder / name):
            yield card(record)


def card(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of a record.

    `parts` is the prompt in pieces, each with the concepts that it carries; `concepts` has the flagged
    ones with their scores before and after, in standard deviations over benign text.
    """
    guard = record.get("guard") or {}
    before, after = guard.get("before", {}), guard.get("after", {})
    file = str(record.get("file_name", ""))
    notes = [f"drawn as: {guard['rewritten']}"] if guard.get("rewritten") else []
    notes += [str(record["error"]["message"])] if "error" in record else []
    return {
        "file": file if Path(file).name == file else "",  # a link leads nowhere but into the folder
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
