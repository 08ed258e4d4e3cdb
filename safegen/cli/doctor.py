"""``safegen doctor``: it shows the settings and their sources, and whether this installation works."""

from __future__ import annotations

from typing import Annotated

import typer

from safegen.cli.options import GUARD, LOAD, OUT, Out, Record, expand_options
from safegen.models.options import LoadOptions
from safegen.pictures import metadata
from safegen.safeguards.options import GuardOptions

SOURCES = {
    "COMMANDLINE": "flag",
    "ENVIRONMENT": "environment",
    "DEFAULT_MAP": "safegen.toml",
    "DEFAULT": "default",
}


@expand_options(load=("model", "device", "dtype"), guard=("folder", "safeguard", "strength"))
def doctor(
    context: typer.Context,
    load: LoadOptions = LOAD,
    guard: GuardOptions = GUARD,
    out: Out = OUT,
    record: Record = metadata.DEFAULT,
    json: Annotated[bool, typer.Option("--json", help="JSON lines.")] = False,
) -> None:
    """Show every setting with its source, and try what a picture needs; exit code 1 where something does not work."""
    from safegen.cli import config, console, diagnostics

    values = {name: context.params[name] for name in config.NAMES}
    set_to = [(name, "" if value is None else str(value), _source(context, name)) for name, value in values.items()]
    findings = list(diagnostics.examine(load.model, load.device, guard.folder))
    if json:
        for name, value, source in set_to:
            console.show_json({"schema": "safegen.setting/1", "name": name, "value": value, "source": source})
        for some in findings:
            facts = {"name": some.what, "found": some.found, "good": some.good, "hint": some.hint}
            console.show_json({"schema": "safegen.finding/1", **facts})
    else:
        console.show_table("settings", ("name", "value", "from"), set_to)
        rows = [(f.what, f.found, "" if f.good and f.hint else "ok" if f.good else "FAILS", f.hint) for f in findings]
        console.show_table("checks", ("what", "found", "", "hint"), rows)
    if not all(some.good for some in findings):
        raise typer.Exit(1)


def _source(context: typer.Context, name: str) -> str:
    source = context.get_parameter_source(name)
    return SOURCES.get(source.name, source.name) if source else ""
