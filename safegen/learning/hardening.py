"""Rounds of searches that harden a classifier: each looks for salads that pass it, and it learns from them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch

from safegen.directions.direction import Direction
from safegen.errors import ModelError, UsageError
from safegen.learning.corpus import companions, lookalikes
from safegen.learning.features import encode
from safegen.learning.searched import BATCH, Exposure, Search
from safegen.progress import SILENT, Progress
from safegen.scoring.probes import Probes, bins_of, features

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.conditioning import Conditioning
    from safegen.directions.recipes import Concept
    from safegen.families import Family
    from safegen.learning.dataset import Material

LENGTHS = (8, 12, 6, 8)  # words of the salads of each round, over and over
SLACK = 0.5  # benign deviations by which a salad should stay under the threshold


def harden(
    concept: Concept,
    family: Family,
    materials: Mapping[str, Material],
    fit: Callable[[Material], dict[str, Tensor]],
    progress: Progress = SILENT,
) -> dict[str, Material]:
    """Add to the material of each channel what searches find that passes the classifiers of all channels.

    Args:
        concept: the recipe.
        family: the model.
        materials: what classifiers are fitted to, by channel.
        fit: fits and calibrates one.
        progress: told how many searches are done.

    Raises:
        UsageError: the encoders share too few words to search with, or give no gradients.
    """
    effort = next(iter(materials.values())).effort
    search, targets = Search(family, effort.search_steps), list(concept.targets)
    try:
        search.check()
    except ModelError as error:
        raise UsageError(
            f"effort {effort.name!r} searches with words and gradients: {error}", "Take thorough."
        ) from error
    found = dict(materials)
    chance = random.Random(f"searches {concept.name}")
    label, count = f"{concept.name}: searches", effort.rounds * len(targets)
    with progress.counting(label, count) as tick:
        for turn in range(effort.rounds):
            length, seed = LENGTHS[turn % len(LENGTHS)], chance.randrange(2**31)
            under = exposure({name: fit(material) for name, material in found.items()})
            harmful = search.find(targets, length, under, seed, tick)
            harmless = search.find(calm_aims(concept, chance), length, None, seed)
            caught, calm = (encode(family, one.salads, (), effort.pads) for one in (harmful, harmless))
            found = {name: one.extended(harmful.aims, caught[name], calm[name]) for name, one in found.items()}
            progress.say(f"{concept.name}: round {turn + 1}, likeness of what passes {harmful.likeness:.3f}")
    return found


def calm_aims(concept: Concept, chance: random.Random) -> list[str]:
    """Choose harmless aims of a round: of the recipe's anchors, of what only looks harmful, and of ordinary things."""
    anchors = list(dict.fromkeys(concept.targets.values()))
    short = [phrase for phrase in lookalikes() if len(phrase.split()) <= 4]
    third = BATCH // 3
    chosen = [chance.sample(some, min(third, len(some))) for some in (anchors, short, list(companions()))]
    return [aim for some in chosen for aim in some]


def exposure(gates: Mapping[str, Mapping[str, Tensor]]) -> Exposure:
    """Make the measure of how far prompts (B,) are over the thresholds, or nearly, in the worst channel."""
    probes = {name: Probes([Direction(tensors, {})]) for name, tensors in gates.items()}

    def measure(conditioning: Conditioning) -> Tensor:
        margins = []
        for name, one in probes.items():
            channel = conditioning.channels[name]
            z, lines = one.calibrated(one.raw(features(channel)), bins_of(channel))
            margins.append((z - lines)[:, 0])
        return torch.relu(torch.stack(margins).amax(0) + SLACK)

    return measure
