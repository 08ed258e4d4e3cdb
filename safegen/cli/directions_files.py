"""``safegen directions export | import | clean``: sharing direction files, and removing them from the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from safegen.cli.options import Directions
from safegen.cli.paths import path

Concepts = Annotated[Optional[list[str]], typer.Argument(help="Names of concepts; all by default.")]  # noqa: UP045


def export(
    out: Annotated[Path, typer.Option("--out", "-o", parser=path, help="The bundle: a .zip file, or a new folder.")],
    concept: Concepts = None,
    encoder: Annotated[
        str, typer.Option(help="Only files whose name begins so, as in t5_encoder_model or clip_text_model-838667bc.")
    ] = "",
    directions: Directions = None,
) -> None:
    """Share what was learned here: directions, latent directions and weight edits, with their hashes."""
    from safegen.cli import console
    from safegen.directions import bundle

    files = bundle.learned(concept or (), encoder, directions)
    bundle.write(files, out)
    for name in files:
        console.say(name, "dim")
    console.say(f"{len(files)} files; on the other machine: safegen directions import {out.name}")
    console.show_path(out)


def import_(
    source: Annotated[
        Path, typer.Argument(parser=path, help="A bundle of safegen directions export, or one .safetensors file.")
    ],
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite files in the cache that differ.")] = False,
    directions: Directions = None,
) -> None:
    """Check files from another machine, every one of them, and keep them in the cache."""
    from safegen.cli import console
    from safegen.directions import bundle

    arrivals = bundle.read(source, directions)
    known = {arrival.name for arrival in arrivals if arrival.known}
    bundle.keep(arrivals, replace=replace)
    for arrival in arrivals:
        console.say(
            f"{arrival.name}{' (kept already)' if arrival.name in known else ''}, {arrival.found.figures()}", "dim"
        )
        console.show_path(arrival.path)


def clean(
    concept: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Remove the directions of these concepts alone; everything by default."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Empty the cache; what is needed again is learned again. What is shipped, and your own folders, stay."""
    import sys

    from safegen.cli import console
    from safegen.directions import cache, store
    from safegen.errors import UsageError

    files = cache.kept(concept or ())
    if not files:
        console.say(f"nothing to remove in {store.cache_folder().parent}")
        return
    for kind in dict.fromkeys(file.kind for file in files):
        some = [file for file in files if file.kind == kind]
        console.say(f"{kind}: {len(some)} files, {console.megabytes(sum(file.size for file in some))}")
    total = console.megabytes(sum(file.size for file in files))
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"this would free {total}, and nobody is there to ask", "Say --yes.")
        typer.confirm(f"Remove {len(files)} files and free {total}?", abort=True, err=True)
    cache.remove(files)
    console.say(f"freed {total}")
