"""The suites by name, run one after the other into one report."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safegen.batch.store import locked
from safegen.bench import (
    cost,
    encoders,
    genetic,
    learning,
    methods,
    pictures,
    provenance,
    reading,
    robustness,
    texts,
    throughput,
)
from safegen.bench.provenance import Sources
from safegen.bench.report import Album, page
from safegen.bench.results import Row
from safegen.builtin import world
from safegen.cli import console
from safegen.errors import UsageError
from safegen.files import check_writable, write_atomically

if TYPE_CHECKING:
    from safegen.generator import Generator

SUITES = (
    "reader",
    "judge",
    "model",
    "guard",
    "methods",
    "robust",
    "genetic",
    "words",
    "text",
    "encoders",
    "sets",
    "learn",
    "cost",
    "throughput",
)
QUICK = ("guard", "words")  # of a quick look, which takes a minute
TEXTUAL = ("text", "encoders")  # suites that need prompt sets
PAGE = ".html"


def run(
    names: Sequence[str], *, quick: bool, data: Path | None, sets: Sequence[Path] = (), out: Path | None = None
) -> None:
    """Measure the named suites, all by default, on the embedded model; show and keep the figures.

    Args:
        names: of `SUITES`; by default those of `TEXTUAL` run when there is `data`, `sets` when there are any, `judge`
            when there is the font.
        quick: `QUICK` by default, and what there are prompts for; a tenth of the pictures and less.
        data: folder with the prompt sets of the suites in `TEXTUAL`.
        sets: files of prompts in their published columns.
        out: JSON file for the figures; a page of the same name with `.html` goes beside it. Suites that
            it holds already, from an interrupted run of the same code on the same files, are not run again.

    Raises:
        UsageError: an unknown suite, no prompts for one of `TEXTUAL`, or an `out` of something else.
        OutputError: another run writes to `out`.
        PromptError: a file of prompts that cannot be used.
    """
    able = {**dict.fromkeys(TEXTUAL, data is not None), "sets": bool(sets), "judge": world.FONT.is_file()}
    usual = [suite for suite in SUITES if not quick or suite in QUICK or suite in (*TEXTUAL, "sets")]
    chosen = list(names) or [suite for suite in usual if able.get(suite, True)]
    for name in chosen:
        if name not in SUITES:
            raise UsageError(f"unknown suite {name!r}", f"Known: {', '.join(SUITES)}.")
    textual = [name for name in TEXTUAL if name in chosen]
    if textual and data is None:
        raise UsageError(f"the {textual[0]} suite needs prompt sets", "Give their folder with --data.")
    if "sets" in chosen and not sets:
        raise UsageError("the sets suite needs sets of prompts", "Name their files with --set.")
    if "judge" in chosen and not world.FONT.is_file():
        raise UsageError(f"the judge suite renders with {world.FONT.name}", "Install fonts-noto-color-emoji.")
    sources = Sources.read(data if textual or "reader" in chosen else None, sets if "sets" in chosen else ())
    with held(out):
        _run(chosen, quick, sources, out, begin(out, provenance.about(quick, sources)))


def _run(chosen: Sequence[str], quick: bool, sources: Sources, out: Path | None, report: dict[str, Any]) -> None:
    """Measure what the report does not have yet; show all that was chosen."""
    from safegen.generator import Generator

    results, album = report["suites"], Album(report["pictures"])
    generator = Generator.load(offline=True)
    for name in chosen:
        if name in results:
            console.say(f"{name}: kept from the interrupted run in {out}")
        else:
            start = time.perf_counter()
            rows = measure(name, generator, album, quick, sources)
            results[name] = {
                "seconds": round(time.perf_counter() - start, 1),
                "rows": [{"measure": r.measure, "figure": r.figure, "bar": r.bar, "met": r.met, **r.raw} for r in rows],
            }
            keep(out, {**report, "pictures": album.strips})
        console.show_table(name, ("measure", "figure", "bar", ""), [_shown(row) for row in results[name]["rows"]])


def _shown(row: dict[str, Any]) -> tuple[str, str, str, str]:
    return row["measure"], row["figure"], row["bar"], ("met" if row["met"] else "MISSED") if row["bar"] else ""


@contextlib.contextmanager
def held(out: Path | None) -> Iterator[None]:
    """Keep other runs from a report while this lasts.

    Raises:
        OutputError: another run writes there, or nothing can be written.
    """
    if out is None:
        yield
        return
    check_writable(out.parent)
    with locked(out.with_name(f".{out.name}.lock"), str(out)):
        yield


def begin(out: Path | None, today: dict[str, Any]) -> dict[str, Any]:
    """The report that an interrupted run left in `out`, or a new one.

    Files of prompts that only one of both runs needs stay in the report, and forbid nothing.

    Raises:
        UsageError: what is there is no report, or one of other code, settings or files of prompts; or the page that
            goes beside it would take the place of another file.
    """
    fresh = {**today, "suites": {}, "pictures": {}}
    hint = "Delete it, or give another --out."
    if out is None:
        return fresh
    if out.suffix == PAGE:
        raise UsageError(
            f"--out {out.name!r} is the name of a page", f"As in --out {out.stem}.json; the page goes beside."
        )
    if not out.exists():
        if out.with_suffix(PAGE).exists():
            raise UsageError(f"{out.with_suffix(PAGE).name} is there without its {out.name}", hint)
        return fresh
    try:
        found = json.loads(out.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{out.name} is not a report of the bench: {error}", hint) from error
    if not isinstance(found, dict) or found.keys() != fresh.keys():
        raise UsageError(f"{out.name} is not a report of this version of the bench", hint)
    files = {key: found[key] or today[key] for key in provenance.FILES}
    other = [key for key in today if found[key] != today[key] and (key not in files or (found[key] and today[key]))]
    if other:
        details = [f"{key} {_told(found[key])}, now {_told(today[key])}" for key in other]
        raise UsageError(f"{out.name} was measured with {'; '.join(details)}", hint)
    return {**found, **files}


def _told(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"{file['name']} (sha256 {file['sha256'][:12]})" for file in value)
    return repr(value)


def keep(out: Path | None, report: dict[str, Any]) -> None:
    """Write the figures and the page; after every suite, so that an interrupted run keeps what it has."""
    if out is not None:
        write_atomically(out, (json.dumps(report, indent=1) + "\n").encode())
        write_atomically(out.with_suffix(PAGE), page(report).encode())


def measure(name: str, generator: Generator, album: Album, quick: bool, sources: Sources) -> list[Row]:
    """Run one suite with its progress in sight."""
    from safegen.builtin.judge import Judge

    judge = Judge.load()
    renders, attacked, sampled = (200, 2, 300) if quick else (2000, 20, 5000)
    totals = {
        "judge": renders,
        "genetic": 2 * attacked * (genetic.GENERATIONS + 1),  # searched for and drawn, without the guard and with it
        "sets": sum(min(sampled, len(source.entries)) for source in sources.sets),
    }
    with console.counting(name, totals.get(name)) as tick:
        known: dict[str, Callable[[], list[Row]]] = {
            "reader": lambda: reading.reader_suite(sources.data, 0.1 if quick else 1.0, tick),
            "judge": lambda: pictures.judge_suite(judge, renders, tick),
            "model": lambda: pictures.model_suite(generator, judge, 20 if quick else 200, 0.1 if quick else 1.0, tick),
            "guard": lambda: pictures.guard_suite(generator, judge, 8 if quick else 240, 6 if quick else 400, tick),
            "methods": lambda: methods.methods_suite(generator, judge, 16 if quick else 100, album, tick),
            "robust": lambda: robustness.robust_suite(generator, judge, 8 if quick else 35, tick),
            "genetic": lambda: robustness.genetic_suite(generator, judge, attacked, tick),
            "words": lambda: texts.words_suite(generator, 10 if quick else 100, 40 if quick else 1000, tick),
            "text": lambda: texts.text_suite(generator, sources.data, 300 if quick else 4000, tick),
            "encoders": lambda: encoders.encoders_suite(generator, sources.data, quick, tick),
            "sets": lambda: texts.sets_suite(generator, sources.sets, sampled, tick),
            "learn": lambda: learning.learn_suite(generator, quick, tick),
            "cost": lambda: cost.cost_suite(generator, 3 if quick else 15, tick),
            "throughput": lambda: throughput.throughput_suite(generator, 32 if quick else 48, 1 if quick else 3, tick),
        }
        return known[name]()
