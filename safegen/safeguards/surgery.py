"""Semantic Surgery (NeurIPS 2025, arXiv 2510.22851), text part: a baseline.

What the present concepts mean together, E("c1, c2, ...") - E(""), is subtracted at every position. The
paper names a few concepts by hand and calls those present whose meaning is near the prompt's by a raw
cosine with a constant tuned for each. Here the calibrated gate decides whether anything is, and the
recipe's phrases nearest by that cosine are what is, which can only help it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch.nn import functional as F

from safegen.conditioning import worded
from safegen.errors import UsageError
from safegen.safeguards import flagged_rows

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.conditioning import Conditioning
    from safegen.safeguards import Tools
    from safegen.scoring.scores import ScoreSheet

PHRASES = 4  # present at most, as many as the paper names for nudity


class Surgery:
    """See the module."""

    name = "surgery"

    def __init__(self) -> None:
        self._meanings: dict[tuple[str, ...], Tensor] = {}  # of a recipe's phrases, in one encoder

    def check(self, tools: Tools) -> None:
        """Raises:
        UsageError: the model's embeddings are as long as their prompts.
        """
        if tools.family.varying:
            raise UsageError(
                f"surgery subtracts position from position, and a {type(tools.family.pipe).__name__} has no fixed ones",
                "Choose another method: --safeguard clamp.",
            )

    def edit(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], tools: Tools, strength: float
    ) -> Conditioning:
        """Subtract what the open concepts mean together."""
        if strength == 0:
            return conditioning
        name, worded_channel = next(iter(worded(conditioning).items()))
        states = {name: channel.states.clone() for name, channel in conditioning.channels.items()}
        for row in flagged_rows(sheets):
            phrases = [p for c in sheets[row].open_gates() for p in tools.recipes[c].targets]
            likeness = F.cosine_similarity(
                self._meaning(phrases, name, tools).to(worded_channel.states.device),
                worded_channel.states[row].float(),
                dim=-1,
            )
            nearest = likeness.mean(1).topk(min(PHRASES, len(phrases))).indices.tolist()
            together = tools.family.encode([", ".join(phrases[i] for i in nearest), ""])
            for key, channel in together.channels.items():
                states[key][row] -= strength * (channel.states[0] - channel.states[1])
        return conditioning.with_states(states)

    def _meaning(self, phrases: Sequence[str], name: str, tools: Tools) -> Tensor:
        """E(phrase) - E("") of one channel, (phrases, T, D)."""
        key = (*tools.family.fingerprints().values(), *phrases)
        if key not in self._meanings:
            found = tools.family.encode([*phrases, ""]).channels[name].states.float()
            self._meanings[key] = found[:-1] - found[-1]
        return self._meanings[key]
