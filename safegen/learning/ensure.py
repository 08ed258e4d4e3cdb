"""Directions for every channel that a model's denoiser is given: found, or learned on first use and cached."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safegen.directions import recipes, store
from safegen.directions.direction import Direction
from safegen.directions.recipes import Concept
from safegen.directions.store import find
from safegen.errors import DirectionError
from safegen.progress import SILENT, Progress

if TYPE_CHECKING:
    from safegen.families import Family
    from safegen.learning.effort import Effort
    from safegen.learning.learner import Learner

WIDE = 2048  # states wider than this take long to whiten
FORMER = "168ca158"  # how the fingerprint of the embedded model's former encoder begins


def resolve(
    names: Sequence[str], family: Family, folder: Path | None, progress: Progress = SILENT
) -> dict[str, dict[str, Direction]]:
    """Find or learn, by concept and channel, the directions for every channel that the denoiser is given.

    Raises:
        DirectionError: a file is corrupt or of another revision of the encoder, or a freshly learned
            direction is too poor to use.
    """
    fingerprints = family.fingerprints()
    found = {name: {c: find(name, print_, folder) for c, print_ in fingerprints.items()} for name in names}
    missing = {name: [c for c, d in some.items() if d is None] for name, some in found.items()}
    missing = {name: channels for name, channels in missing.items() if channels}
    for name in missing:
        refuse_strangers(name, family, folder)
    fresh = learn_missing(missing, family, folder, progress) if missing else {}
    return {name: {c: d or fresh[name][c] for c, d in some.items()} for name, some in found.items()}


def effort_here(family: Family) -> Effort:
    """Choose the effort if none is given: thorough on a GPU with states of moderate width, where it takes minutes.

    Elsewhere what is known of the embedded encoder is carried over; for that encoder itself, it is brief.
    """
    from safegen.learning.effort import BRIEF, THOROUGH, TRANSPORTED

    encoders = {id(output.encoder): output.encoder for output in family.outputs}.values()
    streamed = any(weight.is_meta for encoder in encoders for weight in encoder.parameters())  # sequential offloading
    wide = any(output.width > WIDE for output in family.outputs)
    if family.device.type != "cpu" and not streamed and not wide:
        return THOROUGH
    return BRIEF if any(map(store.ships, family.fingerprints().values())) else TRANSPORTED


def effort_for(recipe: Concept, family: Family, folder: Path | None, own_prompts: bool = False) -> Effort:
    """Choose a concept's effort when none is asked for: no less than that of the files that the new ones replace.

    From prompts of one's own nothing can be carried over.
    """
    from safegen.learning.effort import BRIEF, EFFORTS, TRANSPORTED

    here = effort_here(family)
    names = {BRIEF.name if own_prompts and here is TRANSPORTED else here.name}
    if recipe.name in recipes.known(folder):
        for print_ in family.fingerprints().values():
            with contextlib.suppress(DirectionError):  # learning replaces a file that cannot be read
                direction = find(recipe.name, print_, folder)
                names |= {str(direction.info.get("effort"))} if direction else set()
    return max((effort for name, effort in EFFORTS.items() if name in names), key=list(EFFORTS.values()).index)


def learn(
    recipe: Concept,
    effort: Effort,
    learner: Callable[[Effort], Learner],
    progress: Progress,
    asked: bool = False,
    **given: Any,
) -> dict[str, Direction]:
    """Learn a concept's directions; briefly where those that are carried over would be too poor.

    Args:
        recipe: the concept.
        effort: how much to learn from.
        learner: makes the learner of an effort, each once.
        progress: told where the effort changes.
        asked: whether the user asked for this effort, which is then never changed.
        given: what else `Learner.learn` takes.
    """
    from safegen.learning.effort import BRIEF, TRANSPORTED
    from safegen.learning.transported import NotCarried

    if effort is not TRANSPORTED or asked:
        return learner(effort).learn(recipe, **given)
    with contextlib.suppress(NotCarried):
        found = learner(effort).learn(recipe, **given)
        if found and all(map(store.is_ready, found.values())):
            return found
    progress.say(f"{recipe.name} cannot be carried over to this encoder; learning it, {BRIEF.name} effort")
    return learner(BRIEF).learn(recipe, **given)


def learn_missing(
    missing: Mapping[str, Sequence[str]],
    family: Family,
    folder: Path | None,
    progress: Progress = SILENT,
    effort: Effort | None = None,
) -> dict[str, dict[str, Direction]]:
    """Learn directions for the channels that have none, by concept, and keep them in the cache.

    Raises:
        DirectionError: what was learned is too poor to use.
    """
    from safegen.learning.effort import THOROUGH
    from safegen.learning.learner import Learner

    effort = effort or effort_here(family)
    progress.say(f"learning {', '.join(missing)} for this encoder, {effort.name} effort (once; cached)")
    learner = functools.cache(lambda how: Learner(family, how, folder, progress=progress))
    fresh: dict[str, dict[str, Direction]] = {}
    for name, channels in missing.items():
        fresh[name] = learn(Concept.load(name, folder), effort, learner, progress, channels=channels)
        for channel, direction in fresh[name].items():
            progress.say(f"{name}, {channel}, {direction.figures()}")
            store.check_ready(direction, f"the direction learned for {name!r} on {channel}")
            direction.save(store.cache_folder() / name / f"{direction.stem}.safetensors")
    if effort is not THOROUGH:
        command = f"safegen directions learn {' '.join(missing)} --effort thorough"
        progress.say(f"more is found after: {command}, with this --model, --lora and --directions")
    return fresh


def available(
    names: Sequence[str], family: Family, folder: Path | None
) -> tuple[dict[str, dict[str, Direction]], list[str]]:
    """Find the concepts that have a direction for every channel, and the names of the others.

    Raises:
        DirectionError: a file is corrupt or of another revision of the encoder.
    """
    fingerprints = family.fingerprints()
    ready: dict[str, dict[str, Direction]] = {}
    for name in names:
        found = {channel: find(name, print_, folder) for channel, print_ in fingerprints.items()}
        whole = {channel: direction for channel, direction in found.items() if direction is not None}
        if len(whole) == len(found):
            ready[name] = whole
        else:
            refuse_strangers(name, family, folder)
    return ready, [name for name in names if name not in ready]


def refuse_strangers(name: str, family: Family, folder: Path | None) -> None:
    """Refuse a file beside a recipe that was learned for the same kind of encoder with other weights.

    Raises:
        DirectionError: the user's folder holds such a file.
    """
    if folder is None or not (folder / name).is_dir():
        return
    for path in sorted((folder / name).glob("*.safetensors")):
        info = Direction.load(path).info
        for output in family.outputs:
            if info["fingerprint"].startswith(FORMER) and store.ships(output.fingerprint):
                raise DirectionError(
                    f"{path.name} was learned for the former edition of the embedded model, whose encoder was BERT",
                    f"Learn it again: safegen directions learn {name}, with this --directions.",
                )
            same = (info["encoder"], info["output"], info["width"]) == (output.kind, output.layer, output.width)
            if same and info["fingerprint"] != output.fingerprint:
                raise DirectionError(
                    f"{path.name} was learned for another revision of the {output.kind} encoder "
                    f"({info['fingerprint'][:8]}, this one is {output.fingerprint[:8]})",
                    f"Learn it again: safegen directions learn {name}, with this --model, --lora and --directions.",
                )


def current(recipe: Concept, family: Family, folder: Path | None) -> dict[str, Direction] | None:
    """Find, by channel, the directions learned for the family from today's recipe; None where any is missing."""
    if recipe.name not in recipes.known(folder):
        return None  # a recipe given by its path
    found = {channel: find(recipe.name, print_, folder) for channel, print_ in family.fingerprints().items()}
    fresh = {c: d for c, d in found.items() if d is not None and d.info["recipe_sha256"] == recipe.sha256}
    return fresh if len(fresh) == len(found) else None
