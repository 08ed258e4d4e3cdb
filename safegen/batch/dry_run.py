"""The dry run: every prompt is scored as the run would score it, and nothing is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from safegen.batch import plan
from safegen.batch.readers import Source
from safegen.batch.rows import Row
from safegen.batch.validate import Survey
from safegen.batch.worker import Worker
from safegen.errors import SafegenError
from safegen.guard.preparation import Prepared
from safegen.scoring.scores import ScoreSheet

Verdict = tuple[Row, ScoreSheet | None, str]  # the sheet, or None and the code of the error


def score_rows(worker: Worker, source: Source, survey: Survey, size: int) -> Iterator[tuple[plan.Batch, list[Verdict]]]:
    """Give every batch of the plan with the verdicts on the rows that begin in it."""
    scorer = Worker(worker.generator, replace(worker.settings, on_flag="warn"))
    for batch in plan.batches(plan.rows(source, worker.settings, survey), size):
        rows = [shot.row for shot in batch.shots if shot.k == 0]
        found = scorer.prepare(rows)
        yield batch, [_verdict(row, found[row.number]) for row in rows]


def _verdict(row: Row, found: Prepared | SafegenError) -> Verdict:
    if isinstance(found, SafegenError):
        return row, None, found.code
    return row, found.report.before if found.report else None, ""
