"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from safegen import safeguards
from safegen.guard import MAX_STRENGTH

Prompts = Annotated[Optional[list[str]], typer.Argument(help="Prompts; - reads stdin.")]  # noqa: UP045
Images = Annotated[int, typer.Option("--images", "-n", min=1, max=1000, help="Pictures a prompt, consecutive seeds.")]
Steps = Annotated[Optional[int], typer.Option(min=1, max=1000, help="Denoising steps.")]  # noqa: UP045
Guidance = Annotated[Optional[float], typer.Option(min=0, max=50, help="Classifier-free guidance.")]  # noqa: UP045
Size = Annotated[Optional[str], typer.Option(help="WIDTHxHEIGHT or one number, in pixels.")]  # noqa: UP045
Negative = Annotated[str, typer.Option("--negative", help="What to keep out; never sanitized.")]
Concepts = Annotated[Optional[list[str]], typer.Option("--concept", "-c", help="Active concepts; all by default.")]  # noqa: UP045
Safeguard = Annotated[
    str, typer.Option(envvar="SAFEGEN_SAFEGUARD", help=f"The method: {', '.join(safeguards.REGISTRY)}.")
]
Strength = Annotated[
    float, typer.Option(min=0, max=MAX_STRENGTH, envvar="SAFEGEN_STRENGTH", help="0 is off, 1 the default, up to 1.5.")
]
Guarded = Annotated[bool, typer.Option("--guard/--no-guard", help="Without the guard a banner and the records say so.")]
Metadata = Annotated[bool, typer.Option("--metadata/--no-metadata", help="The record inside the PNG.")]
Device = Annotated[str, typer.Option(envvar="SAFEGEN_DEVICE", help="auto, cpu, cuda, mps.")]
Model = Annotated[
    str, typer.Option("--model", "-m", envvar="SAFEGEN_MODEL", help="Alias, hub id or local folder of a model.")
]
Directions = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--directions", envvar="SAFEGEN_DIRECTIONS", help="Folder of your own concepts."),
]
Offline = Annotated[bool, typer.Option("--offline", help="Never ask the network.")]
