"""``safegen directions``: learn, list, info, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from safegen.cli.options import Device, Directions, Dtype, Model, Offline, Revision, Variant
from safegen.models import EMBEDDED

app = typer.Typer(no_args_is_help=True, help="Recipes of concepts and the direction files learned from them.")
Json = Annotated[bool, typer.Option("--json", help="JSON lines.")]


@app.command()
def learn(
    concept: Annotated[list[str], typer.Argument(help="Names of concepts, or paths of recipes.")],
    model: Model = EMBEDDED,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write CONCEPT/ENCODER.safetensors to.")
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="CSV of unsafe_prompt, safe_prompt, category to learn from as well; 7 rows in 10 are used."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="What to learn: contrastive, which every direction needs; beside it es, region or half-spaces."
        ),
    ] = "contrastive",
    directions: Directions = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    revision: Revision = None,
    variant: Variant = None,
    offline: Offline = False,
) -> None:
    """Turn recipes into direction files for the loaded encoder: minutes the first time, then about one each."""
    from safegen import concepts, console, files, library, models, promptsets
    from safegen.errors import UsageError
    from safegen.families import family_of
    from safegen.learning import METHODS, contrastive, encoded, region, sanitizer

    if method not in METHODS:
        raise UsageError(f"unknown method {method!r}", f"Known: {', '.join(METHODS)}.")
    recipes = [concepts.load(name, directions) for name in concept]
    targets = [out or concepts.learned_folder(name, directions) for name in concept]
    for target in targets:
        files.check_writable(target)
    entries = promptsets.read(pairs) if pairs else []
    pipe = models.load(model, device=device, dtype=dtype, revision=revision, variant=variant, offline=offline)
    family = family_of(pipe)
    for recipe, target in zip(recipes, targets, strict=True):
        learned = None
        if method != "contrastive":
            learned = library.current(recipe, family, directions)
        if learned is None:
            with console.counting("benign prompts encoded") as tick:
                everyday = encoded.background(family, tick)
            learned = contrastive.learn(recipe, family, everyday, entries, pairs.name if pairs else "")
        with console.counting(f"{recipe.name}: steps") as tick:
            if method == "es":
                learned = sanitizer.learn(recipe, family, learned, tick)
            elif method in ("region", "half-spaces"):
                learned = region.learn(recipe, family, learned, tick, denoiser=method == "region")
        for channel, direction in learned.items():
            path = target / recipe.name / f"{direction.stem}.safetensors"
            direction.save(path)
            figures = ", ".join(f"{name} {value:.4g}" for name, value in direction.info[METHODS[method]].items())
            console.say(f"{recipe.name if len(learned) == 1 else f'{recipe.name}, {channel}'}, held out: {figures}")
            console.show_path(path)


@app.command("list")
def list_(directions: Directions = None, json: Json = False) -> None:
    """Concepts with a recipe, and the encoders that have a direction file."""
    from safegen import concepts, console

    rows = []
    for name, folder in concepts.known(directions).items():
        recipe = concepts.load(name, directions)
        files = sorted(p.stem for p in folder.glob("*.safetensors"))
        rows.append((name, recipe.title, str(len(recipe.targets)), ", ".join(files) or "none yet"))
        if json:
            console.show_json(
                {
                    "schema": "safegen.concept/1",
                    "name": name,
                    "title": recipe.title,
                    "targets": len(recipe.targets),
                    "encoders": files,
                }
            )
    if not json:
        console.show_table("concepts", ("name", "title", "targets", "encoders"), rows)


@app.command()
def info(
    concept: Annotated[str, typer.Argument(help="Name of a concept, or path of a direction file.")],
    directions: Directions = None,
    json: Json = False,
) -> None:
    """What a concept's direction files hold: method, calibration, held-out figures, sources."""
    from safegen import concepts, console
    from safegen import directions as files
    from safegen.errors import DirectionError, UnknownConcept

    known = concepts.known(directions)
    if concept not in known and not concept.endswith(".safetensors"):
        raise UnknownConcept(concept, known)
    paths = [Path(concept)] if concept.endswith(".safetensors") else concepts.direction_files(concept, directions)
    if not paths:
        raise DirectionError(f"{concept!r} has no direction file yet", f"safegen directions learn {concept}")
    for path in paths:
        direction = files.load(path)
        if json:
            console.show_json({"schema": files.SCHEMA, **direction.info, "sha256": direction.sha256})
            continue
        rows = [(key, str(value)) for key, value in sorted(direction.info.items())]
        rows += [(name, "x".join(map(str, tensor.shape))) for name, tensor in sorted(direction.tensors.items())]
        console.show_table(f"{direction.concept} ({path.name})", ("field", "value"), rows)


@app.command()
def verify(
    concept: Annotated[Optional[list[str]], typer.Argument(help="Names of concepts; all by default.")] = None,  # noqa: UP045
    model: Model = EMBEDDED,
    directions: Directions = None,
    offline: Offline = False,
) -> None:
    """Check that every file is sound, for this encoder, and of today's recipe."""
    from safegen import concepts, console, library, models
    from safegen.errors import DirectionError
    from safegen.families import family_of

    recipes = [concepts.load(name, directions) for name in concept or concepts.known(directions)]
    fingerprints = family_of(models.load(model, offline=offline)).fingerprints()
    rows = []
    for recipe in recipes:
        for channel, fingerprint in fingerprints.items():
            try:
                direction = library.find(recipe.name, fingerprint, directions)
                stale = direction is not None and direction.info["recipe_sha256"] != recipe.sha256
                verdict = (
                    "none for this encoder yet" if direction is None else "older than its recipe" if stale else "sound"
                )
            except DirectionError as error:
                verdict = str(error)
            rows.append((recipe.name, channel, verdict))
    console.show_table("directions", ("concept", "channel", "verdict"), rows)
    if any(verdict != "sound" for *_, verdict in rows):
        raise DirectionError("not every direction file is sound", "Learn those again: safegen directions learn CONCEPT")
