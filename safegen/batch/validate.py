"""The survey: a whole prompt file is checked before a model loads, in little memory."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from safegen.batch.readers import Source
from safegen.batch.rows import Row, RowParser
from safegen.batch.settings import BatchSettings
from safegen.errors import PromptError
from safegen.models import adapters
from safegen.prompts import dialects, emphasis

SHOWN = 20  # bad lines that are listed, at most


@dataclass(frozen=True)
class Survey:
    """What a sound prompt file holds.

    Attributes:
        images: number of pictures of all rows that are drawn.
        digest: SHA-256 of all rows in their order; comments and blank lines do not count.
        repeats: rows that repeat an earlier one, by number, each with its line and the earlier one's line; they are
            not drawn again.
        notes: other tools' syntax in the prompts that has no meaning here, one line for every kind.
        asked: some rows about which a model may have a note, see `Generator.notes`.
    """

    rows: int
    images: int
    digest: str
    repeats: dict[int, tuple[int, int]]
    notes: tuple[str, ...] = ()
    asked: tuple[Row, ...] = ()


class _Ids:
    """The ids seen so far as eight bytes each, so that millions of rows fit."""

    def __init__(self) -> None:
        self.ids, self.contents, self.lines = array("Q"), array("Q"), array("Q")

    def add(self, row: Row) -> None:
        self.ids.append(int.from_bytes(hashlib.sha256(row.id.encode()).digest()[:8], "big"))
        self.contents.append(int(row.content, 16))
        self.lines.append(row.line)

    def twice(self) -> Iterator[tuple[int, int]]:
        """Find pairs of indices: a row whose id an earlier row has, and the first such row."""
        import numpy as np

        ids = np.frombuffer(self.ids, dtype=np.uint64)
        order = np.argsort(ids, kind="stable")
        first = 0
        for place in (np.flatnonzero(ids[order][1:] == ids[order][:-1]) + 1).tolist():
            if ids[order[place]] != ids[order[first]]:
                first = place - 1
            yield int(order[place]), int(order[first])


class _Asked:
    """One row with weights, one without steps or guidance, and the one with the largest picture."""

    def __init__(self) -> None:
        self.weighted: Row | None = None
        self.open: Row | None = None
        self.largest: Row | None = None

    def add(self, row: Row) -> None:
        own = row.options
        if self.weighted is None and (row.prompt.weights or emphasis.parse(own.negative).weights):
            self.weighted = row
        if self.open is None and (own.steps is None or own.guidance is None):
            self.open = row
        if own.size and (self.largest is None or max(own.size) > max(self.largest.options.size or (0,))):
            self.largest = row

    def rows(self) -> tuple[Row, ...]:
        return tuple(row for row in (self.weighted, self.open, self.largest) if row is not None)


def survey(source: Source, settings: BatchSettings) -> Survey:
    """Check every line.

    Raises:
        PromptError: lines are bad (`details` has up to twenty of them), or the file is empty or unreadable.
    """
    seen, images, digest = _Ids(), 0, hashlib.sha256()
    problems: list[str] = []
    bad = 0
    counts = array("L")
    syntax, asked = dialects.Notes(adapters.scales(settings.load.loras)), _Asked()
    for line, row, problem in RowParser(settings).read(source):
        if row is None:
            bad += 1
            if len(problems) < SHOWN:
                problems.append(f"line {line.number}: {problem}")
            continue
        seen.add(row)
        for text in dict.fromkeys((row.prompt.own, row.options.negative)):
            syntax.add(text, f"line {row.line}: ")
        asked.add(row)
        counts.append(row.images)
        digest.update(f"{row.id} {row.content}\n".encode())
        images += row.images
    repeats: dict[int, tuple[int, int]] = {}
    for later, earlier in seen.twice() if counts else ():
        lines = int(seen.lines[later]), int(seen.lines[earlier])
        if seen.contents[later] == seen.contents[earlier]:
            repeats[later + 1] = lines
            images -= counts[later]
        else:
            bad += 1
            if len(problems) < SHOWN:
                problems.append(f"line {lines[0]}: its id is that of line {lines[1]}, which has other content")
    if bad:
        listed = (*problems, f"and {bad - len(problems)} more") if bad > len(problems) else tuple(problems)
        plural = "line" if bad == 1 else "lines"
        raise PromptError(f"{source.label} has {bad} bad {plural}", "Correct them; nothing was drawn.", listed)
    if not counts:
        raise PromptError(f"{source.label} holds no prompts", "One prompt a line, or JSONL or CSV with `prompt`.")
    return Survey(len(counts), images, digest.hexdigest(), repeats, tuple(syntax.lines()), asked.rows())
