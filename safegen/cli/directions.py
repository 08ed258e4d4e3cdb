"""``safegen directions``: learn, list, info, verify; for sharing and cleaning see `directions_files`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Optional

import typer

from safegen.cli import directions_edits, directions_files, directions_latent
from safegen.cli.options import ENCODING, LOAD, Directions, expand_options
from safegen.cli.paths import path, text
from safegen.directions.recipes import Concept
from safegen.learning import EDITS, METHODS
from safegen.models.options import LoadOptions

app = typer.Typer(no_args_is_help=True, help="Recipes of concepts and the direction files learned from them.")
app.command("export")(directions_files.export)
app.command("import")(directions_files.import_)
app.command("clean")(directions_files.clean)
PARTS = ("model", *ENCODING)
Json = Annotated[bool, typer.Option("--json", help="JSON lines.")]


@app.command()
@expand_options(load=PARTS)
def learn(
    concept: Annotated[list[str], typer.Argument(parser=text, help="Names of concepts, or paths of recipes.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", parser=path, help="Folder to write CONCEPT/ENCODER.safetensors to.")
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            help="CSV of unsafe_prompt, safe_prompt, category to learn from as well; 7 rows in 10 are used.",
        ),
    ] = None,
    benign: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            help="CSV of prompts that must not be flagged, to learn and calibrate with; 7 rows in 10 are used.",
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help=f"What to learn: {', '.join(METHODS)}; every direction needs the first. Or "
            f"{directions_latent.METHOD}: vectors in the denoiser, of concepts and of attributes such as gender. "
            f"Or {' or '.join(EDITS)}: edits of the denoiser's weights, of concepts."
        ),
    ] = "contrastive",
    effort: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="How much to learn from: analytic, seconds each; brief, a minute for all; transported, seconds for "
            "all, from what is known of the embedded encoder; thorough, minutes each, as what is shipped. By default "
            "transported (brief for the embedded encoder itself, from prompts of your own, and where too little is "
            "found); on a GPU thorough unless the encoder is very wide; never less than the file it replaces."
        ),
    ] = None,
    directions: Directions = None,
    load: LoadOptions = LOAD,
) -> None:
    """Turn recipes into direction files for the loaded encoder."""
    from safegen import files
    from safegen.cli import console
    from safegen.directions import store
    from safegen.errors import UsageError
    from safegen.families import family_of
    from safegen.learning import ensure
    from safegen.learning.direction import beside
    from safegen.learning.effort import EFFORTS
    from safegen.learning.learner import Learner
    from safegen.models import loading
    from safegen.prompts import datasets

    if method not in (*METHODS, *EDITS, directions_latent.METHOD):
        known = ", ".join((*METHODS, *EDITS, directions_latent.METHOD))
        raise UsageError(f"unknown method {method!r}", f"Known: {known}.")
    if method not in METHODS and (pairs or benign or effort):
        raise UsageError(f"--pairs, --benign and --effort are not for --method {method}", "Leave them out.")
    if method == directions_latent.METHOD:
        directions_latent.learn(concept, out, directions, load)
        return
    directions_latent.refuse_attributes(concept, directions)
    if method in EDITS:
        directions_edits.learn(method, concept, out, directions, load)
        return
    if effort is not None and effort not in EFFORTS:
        raise UsageError(f"unknown effort {effort!r}", f"Known: {', '.join(EFFORTS)}.")
    concepts = [Concept.load(name, directions) for name in concept]
    targets = [out or store.learned_folder(name, directions) for name in concept]
    for target in targets:
        files.check_writable(target)
    entries = datasets.training_pairs(pairs, concepts, console.say) if pairs else []
    calm = datasets.training_prompts(benign, console.say) if benign else []
    family = family_of(loading.load(load))
    learner = functools.cache(lambda how: Learner(family, how, directions, calm, console))
    for recipe, target in zip(concepts, targets, strict=True):
        learned = None
        if method != "contrastive" and not (entries or calm):
            learned = ensure.current(recipe, family, directions)
        if learned is None:
            chosen = EFFORTS[effort] if effort else ensure.effort_for(recipe, family, directions, bool(entries or calm))
            console.say(f"{recipe.name}: learning, {chosen.name} effort")
            sources = {"pairs": pairs.name if pairs else "", "benign": benign.name if benign else ""}
            given = {"pairs": entries, "sources": sources}
            learned = ensure.learn(recipe, chosen, learner, console, asked=bool(effort), **given)
        learned = beside(method, recipe, family, learned, console)
        for channel, direction in learned.items():
            what = recipe.name if len(learned) == 1 else f"{recipe.name}, {channel}"
            console.say(f"{what}, {direction.figures(METHODS[method])}")
            store.check_ready(direction, what)
        for direction in learned.values():
            file = target / recipe.name / f"{direction.stem}.safetensors"
            direction.save(file)
            console.show_path(file)


@app.command("list")
def list_(directions: Directions = None, json: Json = False) -> None:
    """List concepts with a recipe, the encoders that have a direction file, and what the cache holds."""
    from safegen.cli import console
    from safegen.directions import cache, recipes, store

    rows = []
    for name in recipes.known(directions):
        recipe = Concept.load(name, directions)
        files = sorted({p.stem for p in store.direction_files(name, directions)})
        rows.append((name, recipe.title, str(len(recipe.targets)), ", ".join(files) or "none yet"))
        if json:
            facts = {"title": recipe.title, "targets": len(recipe.targets), "encoders": files}
            console.show_json({"schema": "safegen.concept/1", "name": name, **facts})
    vectors = list(directions_latent.listed(directions))
    if json:
        for name, meaning, denoisers in vectors:
            facts = {"meaning": meaning, "denoisers": denoisers}
            console.show_json({"schema": "safegen.latents/1", "name": name, **facts})
    edited = directions_edits.listed(directions)
    if json:
        for name, stems in edited:
            console.show_json({"schema": "safegen.edits/1", "name": name, "files": stems.split(", ")})
    kept = cache.kept()
    if json:
        for file in kept:
            facts = {"kind": file.kind, "path": str(file.path), "bytes": file.size}
            console.show_json({"schema": "safegen.cached/1", "name": file.name, **facts})
        return
    console.show_table("concepts", ("name", "title", "targets", "encoders"), rows)
    shown = [(name, meaning, ", ".join(denoisers) or "none yet") for name, meaning, denoisers in vectors]
    console.show_table("latent directions", ("name", "meaning", "denoisers"), shown)
    console.show_table("weight edits", ("concept", "files"), edited)
    if kept:
        title = f"cache: {store.cache_folder().parent}, {console.megabytes(sum(file.size for file in kept))}"
        cached = [(file.name, file.kind, console.megabytes(file.size)) for file in kept]
        console.show_table(title, ("file", "kind", "size"), cached)


@app.command()
def info(
    concept: Annotated[str, typer.Argument(parser=text, help="Name of a concept, or path of a direction file.")],
    directions: Directions = None,
    json: Json = False,
) -> None:
    """Show what a concept's or an attribute's files hold: method, calibration, held-out figures, sources.

    With --json, each file is one line.
    """
    from safegen.cli import console
    from safegen.directions import kinds
    from safegen.directions.direction import schema_of
    from safegen.errors import DirectionError, UnknownConcept

    if concept.endswith(".safetensors"):
        paths = [Path(concept)]
    elif concept in (known := kinds.owners(directions)):
        paths = [path for kind in kinds.KINDS.values() for path in kind.files(concept, directions)]
    else:
        raise UnknownConcept(concept, known)
    if not paths:
        how = "" if kinds.is_concept(concept, directions) else f" --method {directions_latent.METHOD}"
        raise DirectionError(f"{concept!r} has no direction file yet", f"safegen directions learn {concept}{how}")
    for file in paths:
        schema, found = schema_of(file), kinds.kind_of(file).load(file)
        if json:
            console.show_json({"schema": schema, **found.info, "sha256": found.sha256})
            continue
        rows = [(key, str(value)) for key, value in sorted(found.info.items())]
        rows += [(name, "x".join(map(str, tensor.shape))) for name, tensor in sorted(found.tensors.items())]
        console.show_table(f"{found.concept} ({file.name})", ("field", "value"), rows)


@app.command()
@expand_options(load=("model", "loras", "device", "dtype", "revision", "variant", "offline"))
def verify(
    concept: Annotated[Optional[list[str]], typer.Argument(help="Names of concepts; all by default.")] = None,  # noqa: UP045
    directions: Directions = None,
    load: LoadOptions = LOAD,
) -> None:
    """Check that every file is sound, for this model, and of today's recipe.

    Every concept needs a direction for every channel of text; latent directions and weight edits are checked where
    there are any.
    """
    from safegen.cli import console
    from safegen.directions import kinds, store
    from safegen.errors import DirectionError
    from safegen.families import family_of
    from safegen.models import loading

    found = {name: kinds.recipe_of(name, directions) for name in concept or kinds.owners(directions)}
    family = family_of(loading.load(load))
    fingerprints = family.fingerprints()
    rows = []
    for recipe in (recipe for recipe in found.values() if isinstance(recipe, Concept)):
        for channel, fingerprint in fingerprints.items():
            try:
                direction = store.find(recipe.name, fingerprint, directions)
                stale = direction is not None and direction.info["recipe_sha256"] != recipe.sha256
                verdict = (
                    "none for this encoder yet" if direction is None else "older than its recipe" if stale else "sound"
                )
            except DirectionError as error:
                verdict = str(error)
            rows.append((recipe.name, channel, verdict))
    rows += directions_latent.verdicts(family, found, directions)
    console.show_table("directions", ("concept", "channel", "verdict"), rows)
    if any(verdict != "sound" for *_, verdict in rows):
        raise DirectionError("not every direction file is sound", "Learn those again: safegen directions learn CONCEPT")
