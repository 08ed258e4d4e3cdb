"""``safegen show``: what pictures say of themselves, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from safegen.cli.options import path


def show(
    images: Annotated[list[Path], typer.Argument(parser=path, help="PNGs that safegen made.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON line a picture.")] = False,
) -> None:
    """Show the records inside pictures: prompt, seed, what was found and changed."""
    from safegen import console, records
    from safegen.errors import UsageError

    bad: UsageError | None = None
    for image in images:
        try:
            found = records.read_picture(image)
            if json:
                console.show_json({"file": str(image), **found})
            else:
                _show(image.name, found)
        except UsageError as error:  # the others are shown all the same
            if bad is not None:
                console.show_error(bad)
            bad = error
    if bad is not None:
        raise bad


def _show(name: str, found: dict[str, Any]) -> None:
    from safegen import console
    from safegen.errors import UsageError

    record = found["record"]
    if record is None and not found["parameters"]:
        raise UsageError(f"{name} carries no record", "It was saved with --no-metadata, or edited since.")
    if record is None:
        console.show_table(name, ("parameters",), [[line] for line in found["parameters"].splitlines()])
        return
    guard = record.get("guard", {})
    rows = [
        (key, str(record.get(key, "")))
        for key in ("prompt", "negative", "model", "seed", "steps", "guidance", "size", "scheduler", "status")
    ]
    rows += [
        (addition["kind"], f"{addition['file']} at {addition['scale']}") for addition in record.get("additions", [])
    ]
    rows.append(("guard", f"{guard['safeguard']} at strength {guard['strength']}" if guard.get("safeguard") else "off"))
    rows += [
        (name, f"{before['z']} sd -> {guard['after'][name]['z']} sd (threshold {before['threshold']})")
        for name, before in guard.get("before", {}).items()
        if before["flagged"]
    ]
    rows += [("word", f"{word['text']}: {', '.join(word['concepts'])}") for word in guard.get("words", [])]
    rows.append(("source type", found["source_type"]))
    console.show_table(name, ("field", "value"), rows)
