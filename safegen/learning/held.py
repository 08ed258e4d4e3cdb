"""What is kept out of a fit, for the figures: lines of the recipe, or sentences around the lines of a short one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LINES, SENTENCES = "recipe lines", "sentences"


def kind(groups: Sequence[int] | Tensor, every: int) -> str:
    """Say what `held_out` keeps out."""
    return LINES if int(max(groups)) + 1 >= every else SENTENCES


def held_out(groups: Sequence[int] | Tensor, every: int) -> Tensor:
    """Choose the prompts (N,) that are kept out: those of every so manyth line of the recipe.

    A recipe with fewer lines keeps none whole out. Of it, every so manyth prompt is, or the last where there are
    fewer; a fit has seen the line of each, in other sentences.

    Args:
        groups: the recipe line of every prompt, at least two prompts.
        every: one line in how many.
    """
    lines = torch.as_tensor(groups)
    if kind(lines, every) == LINES:
        return lines % every == every - 1
    turn = min(every, len(lines))
    return torch.arange(len(lines)) % turn == turn - 1
