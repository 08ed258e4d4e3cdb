"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from safegen import safeguards

Prompts = Annotated[Optional[list[str]], typer.Argument(help="Prompts; - reads stdin.")]  # noqa: UP045
Concepts = Annotated[Optional[list[str]], typer.Option("--concept", "-c", help="Active concepts; all by default.")]  # noqa: UP045
Safeguard = Annotated[
    str, typer.Option(envvar="SAFEGEN_SAFEGUARD", help=f"The method: {', '.join(safeguards.REGISTRY)}.")
]
Model = Annotated[
    str, typer.Option("--model", "-m", envvar="SAFEGEN_MODEL", help="Alias, hub id or local folder of a model.")
]
Directions = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--directions", envvar="SAFEGEN_DIRECTIONS", help="Folder of your own concepts."),
]
Offline = Annotated[bool, typer.Option("--offline", help="Never ask the network.")]
