"""A run: a prompt file, its settings and a folder, from the first check to the summary."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from safegen.batch import plan
from safegen.batch.interrupt import Watch
from safegen.batch.readers import Source
from safegen.batch.rows import Row
from safegen.batch.run_folder import Folder, open_run_folder
from safegen.batch.settings import BatchSettings
from safegen.batch.store import Store
from safegen.batch.validate import Survey, survey
from safegen.records import versions


class Engine(Protocol):
    """An engine that draws a plan: in one process (`local`) or in many (`ray_engine`)."""

    def started(self) -> contextlib.AbstractContextManager[None]: ...

    def facts(self, asked: Sequence[Row]) -> dict[str, Any]: ...

    def run(self, batches: Iterable[plan.Batch], folder: Folder, watch: Watch) -> None: ...


@dataclass(frozen=True)
class Summary:
    """The result of a run.

    Attributes:
        counts: pictures of the whole run by status.
        drawn: pictures made by this run.
        left: pictures of the run that are still to be made.
    """

    folder: str
    counts: dict[str, int]
    drawn: int
    left: int
    seconds: float

    @property
    def exit_code(self) -> int:
        """4 while some rows of the run have failed, else 0."""
        return 4 if self.counts.get("error") else 0

    def as_json(self) -> dict[str, Any]:
        return {
            "schema": "safegen.summary/1",
            "folder": self.folder,
            "counts": self.counts,
            "drawn": self.drawn,
            "left": self.left,
            "seconds": round(self.seconds, 3),
        }


@dataclass
class Run:
    """A checked prompt file in its locked folder."""

    source: Source
    settings: BatchSettings
    survey: Survey
    folder: Folder

    @property
    def left(self) -> int:
        """The number of pictures that have no record yet."""
        return self.folder.left

    def run(self, engine: Engine, watch: Watch) -> Summary:
        """Draw what is missing; the engine is started only if anything is.

        Raises:
            UsageError: the run was begun with other directions.
            KeyboardInterrupt: after Ctrl-C, with everything that was drawn on disk.
            OutputError: a picture or a record cannot be written.
        """
        start = time.monotonic()
        if self.left:
            with engine.started():
                facts = engine.facts(self.survey.asked)
                for line in facts["notes"]:
                    watch.note(line)
                size = self._settle(facts)
                start = time.monotonic()  # loading the model does not count for the rate
                batches = plan.batches(plan.rows(self.source, self.settings, self.survey), size)
                with watch.interruptible():
                    engine.run(batches, self.folder, watch)
        drawn = sum(watch.counts[status] for status in ("ok", "sanitized", "flagged"))
        return Summary(self.folder.store.label, dict(self.folder.counts), drawn, self.left, time.monotonic() - start)

    def _settle(self, facts: Mapping[str, Any]) -> int:
        """Write what only a loaded model can tell into the side file, or compare it; gives the batch size."""
        if self.folder.header is not None:
            for part in ("directions", "additions"):
                self.folder.agrees(part, facts[part])
            return int(self.folder.header["layout"]["batch_size"])
        self.folder.begin(
            {
                "settings": self.settings.as_json(),
                "prompts": _prompts(self.survey),
                "source": {"name": _absolute(self.source), "format": self.source.kind},
                "directions": facts["directions"],
                "additions": facts["additions"],
                "layout": {"batch_size": facts["batch_size"]},
                "safegen": versions()["safegen"],
            }
        )
        return int(facts["batch_size"])


@contextlib.contextmanager
def prepare_run(
    source: Source, settings: BatchSettings, out: str | Path | Store, *, retry: bool = False
) -> Iterator[Run]:
    """Check every row, lock the folder, and find what is done already; no model is loaded.

    Args:
        source: the prompts.
        settings: the settings; a resumed run must have the same.
        out: the folder of the run: a path, or an fsspec URL.
        retry: forget failures, so that their rows are drawn again.

    Raises:
        PromptError: a row is bad; `details` has them all.
        UsageError: the folder's run has other settings or prompts; `details` has the differences.
        OutputError: the folder is locked or cannot be written.
    """
    found = survey(source, settings)
    with open_run_folder(out) as folder:
        if folder.header is not None:
            folder.agrees("settings", settings.as_json())
            folder.agrees("prompts", _prompts(found))
        shots = (plan.Shot(row, k) for row in plan.rows(source, settings, found) for k in range(row.images))
        folder.take_stock((shot.file_name for shot in shots), retry=retry)
        yield Run(source, settings, found, folder)


def _prompts(found: Survey) -> dict[str, Any]:
    return {"rows": found.rows, "images": found.images, "sha256": found.digest}


def _absolute(source: Source) -> str:
    return source.name if source.content is not None else str(Path(source.name).absolute())
