"""``safegen score``: it tells which word is harmful, under which concept, and how far from the line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional, cast, get_args

import typer

from safegen.cli import options
from safegen.cli.options import ENCODING, GUARD, LOAD, Prompts, expand_options
from safegen.models.options import LoadOptions
from safegen.safeguards import DEFAULT
from safegen.safeguards.options import GuardOptions

if TYPE_CHECKING:
    from safegen.prompts.prompt import Prompt
    from safegen.scoring.scores import ScoreSheet

BATCH = 256
PARTS = ("embeddings", *ENCODING)


@expand_options(guard=("concepts", "folder", "safeguard"), load=PARTS)
def score(
    prompts: Prompts = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", parser=options.path, help="One prompt a line; # comments.")
    ] = None,
    guard: GuardOptions = GUARD,
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--model", "-m", parser=options.text, help="Also judge what the encoders of this model make of the text."
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every word under every concept.")] = False,
    tokens: Annotated[bool, typer.Option("--tokens", help="Raw tokens of a model, special ones included.")] = False,
    cause: Annotated[
        str, typer.Option(help="Find words' causes under: none, the flagged concepts, or all.")
    ] = "flagged",
    json: Annotated[bool, typer.Option("--json", help="One JSON line a prompt.")] = False,
    fail_on_flag: Annotated[
        bool, typer.Option("--fail-on-flag", help="Exit with 3 when a prompt is flagged, or cannot be judged.")
    ] = False,
    load: LoadOptions = LOAD,
) -> None:
    """Score prompts word by word; nothing is drawn, and no image model is loaded unless you ask for one."""
    from safegen.cli import console, tables
    from safegen.errors import UsageError
    from safegen.guard import Guard
    from safegen.models import adapters, placement, quantizing
    from safegen.prompts.prompt import gather
    from safegen.reader.model import read_facts
    from safegen.scoring.text import Causes

    if cause not in get_args(Causes):
        raise UsageError(f"--cause {cause!r} is not known", f"One of: {', '.join(get_args(Causes))}.")
    causes = cast("Causes", cause)
    placement.check(load)  # known options, model or no model
    quantizing.check(load)
    guard_alone = Guard(options=replace(guard, safeguard=DEFAULT))
    batch = gather(prompts or [], file)
    called = [lora for prompt in batch for lora in prompt.loras]
    load = replace(load, loras=tuple(adapters.with_called_scales(load.loras, called)))
    tables.note_syntax(batch, loras=load.loras)

    read_alone = set(guard_alone.names) <= set(read_facts()["concepts"]) and guard.safeguard == DEFAULT
    if read_alone and not (model or tokens or load.embeddings or load.loras):

        def judge(part: Sequence[Prompt]) -> Sequence[ScoreSheet]:
            return guard_alone.score(part, causes)
    else:
        from safegen.generator import Generator

        load = replace(load, model=model or load.model)
        model = load.model
        generator = Generator.load(load, guard, console)
        tables.note(generator.weightless(batch))

        def judge(part: Sequence[Prompt]) -> Sequence[ScoreSheet]:
            return generator.score([p.own for p in part], causes)

    flagged = False
    for start in range(0, len(batch), BATCH):
        part = batch[start : start + BATCH]
        for prompt, sheet in zip(part, judge(part), strict=True):
            flagged |= sheet.flagged or not sheet.judged
            if json:
                console.show_json({**sheet.as_json(prompt.id, tokens), "model": model})
            else:
                tables.show_sheet(sheet, every=every, tokens=tokens)
    if flagged and fail_on_flag:
        raise typer.Exit(3)
