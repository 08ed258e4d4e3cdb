"""Notes for the user before a picture is drawn: what the model does not read, what was assumed or is out of range."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from safegen.prompts import emphasis

if TYPE_CHECKING:
    from safegen.families import Family
    from safegen.models.defaults import Defaults
    from safegen.models.options import DrawOptions
    from safegen.prompts.prompt import Prompt

FAR = 2  # times the side of the pictures that a model has learned
DISTILLED = re.compile(r"turbo|lightning|hyper|lcm|schnell|dmd|flash|distil|\bfew.?step", re.IGNORECASE)


def before_drawing(
    family: Family, model: str, wanted: Defaults, options: DrawOptions, prompts: Iterable[Prompt]
) -> list[str]:
    """Say in one line each what concerns these options and prompts.

    Args:
        family: the family object around the pipeline.
        model: the name by which it was loaded.
        wanted: its steps and guidance where the options have none.
        options: how pictures are drawn.
        prompts: what is drawn.
    """
    lines = weightless(family, prompts, options.negative)
    if wanted.assumed and (options.steps is None or options.guidance is None):
        lines.append(assumed(model, wanted))
    side, (width, height) = family.size, options.size or (0, 0)
    if max(width, height) > FAR * side:
        lines.append(
            f"{width}x{height} is far beyond the {side}x{side} that this model has learned: "
            f"things repeat or fall apart; up to {FAR * side} pixels a side are sound"
        )
    return lines


def weightless(family: Family, prompts: Iterable[Prompt], negative: str) -> list[str]:
    """Say in one line that a model knows no weights, where a prompt asks for some."""
    if family.weighted:
        return []
    if not any(prompt.weights for prompt in prompts) and not emphasis.parse(negative).weights:
        return []
    return [f"a {type(family.pipe).__name__} knows no weights: the marks in the prompt are text to it"]


def assumed(model: str, wanted: Defaults) -> str:
    """Say in one line what was assumed of a model."""
    text = f"nothing in {Path(model).name} says how it wants to be drawn: {wanted.steps} steps and guidance "
    text += f"{wanted.guidance:g}, as its family does; --steps and --guidance say otherwise"
    if DISTILLED.search(model):
        text += ". Its name says it is distilled: such models want 1 to 8 steps, guidance 0 to 2, and their --scheduler"
    return text
