"""SAFREE (ICLR 2025, arXiv 2410.12761), text part: a baseline.

Words without which the prompt is farther from the toxic subspace are triggers; their states are
projected onto the complement of that subspace inside the prompt's own span. As published, special
tokens and pads are left as they are, and the test for triggers is relative; a recipe's phrases span the
toxic subspace where the paper has seventeen for one concept. The paper's negative prompt and its
filters in the denoiser are not part of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from safegen import attribution
from safegen.conditioning import Position
from safegen.safeguards import flagged_rows
from safegen.scoring import reduced, worded

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.conditioning import Conditioning
    from safegen.safeguards import Tools
    from safegen.sheets import ScoreSheet

ALPHA = 0.01  # a trigger's removal raises the distance by this share over the others' mean


class Safree:
    """See the module."""

    name = "safree"

    def edit(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], tools: Tools, strength: float
    ) -> Conditioning:
        """Project the trigger words' states."""
        if strength == 0:
            return conditioning
        name, channel = worded(conditioning)
        states = channel.states.clone()
        for row in flagged_rows(sheets):
            sheet, words = sheets[row], channel.words(row)
            phrases = [p for c in sheet.open_gates() for p in tools.recipes[c].targets]
            toxic = projector(sentences(tools, phrases))
            masked = sentences(tools, [attribution.without(sheet.prompt, [w.span]) for w in words])
            distance = (masked - masked @ toxic).norm(dim=-1)
            others = (distance.sum() - distance) / max(1, len(words) - 1)
            span = projector(masked)
            for word, trigger in zip(words, (distance >= (1 + ALPHA) * others).tolist(), strict=True):
                if trigger or len(words) == 1:
                    index = list(word.tokens)
                    kept = states[row, index].float() @ span
                    kept = kept - kept @ toxic
                    states[row, index] += (strength * (kept - states[row, index].float())).to(states.dtype)
        return conditioning.with_states({name: states})


def sentences(tools: Tools, texts: Sequence[str]) -> Tensor:
    """One vector (N, D) per text: the mean state of its words, as sentence encoders pool."""
    conditioning = tools.family.encode_words(texts)
    return reduced(conditioning)[worded(conditioning)[0]].means[Position.TOKEN]


def projector(vectors: Tensor) -> Tensor:
    """The orthogonal projection (D, D) onto the span of (N, D) vectors."""
    _, values, rows = torch.linalg.svd(vectors, full_matrices=False)
    rows = rows[values > 1e-4 * values[0]]
    onto: Tensor = rows.T @ rows
    return onto
