"""``safegen show``: what a picture says of itself, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

FIELDS = ("prompt", "negative", "model", "seed", "steps", "guidance", "size", "scheduler", "created", "status")


def show(
    image: Annotated[Path, typer.Argument(help="A PNG that safegen made; its manifest is read, too.")],
    json: Annotated[bool, typer.Option("--json", help="The record as one JSON line.")] = False,
) -> None:
    """Show the record inside a picture: prompt, seed, what was found and changed."""
    from safegen import console, records
    from safegen.errors import UsageError

    found = records.read_picture(image)
    if json:
        console.show_json(found)
        return
    record = found["beside"] or found["record"]
    if record is None and not found["parameters"] and not found["source_type"]:
        raise UsageError(f"{image.name} carries no record", "Another program made it, or saved it since.")
    if record is None and found["parameters"]:
        console.show_table(image.name, ("parameters",), [[line] for line in found["parameters"].splitlines()])
        return
    record = record or {}
    guard = record.get("guard", {})
    rows = [("prompt", str(record["text"]))] if "text" in record else []
    rows += [(key, str(record[key])) for key in FIELDS if key in record]
    rows += [
        (addition["kind"], f"{addition['file']} at {addition['scale']}") for addition in record.get("additions", [])
    ]
    if guard:
        rows.append(("guard", f"{guard['safeguard']} at strength {guard['strength']}" if guard["safeguard"] else "off"))
    rows += [
        (name, f"{before['z']} sd -> {guard['after'][name]['z']} sd (threshold {before['threshold']})")
        for name, before in guard.get("before", {}).items()
        if before["flagged"]
    ]
    rows += [("word", f"{word['text']}: {', '.join(word['concepts'])}") for word in guard.get("words", [])]
    rows.append(("source type", found["source_type"]))
    rows.append(("inside", _inside(found)))
    console.show_table(image.name, ("field", "value"), rows)


def _inside(found: Mapping[str, Any]) -> str:
    """Tell how much of it goes where the picture goes."""
    if "prompt" in (found["record"] or {}):
        return "the whole record"
    rest = "; the rest is in metadata.jsonl beside it" if found["beside"] else ""
    return ("how it was generated" if found["record"] else "the source type alone") + rest
