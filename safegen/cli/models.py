"""``safegen models`` and ``safegen pull``: listing models and pipeline classes, and fetching a model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Optional

import typer

app = typer.Typer(no_args_is_help=True, help="The models that go by a short name, and the classes that can be guarded.")


@app.command("list")
def list_(json: Annotated[bool, typer.Option("--json", help="JSON lines.")] = False) -> None:
    """List aliases with what is behind them: hub id, licence, download."""
    from safegen.cli import console
    from safegen.models.catalog import ALIASES, EMBEDDED

    if json:
        facts = {"repo": "", "licence": "Apache-2.0", "gigabytes": 0.0, "gated": False}
        console.show_json({"schema": "safegen.model/1", "name": EMBEDDED, **facts})
        for name, alias in ALIASES.items():
            facts = {"repo": alias.repo, "licence": alias.licence, "gigabytes": alias.size, "gated": alias.gated}
            console.show_json({"schema": "safegen.model/1", "name": name, **facts})
        return
    rows = [(EMBEDDED, "comes with safegen", "Apache-2.0", "0")]
    for name, alias in ALIASES.items():
        licence = f"{alias.licence}{' (accept it on the hub first)' if alias.gated else ''}"
        rows.append((name, alias.repo, licence, f"{alias.size:.1f}"))
    console.show_table("models", ("name", "hub", "licence of the weights", "GB"), rows)


@app.command("classes")
def classes(json: Annotated[bool, typer.Option("--json", help="JSON lines.")] = False) -> None:
    """List diffusers' pipeline classes: what guards each, or why nothing does."""
    from safegen.cli import console
    from safegen.families.classes import list_classes

    found = list_classes()
    if json:
        for one in found:
            console.show_json({"schema": "safegen.pipeline_class/1", **asdict(one)})
        return
    rows = [(one.name, " ".join(one.tasks), one.family or f"- {one.reason or 'unknown'}") for one in found]
    console.show_table("pipeline classes", ("class", "draws from", "guarded by, or why not"), rows)
    guarded = sum(bool(one.family) for one in found)
    console.say(f"{guarded} of {len(found)} are guarded", "dim")


def pull(
    model: Annotated[str, typer.Argument(help="Alias, hub id, or a .safetensors checkpoint.")],
    revision: Annotated[Optional[str], typer.Option(help="Branch, tag or commit of the hub.")] = None,  # noqa: UP045
    variant: Annotated[Optional[str], typer.Option(help="Of the weight files, such as fp16.")] = None,  # noqa: UP045
) -> None:
    """Download a model's safetensors files, and nothing else, for use with --offline."""
    from safegen.cli import console
    from safegen.models.catalog import ALIASES
    from safegen.models.loading import pull as fetch

    alias = ALIASES.get(model)
    if alias:
        console.say(f"{alias.repo}: about {alias.size:.1f} GB, licence {alias.licence}", "dim")
    console.show_path(Path(fetch(model, revision=revision, variant=variant)))
