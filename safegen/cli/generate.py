"""``safegen generate``: it scores, sanitizes, draws, shows and saves."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safegen.cli.options import DRAW, GUARD, LOAD, OUT, Images, Out, Prompts, Record, expand_options
from safegen.models.catalog import EMBEDDED
from safegen.models.options import DrawOptions, LoadOptions
from safegen.pictures import metadata
from safegen.safeguards.options import GuardOptions

if TYPE_CHECKING:
    from safegen.generator import Generator
    from safegen.guard.preparation import Prepared
    from safegen.pictures.metadata import Kept
    from safegen.records import Picture


@expand_options()
def generate(
    context: typer.Context,
    prompts: Prompts = None,
    images: Images = 1,
    draw: DrawOptions = DRAW,
    guard: GuardOptions = GUARD,
    compare: Annotated[bool, typer.Option("--compare", help="Also save unguarded and guarded side by side.")] = False,
    check: Annotated[
        str, typer.Option(help="image: look at the result, and draw it once more where it shows harm.")
    ] = "none",
    load: LoadOptions = LOAD,
    out: Out = OUT,
    record: Record = metadata.DEFAULT,
    json: Annotated[bool, typer.Option("--json", help="Records as JSON lines on stdout.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Show the picture in the terminal.")] = False,
) -> None:
    """Draw pictures from prompts, with harmful words found and repaired first."""
    from safegen.cli import console, picture_folder, tables
    from safegen.directions import attributes
    from safegen.errors import UsageError
    from safegen.models import adapters
    from safegen.models.options import check_seeds
    from safegen.prompts.prompt import gather

    batch = gather(_as_meant(prompts or []), None)
    if compare and not guard.guarded:
        raise UsageError("--compare needs the guard", "Leave out --no-guard.")
    if check not in ("none", "image"):
        raise UsageError(f"--check {check!r} is not known", "One of: none, image.")
    called = [lora for prompt in batch for lora in prompt.loras]
    load = replace(load, loras=tuple(adapters.with_called_scales(load.loras, called)))
    tables.note_syntax(batch, draw.negative, load.loras)
    kept = metadata.parse_kept(record)
    folder = context.with_resource(picture_folder.open_picture_folder(out))
    from safegen import image_check
    from safegen.generator import Generator
    from safegen.guard.preparation import unwrap

    check_seeds(draw.seed, images)
    attributes.resolve(draw.fair, guard.folder)
    generator = Generator.load(load, guard, console)
    if load.model == EMBEDDED:
        console.say("model: the embedded one, 128x128 emoji scenes; for photographs: --model sd15", "dim")
    detector = image_check.detector_for(generator) if check == "image" else None
    tables.note(generator.notes(draw, batch))
    if draw.image is not None and draw.image_strength is None and guard.strength != 1:
        console.say("--strength is the guard's; how much of a picture is drawn anew is --image-strength", "yellow")
    for prompt in batch:
        with console.stepping(f"{prompt.own[:40]}") as on_step:
            prepared = unwrap(generator.prepare([prompt])[0])
            pictures, report = generator.pictures(prepared, draw, images, on_step)
            if detector:
                pictures = [
                    image_check.look_again(generator, prompt, draw, picture, detector, on_step) for picture in pictures
                ]
        tables.show_report(report)
        for picture in pictures:
            path, line = folder.add(picture.image, picture.record, kept)
            if json:
                console.show_json(line)
            else:
                console.show_path(path)
            tables.show_latent(picture.record.latent)
            if compare:
                _save_pair(generator, prepared, draw, picture, path, kept)
            if detector:
                tables.show_check(line["check"])
            if preview:
                console.show_preview(picture.image)


def _as_meant(prompts: list[str]) -> list[str]:
    """Ask once whether words without quotes are one prompt.

    If nobody is there to ask, say how they are taken.
    """
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
    generator: Generator, prepared: Prepared, draw: DrawOptions, picture: Picture, path: Path, kept: Kept
) -> None:
    """Save the picture beside one with the same seed that was drawn without the guard."""
    from PIL import Image

    from safegen.cli import console

    plain = generator.pictures(prepared.unguarded, replace(draw, seed=picture.seed))[0][0].image
    pair = Image.new("RGB", (plain.width * 2 + 8, plain.height), "white")
    pair.paste(plain, (0, 0))
    pair.paste(picture.image, (plain.width + 8, 0))
    target = path.with_name(f"{path.stem}-compare.png")
    told = {"compare": "drawn without the guard, on the left, and with it", "size": list(pair.size)}
    metadata.save_picture(pair, target, {**picture.record.as_json(), **told}, kept)
    console.say(f"compare (unguarded | guarded): {target}")
