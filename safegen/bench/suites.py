"""Running the suites by name, one after the other, into one report."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from safegen.batch.store import lock
from safegen.bench import provenance
from safegen.bench.cells import Cells
from safegen.bench.provenance import PromptSets
from safegen.bench.registry import Bench, Suite, suites
from safegen.bench.report import Album, page
from safegen.builtin import world
from safegen.errors import UsageError
from safegen.files import check_writable, write_atomically
from safegen.progress import Progress
from safegen.records import now

NEEDS = {
    "data": ("prompt sets", "Give their folder with --data."),
    "sets": ("sets of prompts", "Name their files with --set."),
    "font": (f"{world.FONT.name}, with which it renders", "Install fonts-noto-color-emoji."),
}
PAGE = ".html"


class Show(Progress, Protocol):
    """A terminal that shows tables as well."""

    def show_table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show one table."""


def run(
    names: Sequence[str],
    show: Show,
    *,
    quick: bool,
    data: Path | None,
    sets: Sequence[Path] = (),
    out: Path | None = None,
) -> None:
    """Measure the named suites, by default all of them, on the embedded model; show and keep the figures.

    Args:
        names: names of `suites`; by default all suites for which everything they need is there.
        show: a terminal.
        quick: by default run only quick suites that have their prompts, with a tenth of the pictures or less.
        data: folder with the prompt sets of the suites that need `data`.
        sets: files of prompts in their published columns.
        out: JSON file for the figures; a page of the same name with `.html` goes beside it. Suites that
            it holds already, from an interrupted run of the same code on the same files, are not run again.

    Raises:
        UsageError: an unknown suite, one that lacks what it needs, or an `out` of something else.
        OutputError: another run writes to `out`.
        PromptError: a file of prompts that cannot be used.
    """
    known = suites()
    here = {"": True, "data": data is not None, "sets": bool(sets), "font": world.FONT.is_file(), "name": bool(names)}
    chosen = [known[name] for name in names if name in known]
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"unknown suite {unknown[0]!r}", f"Known: {', '.join(known)}.")
    if not names:
        chosen = [one for one in known.values() if here[one.needs] and (one.quick or not quick)]
    for one in chosen:
        if not here[one.needs]:
            what, hint = NEEDS[one.needs]
            raise UsageError(f"the {one.name} suite needs {what}", hint)
    wanted = {kind for one in chosen for kind in (one.needs, one.takes)}
    prompts = PromptSets.read(data if "data" in wanted else None, sets if "sets" in wanted else ())
    with held(out):
        _run(chosen, show, quick, prompts, out, begin(out, provenance.about(quick, prompts)))


def _run(
    chosen: Sequence[Suite], show: Show, quick: bool, prompts: PromptSets, out: Path | None, report: dict[str, Any]
) -> None:
    """Measure what the report does not have yet; show every chosen suite."""
    from safegen.builtin.judge import Judge
    from safegen.generator import Generator

    results, album = report["suites"], Album(report["pictures"])
    generator, judge = Generator.load(offline=True), Judge.load()
    for one in chosen:
        if one.name in results:
            show.say(f"{one.name}: kept from the interrupted run in {out}")
        else:
            start = time.perf_counter()
            with show.counting(one.name, one.total(quick, prompts) if one.total else None) as tick:
                cells = Cells(report["cells"].setdefault(one.name, {}), lambda: keep(out, _with(report, album)))
                rows = one.run(Bench(generator, judge, album, prompts, quick, tick, cells))
            results[one.name] = {
                "measured": now(),
                "seconds": round(time.perf_counter() - start, 1),
                "rows": [{"measure": r.measure, "figure": r.figure, "bar": r.bar, "met": r.met, **r.raw} for r in rows],
            }
            keep(out, _with(report, album))
        show.show_table(one.name, ("measure", "figure", "bar", ""), [_shown(row) for row in results[one.name]["rows"]])


def _with(report: dict[str, Any], album: Album) -> dict[str, Any]:
    return {**report, "pictures": album.strips}


def _shown(row: dict[str, Any]) -> tuple[str, str, str, str]:
    return row["measure"], row["figure"], row["bar"], ("met" if row["met"] else "MISSED") if row["bar"] else ""


@contextlib.contextmanager
def held(out: Path | None) -> Iterator[None]:
    """Keep other runs from writing a report while the context lasts.

    Raises:
        OutputError: another run writes there, or nothing can be written.
    """
    if out is None:
        yield
        return
    check_writable(out.parent)
    with lock(out.with_name(f".{out.name}.lock"), str(out)):
        yield


def begin(out: Path | None, today: dict[str, Any]) -> dict[str, Any]:
    """Read the report that an interrupted run left in `out`, or begin a new one.

    Files of prompts that only one of the two runs needs stay in the report, and are no reason to refuse it.

    Raises:
        UsageError: the file is no report, or one of other code, settings or files of prompts; or the page beside it
            would overwrite another file.
    """
    fresh = {**today, "suites": {}, "cells": {}, "pictures": {}}
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
    """Write the figures and the page; done after every suite, so that an interrupted run keeps what it has."""
    if out is not None:
        write_atomically(out, (json.dumps(report, indent=1) + "\n").encode())
        write_atomically(out.with_suffix(PAGE), page(report).encode())
