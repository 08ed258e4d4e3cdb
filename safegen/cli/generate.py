"""``safegen generate``: score, sanitize, draw, show, save."""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from safegen import records
from safegen.cli.options import (
    Concepts,
    Device,
    Directions,
    Dtype,
    Embeddings,
    Guarded,
    Guidance,
    Images,
    Loras,
    Model,
    Negative,
    Offline,
    Offload,
    Prompts,
    Quantize,
    Record,
    Revision,
    Safeguard,
    Scheduler,
    Seed,
    Size,
    Slicing,
    Steps,
    Strength,
    Tiling,
    Unread,
    Variant,
    path,
)
from safegen.models.catalog import EMBEDDED
from safegen.safeguards import DEFAULT

if TYPE_CHECKING:
    from PIL import Image

    from safegen.generator import Generator, Picture, Settings
    from safegen.guard import OnUnread
    from safegen.prompts.prompt import Prompt
    from safegen.records import Kept


def generate(
    context: typer.Context,
    prompts: Prompts = None,
    images: Images = 1,
    seed: Seed = None,
    steps: Steps = None,
    guidance: Guidance = None,
    size: Size = None,
    negative: Negative = "",
    concept: Concepts = None,
    strength: Strength = 1.0,
    safeguard: Safeguard = DEFAULT,
    guard: Guarded = True,
    unread: Unread = "refuse",
    compare: Annotated[bool, typer.Option("--compare", help="Also save unguarded and guarded side by side.")] = False,
    check: Annotated[
        str, typer.Option(help="image: look at the result, and draw it once more where it shows harm.")
    ] = "none",
    model: Model = EMBEDDED,
    embedding: Embeddings = None,
    lora: Loras = None,
    directions: Directions = None,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", envvar="SAFEGEN_OUT", parser=path, help="Folder for pictures and metadata.jsonl."),
    ] = Path("safegen-out"),
    record: Record = records.DEFAULT,
    json: Annotated[bool, typer.Option("--json", help="Records as JSON lines on stdout.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Show the picture in the terminal.")] = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    revision: Revision = None,
    variant: Variant = None,
    offload: Offload = "none",
    slicing: Slicing = False,
    tiling: Tiling = False,
    quantize: Quantize = None,
    scheduler: Scheduler = None,
    offline: Offline = False,
) -> None:
    """Draw pictures from prompts, with harmful words found and repaired first."""
    from safegen.cli import console, picture_folder, tables
    from safegen.errors import UsageError
    from safegen.prompts import dialects, refusal
    from safegen.prompts.prompt import clean_negative, gather

    batch = gather(_as_meant(prompts or []), None)
    for prompt in batch:
        refusal.check(prompt.text)
    if compare and not guard:
        raise UsageError("--compare needs the guard", "Leave out --no-guard.")
    if check not in ("none", "image"):
        raise UsageError(f"--check {check!r} is not known", "One of: none, image.")
    shape = parse_size(size)
    lora = dialects.scaled(lora or (), (called for prompt in batch for called in prompt.loras))
    tables.note_syntax(batch, clean_negative(negative), lora)
    kept = records.checked(record)
    folder = context.with_resource(picture_folder.opened(out))
    from safegen import image_check
    from safegen.generator import Generator, Settings, check_seeds

    check_seeds(seed, images)
    settings = Settings(seed, steps, guidance, shape, negative)
    generator = Generator.load(
        model,
        concepts=concept or (),
        strength=strength,
        safeguard=safeguard,
        guarded=guard,
        folder=directions,
        unread=cast("OnUnread", unread),
        teller=console,
        device=device,
        dtype=dtype,
        revision=revision,
        variant=variant,
        offload=offload,
        slicing=slicing,
        tiling=tiling,
        quantize=quantize,
        scheduler=scheduler,
        offline=offline,
        embeddings=embedding or (),
        loras=lora,
    )
    if model == EMBEDDED:
        console.say("model: the embedded one, 128x128 emoji scenes; for photographs: --model sd15", "dim")
    detector = image_check.detector_for(generator) if check == "image" else None
    tables.note(generator.notes(settings, batch))
    for prompt in batch:
        with console.stepping(f"{prompt.own[:40]}") as on_step:
            pictures, report = generator.generate(prompt, settings, images=images, on_step=on_step)
            if detector:
                look = functools.partial(image_check.look_again, generator, prompt, settings)
                pictures = [look(picture, detector, on_step) for picture in pictures]
        tables.show_report(report)
        for picture in pictures:
            path, line = folder.add(picture.image, picture.record, kept)
            if json:
                console.show_json(line)
            else:
                console.show_path(path)
            if compare:
                _save_pair(generator, prompt, settings, picture, path, kept)
            if detector:
                tables.show_check(picture.record["check"])
            if preview:
                console.show_preview(picture.image)


def _as_meant(prompts: list[str]) -> list[str]:
    """Ask once whether words without quotes are one prompt; where nobody is there to ask, say how they are taken."""
    from safegen.cli import console

    if len(prompts) < 2 or not all(len(prompt.split()) == 1 and prompt != "-" for prompt in prompts):
        return prompts
    whole = " ".join(prompts)
    if sys.stdin.isatty() and sys.stderr.isatty():
        apart = typer.confirm(f"Draw {len(prompts)} prompts of one word each? No draws one: {whole!r}.", err=True)
        return prompts if apart else [whole]
    console.say(f"{len(prompts)} prompts of one word each; to draw one: safegen generate {whole!r}", "yellow")
    return prompts


def _save_pair(
    generator: Generator, prompt: Prompt, settings: Settings, picture: Picture, path: Path, kept: Kept
) -> None:
    from PIL import Image

    from safegen.cli import console

    plain, _, _ = generator.prepare(prompt)
    unguarded: Image.Image = generator.draw(plain, settings, picture.seed)
    pair = Image.new("RGB", (unguarded.width * 2 + 8, unguarded.height), "white")
    pair.paste(unguarded, (0, 0))
    pair.paste(picture.image, (unguarded.width + 8, 0))
    target = path.with_name(f"{path.stem}-compare.png")
    records.save_picture(pair, target, picture.record, kept)
    console.say(f"compare (unguarded | guarded): {target}")


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Width and height in pixels from WIDTHxHEIGHT or one number.

    Raises:
        UsageError: it is neither, or cannot be drawn.
    """
    from safegen.errors import UsageError
    from safegen.families import sizes

    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text.strip().lower())
    if not match:
        raise UsageError(f"size {text!r} is not WIDTHxHEIGHT", "As in --size 512x768, or --size 512.")
    width, height = int(match[1]), int(match[2] or match[1])
    sizes.check(width, height)
    return width, height
