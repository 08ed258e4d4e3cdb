"""SAFREE (ICLR 2025, arXiv 2410.12761), text part: a baseline.

A word is a trigger if the prompt without it is farther from the toxic subspace. The states of triggers are
projected onto the complement of that subspace, inside the prompt's own span. As published, special
tokens and pads are left as they are, and the test for triggers is relative. The toxic subspace is spanned by a
recipe's phrases, where the paper has seventeen for one concept. A pooled vector, which the paper does not
mention, is projected like a trigger. The paper's negative prompt and its filters in the denoiser are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from safegen.reader import editing
from safegen.safeguards import Baseline, flagged_rows
from safegen.safeguards.sentences import sentences

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.conditioning import Conditioning
    from safegen.safeguards import SafeguardContext
    from safegen.scoring.scores import ScoreSheet

ALPHA = 0.01  # without a trigger, the distance is larger than the others' mean by this share


class Safree(Baseline):
    """Project trigger words out of the toxic subspace (Yoon et al., ICLR 2025)."""

    name = "safree"

    def repair(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], context: SafeguardContext, strength: float
    ) -> Conditioning:
        """Project the states of the flagged prompts' trigger words."""
        states = {name: channel.states.clone() for name, channel in conditioning.channels.items()}
        for row in flagged_rows(sheets):
            sheet, words = sheets[row], conditioning.words(row)
            phrases = [p for c in sheet.flagged_concepts() for p in context.recipes[c].targets]
            toxic = {name: projector(vectors) for name, vectors in sentences(context, phrases).items()}
            # A prompt without its only word would have no span of its own, so that word stays.
            masked = [editing.without(sheet.prompt, [w.span]) for w in words] if len(words) > 1 else [sheet.prompt]
            variants = sentences(context, masked)
            chosen = [word for i, word in enumerate(words) if i in triggers(variants, toxic) or len(words) == 1]
            for name, sentence in variants.items():
                span, channel = projector(sentence), conditioning.channels[name]
                index = (
                    [i for word in chosen for i in conditioning.tokens_of(row, word)[name]] if channel.worded else [0]
                )
                old = states[name][row, index].float()
                kept = old @ span
                kept = kept - kept @ toxic[name]
                states[name][row, index] += (strength * (kept - old)).to(channel.states.dtype)
        return conditioning.with_states(states)


def triggers(variants: Mapping[str, Tensor], toxic: Mapping[str, Tensor]) -> set[int]:
    """Find the words that are triggers in any channel; every variant (N, D) lacks one word."""
    found: set[int] = set()
    for name, masked in variants.items():
        distance = (masked - masked @ toxic[name]).norm(dim=-1)
        others = (distance.sum() - distance) / max(1, len(masked) - 1)
        found |= {i for i, trigger in enumerate((distance >= (1 + ALPHA) * others).tolist()) if trigger}
    return found


def projector(vectors: Tensor) -> Tensor:
    """Compute the orthogonal projection (D, D) onto the span of (N, D) vectors."""
    _, values, rows = torch.linalg.svd(vectors, full_matrices=False)
    rows = rows[values > 1e-4 * values[0]]
    onto: Tensor = rows.T @ rows
    return onto
