"""EIUP (Chen et al. 2024, arXiv 2408.01014): an erasure prompt beside the user's, in cross-attention.

The erasure prompt names the concept. Where the places of the picture attend to its words, the concept is about to be
drawn, even if the user's prompt does not name it; there its features are taken out:

    out' = out - w M out_erasure        M = attention to the erasure prompt's words / its highest in the picture

It happens in every layer of cross-attention and in every step. The paper's code is not public; how the features are
weighed again is filled in. The erasure prompt is made of the flagged concepts' phrases that are nearest to the prompt,
and w is the strength, times a constant. What a denoiser sums up of the text beside cross-attention is left alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from safegen.families import crossing
from safegen.families.denoiser import cross_attention
from safegen.safeguards.drawing import DrawingSafeguard

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.families.crossing import Crossing
    from safegen.safeguards import SafeguardContext
    from safegen.safeguards.canvas import Canvas

WEIGHT = 3.0  # w at strength 1


class ErasurePrompt(DrawingSafeguard):
    """Take out what places of the picture make of a concept (EIUP, Chen et al. 2024)."""

    name = "eiup"

    def check(self, context: SafeguardContext) -> None:
        """Check that the denoiser has cross-attention, and that hooks would be called.

        Raises:
            UsageError: it has none.
            ModelError: there is no denoiser, or it is compiled.
        """
        super().check(context)
        cross_attention(context.family.bottleneck.denoiser)

    @contextlib.contextmanager
    def drawing(self, canvas: Canvas, context: SafeguardContext) -> Iterator[None]:
        """Erase in the pictures that have a treatment."""
        own = canvas.own
        texts = [", ".join(one.phrases) for one in own.values()]
        second = crossing.second_text(context.family, texts, canvas.guidance, canvas.size)
        weight = WEIGHT * next(iter(own.values())).strength

        def erase(both: Crossing) -> Tensor:
            mask = both.share / both.share.amax(1, keepdim=True).clamp(min=1e-6)
            return both.first - weight * mask * both.second

        with crossing.crossed(context.family, len(canvas.treatments), list(own), second, erase):
            yield
