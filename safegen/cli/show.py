"""``safegen show``: what a picture says of itself, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def show(
    image: Annotated[Path, typer.Argument(help="A PNG that safegen made.")],
    json: Annotated[bool, typer.Option("--json", help="The record as one JSON line.")] = False,
) -> None:
    """Show the record inside a picture: prompt, seed, what was found and changed."""
    from safegen import console, records
    from safegen.errors import UsageError

    found = records.read_picture(image)
    if json:
        console.show_json(found)
        return
    record = found["record"]
    if record is None and not found["parameters"]:
        raise UsageError(f"{image.name} carries no record", "It was saved with --no-metadata, or edited since.")
    if record is None:
        console.show_table(image.name, ("parameters",), [[line] for line in found["parameters"].splitlines()])
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
    console.show_table(image.name, ("field", "value"), rows)
