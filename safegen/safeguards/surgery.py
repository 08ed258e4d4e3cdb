"""Semantic Surgery (NeurIPS 2025, arXiv 2510.22851), text part: a baseline.

The joint meaning of the concepts that are present, E("c1, c2, ...") - E(""), is subtracted at every position. The
paper names a few concepts by hand. It counts a concept as present if its raw cosine with the prompt is over a
constant tuned for it. Here the calibrated classifier decides whether a concept is present, and the recipe's phrases
nearest by that cosine are subtracted, which can only help the method.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch.nn import functional as F

from safegen.errors import UsageError
from safegen.safeguards import Baseline, flagged_rows

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.conditioning import Conditioning
    from safegen.safeguards import SafeguardContext
    from safegen.scoring.scores import ScoreSheet

PHRASES = 4  # the most phrases that are subtracted; the paper names as many for nudity


class SemanticSurgery(Baseline):
    """Subtract the joint meaning of the flagged concepts (Semantic Surgery, NeurIPS 2025)."""

    name = "surgery"

    def __init__(self) -> None:
        self._meanings: dict[tuple[str, ...], Tensor] = {}  # by the encoders' fingerprints and the phrases

    def check(self, context: SafeguardContext) -> None:
        """Check that the model's embeddings all have the same length.

        Raises:
            UsageError: they are as long as their prompts.
        """
        if context.family.variable_length:
            raise UsageError(
                "surgery subtracts position from position, "
                f"and a {type(context.family.pipe).__name__} has no fixed ones",
                "Choose another method: --safeguard clamp.",
            )

    def repair(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], context: SafeguardContext, strength: float
    ) -> Conditioning:
        """Subtract the joint meaning of the concepts that flag a prompt."""
        name, worded_channel = next(iter(conditioning.word_channels.items()))
        states = {name: channel.states.clone() for name, channel in conditioning.channels.items()}
        for row in flagged_rows(sheets):
            phrases = [p for c in sheets[row].flagged_concepts() for p in context.recipes[c].targets]
            likeness = F.cosine_similarity(
                self._meaning(phrases, name, context).to(worded_channel.states.device),
                worded_channel.states[row].float(),
                dim=-1,
            )
            nearest = likeness.mean(1).topk(min(PHRASES, len(phrases))).indices.tolist()
            together = context.family.encode([", ".join(phrases[i] for i in nearest), ""])
            for key, channel in together.channels.items():
                states[key][row] -= strength * (channel.states[0] - channel.states[1])
        return conditioning.with_states(states)

    def _meaning(self, phrases: Sequence[str], name: str, context: SafeguardContext) -> Tensor:
        """Compute E(phrase) - E("") in one channel, (phrases, T, D)."""
        key = (*context.family.fingerprints().values(), *phrases)
        if key not in self._meanings:
            found = context.family.encode([*phrases, ""]).channels[name].states.float()
            self._meanings[key] = found[:-1] - found[-1]
        return self._meanings[key]
