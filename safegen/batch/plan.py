"""The plan: which pictures are drawn together. It is a pure function of the file, the options and the batch size.

Rows are read as they come and never held all at once. At most `OPEN` unfinished batches wait for rows with
the same settings; when there are more, the one that has waited longest goes as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from safegen.batch.readers import Source
from safegen.batch.rows import Row, RowParser
from safegen.batch.settings import BatchSettings
from safegen.batch.validate import Survey
from safegen.errors import PromptError

OPEN = 64


@dataclass(frozen=True)
class Shot:
    """One picture to make: the k-th of its row."""

    row: Row
    k: int

    @property
    def id(self) -> str:
        return self.row.id if self.row.images == 1 else f"{self.row.id}#{self.k + 1}"

    @property
    def seed(self) -> int:
        return self.row.seed + self.k

    @property
    def file_name(self) -> str:
        """The row number, a hash and the seed.

        No two runs share a name, and no data set takes a word of it for a split.
        """
        return f"{self.row.number:05d}-{self.row.mark}-{self.seed}.png"


@dataclass(frozen=True)
class Batch:
    """Pictures of compatible settings that are denoised together."""

    number: int
    shots: tuple[Shot, ...]


def rows(source: Source, settings: BatchSettings, survey: Survey) -> Iterator[Row]:
    """Read the rows that are drawn.

    Raises:
        PromptError: the file has changed since the survey.
    """
    for line, row, problem in RowParser(settings).read(source):
        if row is None:
            raise PromptError(f"{source.label}, line {line.number}: {problem}", "The file has changed; start again.")
        if row.number not in survey.repeats:
            yield row


def batches(rows: Iterable[Row], size: int) -> Iterator[Batch]:
    """Group rows into batches of up to `size` pictures with the same settings for drawing."""
    waiting: dict[object, list[Shot]] = {}
    number = 0

    def closed(key: object) -> Batch:
        nonlocal number
        number += 1
        return Batch(number, tuple(waiting.pop(key)))

    for row in rows:
        s = row.options
        key: object = (s.steps, s.guidance, s.size, s.negative, s.fair, s.image, s.mask, s.image_strength)
        for k in range(row.images):
            waiting.setdefault(key, []).append(Shot(row, k))
            if len(waiting[key]) == size:
                yield closed(key)
        if len(waiting) > OPEN:
            yield closed(next(iter(waiting)))
    for key in list(waiting):
        yield closed(key)
