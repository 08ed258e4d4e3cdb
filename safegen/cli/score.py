"""``safegen score``: which word is harmful, under which concept, how far from the line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional, cast, get_args

import typer

from safegen.cli import options
from safegen.models import EMBEDDED
from safegen.safeguards import DEFAULT

BATCH = 64


def score(
    prompts: options.Prompts = None,
    file: Annotated[Optional[Path], typer.Option("--file", "-f", help="One prompt a line; # comments.")] = None,  # noqa: UP045
    concept: options.Concepts = None,
    model: options.Model = EMBEDDED,
    embedding: options.Embeddings = None,
    lora: options.Loras = None,
    directions: options.Directions = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Raw tokens, special ones included.")] = False,
    cause: Annotated[
        str, typer.Option(help="Find every word's cause under: none, the flagged concepts, or all.")
    ] = "flagged",
    safeguard: options.Safeguard = DEFAULT,
    json: Annotated[bool, typer.Option("--json", help="One JSON line a prompt.")] = False,
    fail_on_flag: Annotated[bool, typer.Option("--fail-on-flag", help="Exit with 3 when a prompt is flagged.")] = False,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    revision: options.Revision = None,
    variant: options.Variant = None,
    offload: options.Offload = "none",
    quantize: options.Quantize = None,
    offline: options.Offline = False,
) -> None:
    """Score prompts word by word; nothing is drawn."""
    from safegen import refusal
    from safegen.errors import UsageError
    from safegen.guard import Causes
    from safegen.prompts import gather

    if cause not in get_args(Causes):
        raise UsageError(f"--cause {cause!r} is not known", f"One of: {', '.join(get_args(Causes))}.")

    batch = gather(prompts or [], file)
    for prompt in batch:
        refusal.check(prompt.text)
    from safegen import console, findings
    from safegen.generator import Generator

    generator = Generator.load(
        model,
        concepts=concept or (),
        safeguard=safeguard,
        folder=directions,
        teller=console,
        device=device,
        dtype=dtype,
        revision=revision,
        variant=variant,
        offload=offload,
        quantize=quantize,
        offline=offline,
        embeddings=embedding or (),
        loras=lora or (),
    )
    findings.note_weights(generator, batch)
    flagged = False
    for start in range(0, len(batch), BATCH):
        part = batch[start : start + BATCH]
        for prompt, sheet in zip(part, generator.score([p.own for p in part], cast("Causes", cause)), strict=True):
            flagged |= sheet.flagged
            if json:
                console.show_json({**sheet.as_json(prompt.id), "model": model})
            else:
                findings.show_sheet(sheet, tokens=tokens)
    if flagged and fail_on_flag:
        raise typer.Exit(3)
