"""``safegen score``: which word is harmful, under which concept, how far from the line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional, cast

import typer

from safegen.cli import options
from safegen.models.catalog import EMBEDDED
from safegen.prompts import refusal
from safegen.safeguards import DEFAULT

if TYPE_CHECKING:
    from safegen.guard import Causes
    from safegen.prompts.prompt import Prompt
    from safegen.scoring.scores import ScoreSheet

BATCH = 256


def score(
    prompts: options.Prompts = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", parser=options.path, help="One prompt a line; # comments.")
    ] = None,
    concept: options.Concepts = None,
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--model", "-m", parser=options.text, help="Also judge what the encoders of this model make of the text."
        ),
    ] = None,
    embedding: options.Embeddings = None,
    lora: options.Loras = None,
    directions: options.Directions = None,
    every: Annotated[bool, typer.Option("--all", help="Every word under every concept.")] = False,
    tokens: Annotated[bool, typer.Option("--tokens", help="Raw tokens of a model, special ones included.")] = False,
    cause: Annotated[
        str, typer.Option(help="Find words' causes under: none, the flagged concepts, or all.")
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
    """Score prompts word by word; nothing is drawn, and no model is loaded unless you name one."""
    from safegen.directions import recipes
    from safegen.errors import UnknownConcept, UsageError
    from safegen.models import placement
    from safegen.prompts.prompt import gather
    from safegen.reader.model import read_facts
    from safegen.reader.sheets import CAUSES

    if cause not in CAUSES:
        raise UsageError(f"--cause {cause!r} is not known", f"One of: {', '.join(CAUSES)}.")
    placement.check({"dtype": dtype, "offload": offload, "quantize": quantize})  # known ones, model or no model
    known = recipes.known(directions)
    names = tuple(dict.fromkeys(concept or known))
    for name in names:
        if name not in known:
            raise UnknownConcept(name, known)
    batch = gather(prompts or [], file)
    for prompt in batch:
        refusal.check(prompt.text)
    from safegen.cli import console, tables
    from safegen.prompts import dialects

    lora = dialects.scaled(lora or (), (called for prompt in batch for called in prompt.loras))
    tables.note_syntax(batch, loras=lora)

    read_alone = set(names) <= set(read_facts()["concepts"]) and safeguard == DEFAULT
    if read_alone and not (model or tokens or embedding or lora):
        from safegen.reader.sheets import score as judged

        def judge(part: Sequence[Prompt]) -> Sequence[ScoreSheet]:
            return judged(part, names, cause)
    else:
        from safegen.generator import Generator

        model = model or EMBEDDED
        generator = Generator.load(
            model,
            concepts=names,
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
            loras=lora,
        )
        tables.note(generator.weightless(batch))

        def judge(part: Sequence[Prompt]) -> Sequence[ScoreSheet]:
            return generator.score([p.own for p in part], cast("Causes", cause))

    flagged = False
    for start in range(0, len(batch), BATCH):
        part = batch[start : start + BATCH]
        for prompt, sheet in zip(part, judge(part), strict=True):
            flagged |= sheet.flagged
            if json:
                console.show_json({**sheet.as_json(prompt.id), "model": model})
            else:
                tables.show_sheet(sheet, every=every, tokens=tokens)
    if flagged and fail_on_flag:
        raise typer.Exit(3)
