"""Published sets of prompts, read from files with the columns that their authors gave them."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from safegen.errors import PromptError
from safegen.files import as_path

if TYPE_CHECKING:
    from safegen.directions.recipes import Concept

# Columns of CoPro, I2P, Ring-A-Bell, P4D, COCO and similar sets; the first one that is found counts.
PROMPT = ("unsafe_prompt", "sensitive prompt", "adv_prompt", "prompt", "caption", "text")
SAFE = ("safe_prompt",)
CATEGORY = ("category", "categories", "concept")
IDENTITY = ("pair_id", "id", "case_number", "image_id")


@dataclass(frozen=True)
class Entry:
    """One row of a set: a prompt, and what the set says about it."""

    id: str
    prompt: str
    category: str = ""
    safe: str = ""  # the harmless counterpart, where the set has pairs

    @property
    def is_validation(self) -> bool:
        return is_validation(self.id)


def is_validation(key: str) -> bool:
    """Tell whether an entry, by its hash, is in the three tenths of a set from which nothing is learned."""
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % 10 < 3


def read(path: Path, on_dropped: Callable[[str], None] | None = None) -> list[Entry]:
    """Read the entries of a CSV or JSONL file; a repeated prompt counts once.

    Where the set has no column of identities, the prompt itself is the identity.

    Args:
        path: the file.
        on_dropped: called with a message on how many rows were left out, if any were.

    Raises:
        PromptError: the file cannot be read, or has no column of prompts, a field that is not text, or two rows
            with the same identity.
    """
    entries: dict[str, Entry] = {}
    prompts: set[str] = set()
    empty = repeated = 0
    for number, row in _rows(path):
        try:
            prompt = " ".join(_pick(row, PROMPT).strip().strip('"').split())
            identity = _pick(row, IDENTITY) or prompt
            entry = Entry(identity, prompt, _pick(row, CATEGORY), " ".join(_pick(row, SAFE).split()))
        except TypeError as error:
            raise PromptError(f"{path.name}, line {number}: {error}", "Give one text there.") from error
        if not prompt or prompt in prompts:
            empty, repeated = empty + (not prompt), repeated + bool(prompt)
            continue
        prompts.add(prompt)
        if identity in entries:
            raise PromptError(
                f"{path.name}, line {number}: a second row has the id {identity[:40]!r}", "Make it unique."
            )
        entries[identity] = entry
    if on_dropped and (empty or repeated):
        on_dropped(f"{path.name}: {empty} rows without a prompt and {repeated} with a repeated one are left out")
    if not entries:
        raise PromptError(f"{path.name} holds no prompts", "Give a CSV or JSONL file with a column of prompts.")
    return list(entries.values())


def training_pairs(
    path: Path, recipes: Sequence[Concept], on_dropped: Callable[[str], None] | None = None
) -> list[Entry]:
    """Read the entries of a set of pairs, and check that it has pairs for every recipe.

    Raises:
        PromptError: see `read`; or there are no pairs at all, or none for one of the recipes.
    """
    entries = read(path, on_dropped)
    pairs = [entry for entry in entries if entry.safe]
    if not pairs:
        raise PromptError(
            f"{path.name} has no column {SAFE[0]}, or nothing in it", "Give unsafe prompts with a safe one each."
        )
    categories = {entry.category for entry in pairs}
    found = ", ".join(sorted(categories))[:200] or "none"
    for recipe in recipes:
        if not {category.casefold() for category in categories} & set(recipe.categories):
            raise PromptError(
                f"{path.name} has no pairs for {recipe.name} (categories found: {found})",
                f"Name the category one of: {', '.join(recipe.categories)}.",
            )
    return entries


def training_prompts(path: Path, on_dropped: Callable[[str], None] | None = None) -> list[str]:
    """Read the seven in ten prompts of a file of benign text that may be learned from.

    Raises:
        PromptError: see `read`; or the file is a set of pairs, whose prompts are the unsafe ones.
    """
    entries = read(path, on_dropped)
    if any(entry.safe for entry in entries):
        raise PromptError(f"{path.name} is a set of pairs, not of benign prompts", "Give it as --pairs.")
    return [entry.prompt for entry in entries if not entry.is_validation]


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Read every row, with the number of the line in which it ends."""
    path = as_path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _json_rows(file, path.name) if path.suffix == ".jsonl" else _csv_rows(file, path.name)
    except OSError as error:
        raise PromptError(f"cannot read {path.name}: {error.strerror}", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise PromptError(f"{path.name} is neither CSV nor JSONL: {error}", "Give a UTF-8 file of prompts.") from error


def _json_rows(file: TextIO, name: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.rstrip())
        except json.JSONDecodeError as error:
            raise PromptError(
                f"{name}, line {number}: not JSON: {error.msg} at column {error.colno}", "Give one JSON object a line."
            ) from error
        yield number, _check_row(row, f"{name}, line {number},")


def _csv_rows(file: TextIO, name: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    reader = csv.DictReader(file)
    try:
        _check_row(dict.fromkeys(reader.fieldnames or ()), name)
        for row in reader:
            yield reader.reader.line_num, row  # DictReader's own count lags behind where lines are empty
    except csv.Error as error:
        raise PromptError(
            f"{name}, line {reader.reader.line_num}: {error}",
            "Give plain CSV, with quotes that close and no huge field.",
        ) from error


def _check_row(row: object, where: str) -> Mapping[str, object]:
    if not isinstance(row, dict) or not any(column in row for column in PROMPT):
        found = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
        raise PromptError(
            f"{where} has no column of prompts (found: {found[:200] or 'nothing'})",
            f"Name it one of: {', '.join(PROMPT)}.",
        )
    return row


def _pick(row: Mapping[str, object], columns: tuple[str, ...]) -> str:
    """Take the first of some columns that holds anything; a number counts as its text.

    Raises:
        TypeError: the column holds neither text nor a number.
    """
    name = next((c for c in columns if row.get(c) not in (None, "")), None)
    value = row[name] if name is not None else ""
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} is no text, but {json.dumps(value)[:40]}")
    return str(value)
