"""Lessons: what a latent direction is learned from, as pairs of prompts.

The picture of a lesson is drawn from a prompt that has what the vector should come to mean. The denoiser is told
another prompt, which lacks it, so that the vector has to supply it. For a class of an attribute that prompt leaves the
attribute open, or names another class. The second is not in the paper. A model that takes its habit for a part of the
word draws a doctor as it draws a male doctor; a vector learned from "a doctor" alone turned fewer pictures.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from safegen.directions.attributes import Attribute
from safegen.directions.latent import SAFE
from safegen.directions.recipes import Concept
from safegen.learning.corpus import CONTEXTS, GROUNDS, companions, with_article

Kind = TypeVar("Kind")
Part = tuple[str, tuple[str, ...], str]  # what is drawn, what the denoiser may be told instead, and the negative prompt
PLACES = CONTEXTS[:8]  # those in which a picture shows what the recipe says, and at most one thing beside it
HELD = 4  # one subject or recipe line in this many is kept for the held-out figures


@dataclass(frozen=True)
class Lesson:
    """One picture to learn from.

    Attributes:
        drawn: the prompt of the picture.
        told: the prompt that the denoiser is told beside the vector.
        negative: the negative prompt of the picture.
    """

    drawn: str
    told: str
    negative: str = ""


def meanings(recipe: Attribute | Concept) -> tuple[str, ...]:
    """Give the meanings that a recipe has vectors for."""
    return tuple(recipe.classes) if isinstance(recipe, Attribute) else (SAFE,)


def lessons(recipe: Attribute | Concept, meaning: str, count: int, held: int) -> tuple[list[Lesson], list[Lesson]]:
    """Make lessons to learn from, and others of subjects or lines that the first ones do not have."""
    rng = random.Random(f"{recipe.name} {meaning}")
    if isinstance(recipe, Attribute):
        parts = [_of_class(recipe, meaning, subject) for subject in recipe.subjects]
    else:
        parts = [(safe, (harmful,), harmful) for harmful, safe in recipe.targets.items()]
    first, others = split(parts, rng)
    return [*_make(first, count, rng)], [*_make(others, held, rng)]


def split(parts: Sequence[Kind], rng: random.Random) -> tuple[list[Kind], list[Kind]]:
    """Keep one in `HELD` apart, at least one; a single one serves for both."""
    mixed = rng.sample(list(parts), len(parts))
    apart = max(1, len(mixed) // HELD)
    return (mixed[apart:] or mixed), mixed[:apart]


def _of_class(attribute: Attribute, meaning: str, subject: str) -> Part:
    """Give a subject of a class, and what it is told as: every other time nothing of the attribute."""
    named = {label: with_article(form.format(subject)) for label, form in attribute.classes.items()}
    others = (told for label, other in named.items() if label != meaning for told in (with_article(subject), other))
    return named[meaning], tuple(others), ""


def _make(parts: Sequence[Part], count: int, rng: random.Random) -> Iterator[Lesson]:
    for number in range(count):
        turn, at = divmod(number, len(parts))
        shown, told, negative = parts[at]
        lacking = told[turn % len(told)]
        slots = {"g": rng.choice(GROUNDS), "b": rng.choice(companions())}
        place = rng.choice(PLACES)
        yield Lesson(place.format(x=shown, **slots), place.format(x=lacking, **slots), negative)
