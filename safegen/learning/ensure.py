"""Directions for everything that a model's denoiser is told: found, or learned on first use and cached."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safegen.directions import recipes, store
from safegen.directions.recipes import Concept
from safegen.directions.store import find
from safegen.errors import DirectionError
from safegen.progress import NOBODY, Teller

if TYPE_CHECKING:
    from safegen.directions.direction import Direction
    from safegen.directions.recipes import Concept
    from safegen.families import Family
    from safegen.learning.effort import Effort


WIDE = 2048  # states wider than this take long to whiten


def resolve(
    names: Sequence[str], family: Family, folder: Path | None, teller: Teller = NOBODY
) -> dict[str, dict[str, Direction]]:
    """By concept and channel, the directions for everything that the family's denoiser is told.

    Raises:
        DirectionError: a file is corrupt or of another revision of the encoder, or a freshly learned
            direction is too poor to use.
    """
    fingerprints = family.fingerprints()
    found = {name: {c: find(name, print_, folder) for c, print_ in fingerprints.items()} for name in names}
    missing = {name: [c for c, d in some.items() if d is None] for name, some in found.items()}
    missing = {name: channels for name, channels in missing.items() if channels}
    for name in missing:
        store.refuse_strangers(name, family, folder)
    fresh = learn_missing(missing, family, folder, teller) if missing else {}
    return {name: {c: d or fresh[name][c] for c, d in some.items()} for name, some in found.items()}


def effort_here(family: Family) -> Effort:
    """What is learned with unasked: thorough where that takes minutes, on a GPU and from states of moderate width."""
    from safegen.learning.effort import BRIEF, THOROUGH

    encoders = {id(reading.encoder): reading.encoder for reading in family.readings}.values()
    streamed = any(weight.is_meta for encoder in encoders for weight in encoder.parameters())  # sequential offloading
    wide = any(reading.width > WIDE for reading in family.readings)
    return BRIEF if family.device.type == "cpu" or streamed or wide else THOROUGH


def effort_for(recipe: Concept, family: Family, folder: Path | None) -> Effort:
    """What a concept is learned with unasked: no less than went into the files that the new ones go before."""
    from safegen.learning.effort import EFFORTS

    names = {effort_here(family).name}
    if recipe.name in recipes.known(folder):
        for print_ in family.fingerprints().values():
            with contextlib.suppress(DirectionError):  # what cannot be read is what learning replaces
                direction = find(recipe.name, print_, folder)
                names |= {str(direction.info.get("effort"))} if direction else set()
    return max((effort for name, effort in EFFORTS.items() if name in names), key=list(EFFORTS.values()).index)


def learn_missing(
    missing: Mapping[str, Sequence[str]],
    family: Family,
    folder: Path | None,
    teller: Teller = NOBODY,
    effort: Effort | None = None,
) -> dict[str, dict[str, Direction]]:
    """Learn directions for the channels that have none yet, by concept, and keep them in the cache.

    Raises:
        DirectionError: what was learned is too poor to use.
    """
    from safegen.learning import contrastive, features
    from safegen.learning.effort import THOROUGH

    effort = effort or effort_here(family)
    teller.say(f"learning {', '.join(missing)} for this encoder, {effort.name} effort (once; cached)")
    everyday = features.background(family, effort, teller=teller)
    fresh: dict[str, dict[str, Direction]] = {}
    for name, channels in missing.items():
        recipe = Concept.load(name, folder)
        fresh[name] = contrastive.learn(recipe, family, effort, everyday, channels=channels, teller=teller)
        for channel, direction in fresh[name].items():
            teller.say(f"{name}, {channel}, {direction.figures()}")
            store.check_ready(direction, f"the direction learned for {name!r} on {channel}")
            direction.save(store.cache_folder() / name / f"{direction.stem}.safetensors")
    if effort is not THOROUGH:
        command = f"safegen directions learn {' '.join(missing)} --effort thorough"
        teller.say(f"more is found after: {command}, with this --model, --lora and --directions")
    return fresh
