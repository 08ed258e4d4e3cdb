"""The commands by name. A command's file is imported when that command runs, so that `--help` needs none of them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, cast

import typer
from typer.core import TyperGroup

from safegen.cli import config
from safegen.errors import SafegenError, UsageError

# For every command, its place in this folder and what `--help` says of it.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "generate": ("generate:generate", "Draw pictures from prompts; harm is repaired first."),
    "score": ("score:score", "Score prompts word by word; nothing is drawn."),
    "batch": ("batch:batch", "Draw the pictures of a whole file of prompts."),
    "gallery": ("gallery:gallery", "Write a page of pictures with their prompts."),
    "serve": ("serve:serve", "Serve a model over HTTP, with a page to try it."),
    "show": ("show:show", "Show the records inside pictures."),
    "doctor": ("doctor:doctor", "Show every setting, and try what a picture needs."),
    "attack": ("attack:attack", "Attack a guard in published ways, to see how it holds."),
    "bench": ("bench:bench", "Measure the guard and all methods side by side."),
    "pull": ("models:pull", "Download a model for use with --offline."),
    "directions": ("directions:app", "Learn, list, check and share direction files."),
    "models": ("models:app", "List models by short names, and the guarded classes."),
}


class Loaded(Mapping[str, Any]):
    """The commands as Click's objects, each made when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        module, attribute = COMMANDS[name][0].split(":")
        found = getattr(importlib.import_module(f"safegen.cli.{module}"), attribute)
        alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        if isinstance(found, typer.Typer):
            alone.add_typer(found, name=name)
        else:
            alone.command(name)(found)
        return typer.main.get_group(alone).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class Commands(TyperGroup):
    """The group of all commands. When one refuses a setting that was not typed, the error says where it was set."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = cast(Any, Loaded())

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, says) for name, (_, says) in COMMANDS.items()])

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
            from safegen.prompts import dialects

            # An unknown option, in a class that typer does not show.
            if ours := dialects.FLAGS.get(getattr(error, "option_name", "").replace("_", "-")):
                error.possibilities = [ours]  # type: ignore[attr-defined]
            raise
