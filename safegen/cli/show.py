"""``safegen show``: what pictures say of themselves, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from safegen.cli.paths import path

FIELDS = (
    "prompt",
    "negative",
    "model",
    "seed",
    "steps",
    "guidance",
    "size",
    "compare",
    "scheduler",
    "created",
    "status",
)


def show(
    images: Annotated[list[Path], typer.Argument(parser=path, help="PNGs that safegen made, with their manifest.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON line a picture.")] = False,
) -> None:
    """Show the records inside pictures: prompt, seed, what was found and changed."""
    from safegen.cli import console
    from safegen.errors import UsageError
    from safegen.pictures import metadata

    bad: UsageError | None = None
    for image in images:
        try:
            found = metadata.read_picture(image)
            if json:
                console.show_json({"file": str(image), **found})
            else:
                _show(image.name, found)
        except UsageError as error:  # the other pictures are still shown
            if bad is not None:
                console.show_error(bad)
            bad = error
    if bad is not None:
        raise bad


def _show(name: str, found: dict[str, Any]) -> None:
    from safegen.cli import console
    from safegen.errors import UsageError

    record = found["beside"] or found["record"]
    if record is None and not found["parameters"] and not found["source_type"]:
        raise UsageError(f"{name} carries no record", "Another program made it, or saved it since.")
    if record is None and found["parameters"]:
        console.show_table(name, ("parameters",), [[line] for line in found["parameters"].splitlines()])
        return
    record = record or {}
    guard = record.get("guard", {})
    record = {"prompt": record["text"], **record} if "text" in record else record  # manifests have only the text
    rows = [(key, str(record[key])) for key in FIELDS if key in record]
    rows += _drawn_from(record.get("input", {}))
    rows += [
        (addition["kind"], f"{addition['file']} at {addition['scale']}") for addition in record.get("additions", [])
    ]
    if guard:
        rows.append(("guard", f"{guard['safeguard']} at strength {guard['strength']}" if guard["safeguard"] else "off"))
    rows += [
        (name, f"{_of_line(before)} -> {_of_line(guard['after'][name])}")
        for name, before in guard.get("before", {}).items()
        if before["flagged"]
    ]
    rows += [("word", _word(word)) for word in guard.get("words", [])]
    rows += [("drawn instead", guard["rewritten"])] if guard.get("rewritten") else []
    rows += _seen(record.get("check", {}))
    rows.append(("source type", found["source_type"]))
    rows.append(("inside", _inside(found)))
    console.show_table(name, ("field", "value"), rows)


def _of_line(score: Mapping[str, Any]) -> str:
    return f"{score['z']} sd (threshold {score['threshold']})"


def _word(word: Mapping[str, Any]) -> str:
    """Tell of what a word is the cause, and in which text of a caption it stands."""
    place = f" (in {word['key']})" if "key" in word else ""
    return f"{word['text']}{place}: {', '.join(word['concepts'])}"


def _seen(check: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Tell what the image check saw, in every picture that it looked at."""
    looked = {"input": "seen in the picture drawn from", "before": "seen at first", "after": "seen in this picture"}
    if check and "after" not in check:
        looked["before"] = "seen in this picture"
    return [
        (name, ", ".join(f"{t} ({concept})" for concept, things in check[key].items() for t in things) or "nothing")
        for key, name in looked.items()
        if key in check
    ]


def _drawn_from(begun: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Tell which picture was drawn from, and how much of it was drawn anew."""
    rows = []
    for what in ("image", "mask"):
        if facts := begun.get(what):
            parts = (facts.get("name", ""), "{}x{}".format(*facts["size"]), f"sha256 {facts['sha256'][:12]}")
            rows.append((f"from {what}", ", ".join(filter(None, parts))))
    return [*rows, ("image strength", str(begun["strength"]))] if "strength" in begun else rows


def _inside(found: Mapping[str, Any]) -> str:
    """Tell how much of the record is inside the picture file."""
    if "prompt" in (found["record"] or {}):
        return "the whole record"
    rest = "; the rest is in metadata.jsonl beside it" if found["beside"] else ""
    return ("how it was generated" if found["record"] else "the source type alone") + rest
