"""``safegen batch``: from a file of prompts to a folder of pictures, resumable."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional, cast

import typer

from safegen.cli.options import DRAW, GUARD, LOAD, Images, Record, expand_options
from safegen.cli.paths import text
from safegen.models.options import PLACES, DrawOptions, LoadOptions
from safegen.pictures import metadata
from safegen.safeguards.options import GuardOptions

if TYPE_CHECKING:
    from safegen.batch.readers import Source
    from safegen.batch.run import Engine, Run, Summary
    from safegen.batch.settings import BatchSettings
    from safegen.batch.validate import Survey
    from safegen.batch.worker import Worker
    from safegen.guard.preparation import OnFlag

# Options allowed beside --resume: they say where to find things, not what to draw.
_FREE = {
    *("prompts", "kind", "resume", "retry", "max_errors", "json", "dry_run"),
    *("engine", "ray_address", "workers", "worker_cpus", *PLACES),
}


@expand_options(draw=("seed", "steps", "guidance", "size", "negative", "fair"))
def batch(
    context: typer.Context,
    prompts: Annotated[str | None, typer.Argument(parser=text, help="A txt, JSONL or CSV file; - reads stdin.")] = None,
    kind: Annotated[str, typer.Option("--format", help="txt, jsonl or csv; by default what the suffix says.")] = "",
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", envvar="SAFEGEN_OUT", parser=text, help="Folder for pictures and records, or an fsspec URL."
        ),
    ] = "safegen-batch",
    resume: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--resume", parser=text, help="Finish the run in this folder, with its own settings."),
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Draw failed rows again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, score and plan; draw nothing.")] = False,
    batch_size: Annotated[str, typer.Option("--batch-size", help="Pictures denoised together, or auto.")] = "auto",
    images: Images = 1,
    draw: DrawOptions = DRAW,
    guard: GuardOptions = GUARD,
    on_flag: Annotated[
        str, typer.Option("--on-flag", help="What to do with a flagged prompt: sanitize, skip or warn.")
    ] = "sanitize",
    max_errors: Annotated[
        int | None, typer.Option("--max-errors", min=0, help="Stop when more rows than this have failed.")
    ] = None,
    redact: Annotated[bool, typer.Option("--redact", help="Keep hashes instead of prompts.")] = False,
    record: Record = metadata.DEFAULT,
    load: LoadOptions = LOAD,
    engine: Annotated[str, typer.Option("--engine", help="local, or ray (pip install safegen[ray]).")] = "local",
    ray_address: Annotated[
        str, typer.Option("--ray-address", help="A running cluster; by default this machine's GPUs or cores.")
    ] = "",
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Ray actors; 0 is one per GPU or --worker-cpus.")
    ] = 0,
    worker_cpus: Annotated[float, typer.Option("--worker-cpus", min=0.01, help="CPUs of an actor without GPU.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="The summary, or the scores of --dry-run, as JSON.")] = False,
) -> None:
    """Draw the pictures of a whole file of prompts; the same command again finishes what is missing."""
    from safegen.batch import run
    from safegen.batch.settings import BatchSettings
    from safegen.batch.worker import Worker
    from safegen.cli import console, tables

    if resume is not None:
        given = [n for n in context.params if n not in _FREE and _was_typed(context, n)]
        source, settings = _resume(resume, prompts, kind, given)
        settings = replace(settings, load=settings.load.placed_like(load))
        out = resume
    else:
        settings = BatchSettings(
            load,
            guard,
            draw,
            on_flag=cast("OnFlag", on_flag),
            images=images,
            batch_size=_batch_size(batch_size),
            redact=redact,
            record=metadata.parse_kept(record),
        )
        source = _source(prompts, kind)

    work = functools.partial(Worker.load, settings, console)
    if not settings.guard.guarded:
        tables.show_report(None)
    if dry_run:
        _dry_run(source, settings, work, json)
        return
    with run.prepare_run(source, settings, out, retry=retry) as ready:
        drawer = _engine(engine, work, settings, ray_address, workers, worker_cpus)
        summary = _run(ready, drawer, max_errors)
    if json:
        console.show_json(summary.as_json())
    else:
        console.show_path(out)
    if summary.exit_code:
        raise typer.Exit(summary.exit_code)


def _engine(
    name: str, load: Callable[[], Worker], settings: BatchSettings, address: str, workers: int, cpus: float
) -> Engine:
    from safegen.errors import UsageError

    if name == "ray":
        from safegen.batch.ray_engine import RayEngine

        return RayEngine(load, settings.record, address, workers, cpus)
    if name != "local":
        raise UsageError(f"--engine {name!r} is not known", "One of: local, ray.")
    from safegen.batch.local import LocalEngine

    return LocalEngine(load)


def _run(ready: Run, engine: Engine, max_errors: int | None) -> Summary:
    from safegen.batch.interrupt import Watch
    from safegen.cli import console, tables

    _show_notes(ready.survey)
    total, left = ready.survey.images, ready.left
    if left < total:
        console.say(f"resuming: {total - left} of {total} are done", "dim")
    with console.batching(total, total - left) as (landed, step):
        watch = Watch(
            landed,
            step,
            lambda: console.say("finishing the pictures in flight; Ctrl-C again stops now"),
            lambda line: tables.note([line]),
            max_errors,
        )
        try:
            summary = ready.run(engine, watch)
        except KeyboardInterrupt:
            console.say(f"{ready.left} of {total} are left; the same command again draws them")
            raise
    console.show_summary(summary.counts, summary.drawn, summary.seconds)
    if watch.gave_up:
        console.say(f"stopped after {watch.counts['error']} errors (--max-errors); {summary.left} are left", "yellow")
    if summary.counts.get("error"):
        console.say("failed rows are in missing.jsonl; --retry draws them again", "yellow")
    return summary


def _dry_run(source: Source, settings: BatchSettings, load: Callable[[], Worker], json: bool) -> None:
    from collections import Counter

    from safegen.batch.dry_run import score_rows
    from safegen.batch.validate import survey
    from safegen.cli import console, tables

    found = survey(source, settings)
    _show_notes(found)
    worker = load()
    facts = worker.facts(found.asked)
    tables.note(facts["notes"])
    size = facts["batch_size"]
    flags: Counter[str] = Counter()
    batches = 0
    with console.batching(found.images, 0) as (landed, _):
        for batch, verdicts in score_rows(worker, source, found, size):
            batches += 1
            landed(len(batch.shots))
            for row, sheet, error in verdicts:
                flags.update(["", *(sheet.flagged_concepts() if sheet else [error])])
                flags["any"] += sheet is not None and sheet.flagged
                if json:
                    line = sheet.as_json(row.id) if sheet else {"id": row.id, "error": error}
                    console.show_json({**line, "row": row.number, "model": settings.load.model})
    drawn = flags.pop("")
    console.say(f"{drawn} prompts, {found.images} pictures in {batches} batches of up to {size}")
    console.say(f"{flags.pop('any')} prompts are flagged" + "".join(f"; {n}: {c}" for n, c in flags.most_common()))


def _show_notes(found: Survey) -> None:
    from safegen.cli import console, tables

    tables.note(found.notes)
    if found.repeats:
        some = [f"line {line} repeats line {first}" for line, first in list(found.repeats.values())[:5]]
        more = f" and {len(found.repeats) - 5} more" if len(found.repeats) > 5 else ""
        console.say(f"drawn once: {', '.join(some)}{more}", "yellow")


def _source(prompts: str | None, kind: str) -> Source:
    from safegen.batch.readers import Source
    from safegen.errors import PromptError

    if prompts is None:
        raise PromptError("no prompt file given", "As in: safegen batch prompts.txt; - reads stdin.")
    return Source.of(prompts, kind)


def _resume(folder: str, prompts: str | None, kind: str, given: list[str]) -> tuple[Source, BatchSettings]:
    """Read the prompts and settings of the run in a folder."""
    from safegen.batch.run_folder import at, read_header
    from safegen.batch.settings import BatchSettings
    from safegen.errors import UsageError

    if given:
        raise UsageError(
            "--resume takes the settings of the run itself",
            f"Leave out: {', '.join(n.replace('_', '-') for n in given)}.",
        )
    header = read_header(at(folder))
    if header is None:
        raise UsageError(f"there is no run in {folder}", "Give the folder that safegen batch wrote to.")
    if header["settings"]["redact"] and header["settings"]["negative"]:
        raise UsageError("a redacted run keeps no negative prompt", "Give the whole command again instead of --resume.")
    source = _source_again(folder, prompts, header["source"]["name"], kind or header["source"]["format"])
    return source, BatchSettings.from_json(header["settings"])


def _source_again(folder: str, prompts: str | None, name: str, kind: str) -> Source:
    """Read a run's prompts from where it had them, or from where they are now."""
    from safegen.batch.readers import STDIN
    from safegen.errors import PromptError

    try:
        source = _source(prompts or name, kind)
        if source.name != STDIN and not Path(source.name).is_file():
            raise PromptError(f"there is no {source.name}")
    except PromptError as error:
        if prompts:
            raise
        if name == STDIN:
            raise PromptError(
                f"the run in {folder} had its prompts from standard input",
                f"Pipe the same ones again: safegen batch --resume {folder} - < PROMPTS",
            ) from error
        raise PromptError(
            f"the prompts of the run in {folder} are not in {name} any more",
            f"Say where they are: safegen batch --resume {folder} PROMPTS",
        ) from error
    return source


def _was_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _batch_size(wanted: str) -> int:
    from safegen.batch.settings import AUTO
    from safegen.errors import UsageError

    if wanted == "auto":
        return AUTO
    if not (wanted.isdecimal() and 1 <= int(wanted) <= 1024):
        raise UsageError(f"--batch-size {wanted!r} is not 1 to 1024, or auto", "As in --batch-size 16.")
    return int(wanted)
