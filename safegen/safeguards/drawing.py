"""Methods that act while a picture is drawn: in the denoiser, or on what it predicts.

They leave alone what the prompt says, so the prompt stays flagged, and nothing verifies what the picture shows. Their
results are drawn as published, like those of other baselines. They only touch the pictures of flagged prompts; others
of the same batch keep every bit.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from torch.nn import functional as F

from safegen.reader import editing
from safegen.safeguards import Baseline
from safegen.safeguards.sentences import sentences
from safegen.scoring.report import Treatment

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.conditioning import Conditioning
    from safegen.safeguards import SafeguardContext
    from safegen.safeguards.canvas import Canvas
    from safegen.scoring.scores import ScoreSheet

PHRASES = 4  # of the recipes, that stand for a concept; the nearest to the prompt


class DrawingSafeguard(Baseline):
    """A method that acts while pictures are drawn."""

    while_drawing: ClassVar[bool] = True

    def __init__(self) -> None:
        self._vectors: dict[tuple[str, ...], Tensor] = {}  # by phrases

    def check(self, context: SafeguardContext) -> None:
        """Check that hooks in the denoiser would be called.

        Raises:
            ModelError: there is no denoiser, or it is compiled.
        """
        context.family.bottleneck.check_hooks()

    def repair(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], context: SafeguardContext, strength: float
    ) -> Conditioning:
        """Leave the prompts as they are."""
        return conditioning

    def treat(self, sheet: ScoreSheet, context: SafeguardContext, strength: float) -> Treatment | None:
        """Name the flagged concepts, the phrases of theirs that are nearest to the prompt, and what else it says."""
        concepts = tuple(sheet.flagged_concepts())
        if not concepts:
            return None
        phrases = tuple(p for name in concepts for p in context.recipes[name].targets)
        said = [*(s.span for s in sheet.spans), *(word.span for word in sheet.words if word.flagged)]
        rest = editing.tidy(editing.without(sheet.prompt, said))
        return Treatment(self.name, strength, concepts, self._nearest(sheet.prompt, phrases, context), rest)

    @abc.abstractmethod
    def drawing(self, canvas: Canvas, context: SafeguardContext) -> contextlib.AbstractContextManager[None]:
        """Act on what is drawn, see the base class."""

    def _nearest(self, prompt: str, phrases: tuple[str, ...], context: SafeguardContext) -> tuple[str, ...]:
        """Find the phrases nearest to a prompt, by the cosine of their words' mean states."""
        if phrases not in self._vectors:
            self._vectors[phrases] = _words(phrases, context)
        vectors = self._vectors[phrases]
        middle = vectors.mean(0)  # what all texts share would hide what tells them apart
        likeness = F.cosine_similarity(vectors - middle, _words([prompt], context) - middle, dim=-1)
        found = likeness.topk(min(PHRASES, len(phrases))).indices.tolist()
        return tuple(phrases[i] for i in found)


def _words(texts: Sequence[str], context: SafeguardContext) -> Tensor:
    """Give the mean state (N, D) of each text's words, in the first channel."""
    return next(iter(sentences(context, texts).values()))
