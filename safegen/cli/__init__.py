"""The command line: one file per command; each parses, calls, shows and sets the exit code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from safegen.cli import batch, bench, config, directions, doctor, entry, gallery, generate, models, score, serve, show
from safegen.errors import SafegenError, UsageError
from safegen.prompts import dialects
from safegen.records import versions


class Commands(TyperGroup):
    """The commands. When they refuse a setting that was not typed, the error says where it was set."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            name = error.param.name if error.param else None
            if error.ctx and name in (ctx.obj or {}):
                source = error.ctx.get_parameter_source(str(name))
                if source is not None and source.name == "DEFAULT_MAP":
                    raise UsageError(f"{config.describe(str(name), ctx.obj[name])}: {error.message}") from error
            raise
        except SafegenError as error:
            error.details += tuple(config.blame(str(error), ctx.obj or {}))
            raise
        except Exception as error:
            # An unknown option, in a class that typer does not show.
            if ours := dialects.FLAGS.get(getattr(error, "option_name", "").replace("_", "-")):
                error.possibilities = [ours]  # type: ignore[attr-defined]
            raise


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Draw pictures from text, safely: score every word, sanitize the prompt's embedding, generate.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 flagged (--fail-on-flag), 4 some rows failed, 130 interrupted.",
)
app.command("generate")(generate.generate)
app.command("score")(score.score)
app.command("batch")(batch.batch)
app.command("gallery")(gallery.gallery)
app.command("serve")(serve.serve)
app.command("show")(show.show)
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)
app.command("pull")(models.pull)
app.add_typer(directions.app, name="directions")
app.add_typer(models.app, name="models")


def _version(wanted: bool) -> None:
    if wanted:
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
    context.obj = found
    context.default_map = config.defaults(context.command, found)


def main() -> None:
    """Run the command line; every known error ends in one line, a hint and its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal cannot show becomes an escape instead of a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    entry.run(app)
