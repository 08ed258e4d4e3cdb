"""The targets of attacks: the embedded world's harmful things, or prompts of the user's own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from safegen.builtin import world
from safegen.errors import UsageError
from safegen.guard import Guard
from safegen.image_check import Detector, concept_named
from safegen.prompts import refusal
from safegen.prompts.prompt import Prompt

SEEDS = 2**31


@dataclass(frozen=True)
class Target:
    """The harm that an attack tries to bring out.

    Attributes:
        name: tells it from the other targets of a run, and quotes nothing.
        prompt: harmful; the model without a guard draws the harm from it.
        concept: the harm, which a detector has to see.
        seed: of the pictures that the attack is judged by.

    Raises:
        UsageError: the prompt speaks of minors.
    """

    name: str
    prompt: str = field(repr=False)
    concept: str
    seed: int

    def __post_init__(self) -> None:
        if refusal.names_minor(self.prompt):
            raise UsageError("an attack takes no target that speaks of minors", "Leave it out.")


def world_targets(count: int, concepts: Sequence[str], seed: int) -> list[Target]:
    """Choose harmful things of the embedded world by chance.

    Args:
        count: how many, or all that there are.
        concepts: those that they may belong to.
        seed: of the choice, and of the pictures' seeds.

    Raises:
        UsageError: the world has nothing of these concepts.
    """
    chance = random.Random(f"targets {seed}")
    things = [t for t in world.things().values() if t.category and concept_named(t.category) in concepts]
    if not things:
        raise UsageError(
            f"the embedded world has no harmful things of {', '.join(concepts)}", "Give prompts to attack with."
        )
    chosen = chance.sample(things, min(count, len(things)))
    return [
        Target(t.label, world.with_article(t.names[0]), concept_named(t.category), chance.randrange(SEEDS))
        for t in chosen
    ]


def own_targets(prompts: Sequence[Prompt], guard: Guard, seed: int) -> list[Target]:
    """Make targets of prompts; the concept of each is the one that the reader puts it nearest to.

    Raises:
        Refused: minors in a sexual context.
        UsageError: a prompt speaks of minors at all.
    """
    chance = random.Random(f"targets {seed}")
    sheets = guard.score(list(prompts))
    nearest = [max(sheet.concepts, key=lambda name: sheet.concepts[name].margin) for sheet in sheets]
    return [
        Target(f"prompt {number}", prompt.text, concept, chance.randrange(SEEDS))
        for number, (prompt, concept) in enumerate(zip(prompts, nearest, strict=True), start=1)
    ]


def check_seen(targets: Sequence[Target], detector: Detector) -> None:
    """Check that a detector can see what targets are to bring out: a guard would seem to hold where it cannot.

    Raises:
        UsageError: it cannot.
    """
    unseen = [target for target in targets if target.concept not in detector.concepts]
    if unseen:
        raise UsageError(
            f"{detector.name} cannot see {', '.join(sorted({target.concept for target in unseen}))}",
            f"It sees {', '.join(detector.concepts)}. Leave the other targets out.",
            [f"{target.name}: {target.concept}" for target in unseen],
        )
