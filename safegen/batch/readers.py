"""Prompt files as lines: txt, JSONL and CSV, read one line at a time and any number of times."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from safegen.errors import PromptError
from safegen.files import MAX_LINE, home, lines, unusable
from safegen.prompts import dialects

KINDS = ("txt", "jsonl", "csv")
SUFFIXES = {"tsv": "csv", "tab": "csv", "ndjson": "jsonl", "text": "txt"}
STDIN = "-"


@dataclass(frozen=True)
class Line:
    """One row of a file as it was found: its fields, or its problem."""

    number: int
    fields: Mapping[str, object] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class Source:
    """A source of prompts. Standard input and pipes are held in memory, because they are read twice."""

    name: str  # a path, or `-`
    kind: str
    content: bytes | None = None

    @classmethod
    def of(cls, name: str, kind: str = "") -> Source:
        """Name a file by its path, or standard input as ``-``; the suffix says the kind unless it is given.

        Raises:
            PromptError: an unknown kind, or nothing on standard input.
        """
        if kind and kind not in KINDS:
            raise PromptError(f"unknown format {kind[:40]!r}", f"Known: {', '.join(KINDS)}.")
        if name == STDIN:
            content = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
            if not content:
                raise PromptError("no prompts on standard input", "As in: safegen batch - < prompts.txt")
            return cls(name, kind or "txt", content)
        name = home(name)
        suffix = Path(name).suffix.lower().removeprefix(".")
        kind = kind or SUFFIXES.get(suffix, suffix)
        if kind not in KINDS:
            raise PromptError(
                f"{Path(name).name} is none of {', '.join(KINDS)}", "Rename it, or say what it holds with --format."
            )
        pipe = Path(name).exists() and not Path(name).is_file() and not Path(name).is_dir()
        return cls(STDIN, kind, Path(name).read_bytes()) if pipe else cls(name, kind)

    @property
    def folder(self) -> Path | None:
        """The folder of the file, in which its pictures lie; standard input has none."""
        return None if self.content is not None else Path(self.name).absolute().parent

    @property
    def label(self) -> str:
        """The name that people know it by."""
        return "stdin" if self.name == STDIN else Path(self.name).name

    def lines(self) -> Iterator[Line]:
        """Read every row, good or bad; comments and blank lines are left out.

        Raises:
            PromptError: the file cannot be opened or read.
        """
        try:
            with io.BytesIO(self.content) if self.content is not None else open(self.name, "rb") as file:
                yield from _READERS[self.kind](file)
        except OSError as error:
            raise PromptError(f"cannot read {self.label}: {error.strerror}", "Check the path.") from error


def _txt(file: BinaryIO) -> Iterator[Line]:
    for number, text in lines(file, MAX_LINE):
        if problem := unusable(text):
            yield Line(number, problem=problem)
        elif text and (prompt := text.strip()) and not prompt.startswith("#"):
            yield Line(number, dialects.fields(prompt))


def _jsonl(file: BinaryIO) -> Iterator[Line]:
    for number, text in lines(file, MAX_LINE):
        if problem := unusable(text):
            yield Line(number, problem=problem)
        elif text and text.strip():
            try:
                value = json.loads(text, object_pairs_hook=_unique)
            except (ValueError, RecursionError) as error:
                yield Line(number, problem=f"not JSON: {error}")
                continue
            good = isinstance(value, dict)
            yield Line(number, value) if good else Line(number, problem=f"a {type(value).__name__}, not an object")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a key is there twice")
    return fields


def _csv(file: BinaryIO) -> Iterator[Line]:
    def texts() -> Iterator[str]:
        for _, text in lines(file, MAX_LINE):
            if text is None:
                raise csv.Error(unusable(text))
            yield text

    every = texts()
    try:
        first = next(every, "")
    except csv.Error as error:
        yield Line(1, problem=str(error))
        return
    # Spreadsheets write semicolons where numbers have commas, and tabs when asked for text; some name the separator.
    told = re.fullmatch(r"sep=(.)\s*", first)
    separator = told[1] if told else next((sign for sign in ",;\t" if sign in first), ",")
    reader = csv.reader(every if told else itertools.chain([first], every), strict=True, delimiter=separator)
    header: list[str] | None = None
    before = 1 if told else 0
    start = before + 1  # a row may span lines; its number is that of the first
    try:
        for cells in reader:
            if header is None and cells:
                header = [cell.strip() for cell in cells]
                named = list(filter(None, header))  # spreadsheets leave columns without a name
                if len(set(named)) < len(named):
                    yield Line(start, problem="two columns have the same name")
                    return
            elif header is not None and any(map(str.strip, cells)):  # spreadsheets leave empty rows
                yield _cells(start, header, cells)
            start = before + reader.line_num + 1
    except csv.Error as error:
        # After broken quoting no one knows where the next row begins.
        yield Line(start, problem=f"broken CSV: {error}; nothing was read from here on")


def _cells(number: int, header: list[str], cells: list[str]) -> Line:
    if len(cells) != len(header):
        return Line(number, problem=f"{len(cells)} cells under {len(header)} columns")
    if problem := unusable("".join(cells)):
        return Line(number, problem=problem)
    return Line(number, {name: cell.strip() for name, cell in zip(header, cells, strict=True) if cell.strip()})


_READERS: Mapping[str, Callable[[BinaryIO], Iterator[Line]]] = {"txt": _txt, "jsonl": _jsonl, "csv": _csv}
