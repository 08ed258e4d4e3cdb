"""``safegen bench``: every figure of the README, measured again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from safegen.cli.options import path


def bench(
    suites: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(
            help="Of reader, judge, model, guard, methods, robust, genetic, words, text, encoders, sets, learn, "
            "cost, throughput; all by default"
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="A look in a minute, not figures: guard and words, or the suites named, with a tenth of the prompts.",
        ),
    ] = False,
    data: Annotated[
        Path | None, typer.Option(parser=path, help="Folder with the prompt sets of text and encoders.")
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
    from safegen.bench import suites as known

    known.run(suites or [], quick=quick, data=data, sets=set_ or [], out=out)
