"""The command line: one file per command; each parses, calls, shows and sets the exit code."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from safegen.cli import config, entry
from safegen.cli.commands import Commands

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Draw pictures from text, safely: score every word, sanitize the prompt's embedding, generate.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 flagged (--fail-on-flag), 4 some rows failed, 130 interrupted.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from safegen.records import versions

        sys.stdout.write(f"safegen {versions()['safegen']}\n")
        raise typer.Exit()


@app.callback()
def root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Read the options before the command, and the settings that the working folder has for it."""
    found = config.read(Path.cwd())
    if found:
        from safegen.cli import console

        console.say(f"{config.FILE}: {', '.join(f'{name} = {value}' for name, value in found.items())}", "dim")
        context.default_map = config.defaults(context.command, found)
    context.obj = found


def main() -> None:
    """Run the command line; every known error ends in one line, a hint and its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal cannot show becomes an escape instead of a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    entry.run(app)
