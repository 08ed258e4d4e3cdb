"""Which direction file belongs to which output of which encoder: found, or learned on first use and cached."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safegen import concepts, directions
from safegen.errors import DirectionError
from safegen.telling import NOBODY, Teller

if TYPE_CHECKING:
    from safegen.concepts import Concept
    from safegen.directions import Direction
    from safegen.families import Family
    from safegen.learning.effort import Effort

POOR = 0.9  # held-out AUC under which a learned direction is not called ready
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
        _refuse_strangers(name, family, folder)
    fresh = learn_missing(missing, family, folder, teller) if missing else {}
    return {name: {c: d or fresh[name][c] for c, d in some.items()} for name, some in found.items()}


def available(
    names: Sequence[str], family: Family, folder: Path | None
) -> tuple[dict[str, dict[str, Direction]], list[str]]:
    """The directions of those concepts that have one for every channel, and the names of the others.

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
            _refuse_strangers(name, family, folder)
    return ready, [name for name in names if name not in ready]


def find(name: str, fingerprint: str, folder: Path | None) -> Direction | None:
    """The concept's direction for this output of an encoder, or None; a corrupt file is an error, not a miss.

    What was learned here for a shipped encoder, from data of one's own, goes before what is shipped, while
    it is of today's recipe.
    """
    every = map(directions.load, concepts.direction_files(name, folder))
    found = [direction for direction in every if direction.info["fingerprint"] == fingerprint]
    if len(found) > 1:
        recipe = concepts.load(name, folder).sha256
        found.sort(key=lambda d: d.info["recipe_sha256"] != recipe)
    return found[0] if found else None


def _refuse_strangers(name: str, family: Family, folder: Path | None) -> None:
    """A file that the user put beside a recipe, for the same kind of encoder but other weights, is a mistake."""
    if folder is None or not (folder / name).is_dir():
        return
    for path in sorted((folder / name).glob("*.safetensors")):
        info = directions.load(path).info
        for reading in family.readings:
            same = (info["encoder"], info["output"], info["width"]) == (reading.kind, reading.output, reading.width)
            if same and info["fingerprint"] != reading.fingerprint:
                raise DirectionError(
                    f"{path.name} was learned for another revision of the {reading.kind} encoder "
                    f"({info['fingerprint'][:8]}, this one is {reading.fingerprint[:8]})",
                    f"Learn it again: safegen directions learn {name}, with this --model, --lora and --directions.",
                )


def current(recipe: Concept, family: Family, folder: Path | None) -> dict[str, Direction] | None:
    """By channel, what was learned for the family from the recipe as it is today; None where any is missing."""
    if recipe.name not in concepts.known(folder):
        return None  # a recipe from elsewhere, by its path
    found = {channel: find(recipe.name, print_, folder) for channel, print_ in family.fingerprints().items()}
    fresh = {c: d for c, d in found.items() if d is not None and d.info["recipe_sha256"] == recipe.sha256}
    return fresh if len(fresh) == len(found) else None


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
    if recipe.name in concepts.known(folder):
        for print_ in family.fingerprints().values():
            with contextlib.suppress(DirectionError):  # what cannot be read is what learning replaces
                direction = find(recipe.name, print_, folder)
                names |= {str(direction.info.get("effort"))} if direction else set()
    return max((effort for name, effort in EFFORTS.items() if name in names), key=list(EFFORTS.values()).index)


def check_ready(direction: Direction, what: str) -> None:
    """Whether the held-out figures are good enough to guard by.

    Raises:
        DirectionError: they are poor, or there are none.
    """
    held_out = direction.info.get("held_out")
    auc = held_out.get("auc") if isinstance(held_out, dict) else None
    if not isinstance(auc, (int, float)) or not auc >= POOR:  # not a number is poor, too
        raise DirectionError(
            f"{what} reaches a held-out AUC of only {auc}; under {POOR} it is not ready",
            "Learn it with safegen directions learn --effort thorough, extend its recipe, or leave the concept out.",
        )


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
    from safegen.learning import contrastive, encoded
    from safegen.learning.effort import THOROUGH

    effort = effort or effort_here(family)
    teller.say(f"learning {', '.join(missing)} for this encoder, {effort.name} effort (once; cached)")
    everyday = encoded.background(family, effort, teller=teller)
    fresh: dict[str, dict[str, Direction]] = {}
    for name, channels in missing.items():
        recipe = concepts.load(name, folder)
        fresh[name] = contrastive.learn(recipe, family, effort, everyday, channels=channels, teller=teller)
        for channel, direction in fresh[name].items():
            teller.say(f"{name}, {channel}, {direction.figures()}")
            check_ready(direction, f"the direction learned for {name!r} on {channel}")
            direction.save(concepts.cache_folder() / name / f"{direction.stem}.safetensors")
    if effort is not THOROUGH:
        command = f"safegen directions learn {' '.join(missing)} --effort thorough"
        teller.say(f"more is found after: {command}, with this --model, --lora and --directions")
    return fresh
