"""``safegen bench``: measure every figure of docs/bench.md again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from safegen.cli.paths import path


def bench(
    suites: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Suites to run; all by default. See --list."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="The suites and what they measure.")] = False,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="A look in a minute, not figures: guard and words, or the suites named, with a tenth of the prompts.",
        ),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(envvar="SAFEGEN_DATA", parser=path, help="Folder with the prompt sets of text, reader and learn."),
    ] = None,
    set_: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(
            "--set",
            parser=path,
            help="CSV or JSONL of prompts (I2P, Ring-A-Bell, CoPro, COCO, ...) for the sets suite; repeatable.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", parser=path, help="JSON file; an HTML page goes beside it.")
    ] = None,
) -> None:
    """Measure the embedded model, its guard and every method side by side."""
    from safegen.bench import registry
    from safegen.bench import suites as bench_suites
    from safegen.cli import console

    if list_:
        rows = [(one.name, one.title, one.needs) for one in registry.suites().values()]
        console.show_table("suites", ("name", "measures", "needs"), rows)
        return
    bench_suites.run(suites or [], console, quick=quick, data=data, sets=set_ or [], out=out)
