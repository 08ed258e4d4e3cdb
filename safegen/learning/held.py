"""Prompts kept out of a fit to assess it: whole lines of the recipe, or, of a short recipe, some sentences."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LINES, SENTENCES = "recipe lines", "sentences"


def kind(groups: Sequence[int] | Tensor, every: int) -> str:
    """Say what `split_held_out` keeps out."""
    return LINES if int(max(groups)) + 1 >= every else SENTENCES


def split_held_out(groups: Sequence[int] | Tensor, every: int) -> Tensor:
    """Choose the prompts (N,) that are kept out: those of every n-th line of the recipe, where n is `every`.

    A recipe with fewer lines than that keeps no whole line out. Of it, every n-th prompt is kept out, or the last
    one where there are fewer; a fit has then seen the line of each, in other sentences.

    Args:
        groups: the recipe line of every prompt, at least two prompts.
        every: n.
    """
    lines = torch.as_tensor(groups)
    if kind(lines, every) == LINES:
        return lines % every == every - 1
    turn = min(every, len(lines))
    return torch.arange(len(lines)) % turn == turn - 1
