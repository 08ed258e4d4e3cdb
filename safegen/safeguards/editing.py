"""Methods that edit the denoiser's weights, baselines.

UCE (arXiv 2308.14761) and RECE (arXiv 2407.12383) compute a weight edit for every concept in closed form, see
`safegen.learning.erasing`. SafeGen (arXiv 2404.06666), DUO (arXiv 2407.21035) and ShieldDiff (arXiv 2410.05309) tune it
from pictures, see `safegen.learning.tuning`. As published, an edit is permanent, and acts on every picture. Here it
acts on the pictures of flagged prompts alone, so all others stay as they are: what a tuned denoiser would do about
prompts that no guard flags is not had. The edits of all concepts that flag a prompt add up; the strength is their
weight.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from safegen.directions import edits, recipes
from safegen.families.edits import (
    Delta,
    Edit,
    attention_layers,
    block_layers,
    edited,
    picture_layers,
    text_layers,
)
from safegen.safeguards.drawing import DrawingSafeguard

if TYPE_CHECKING:
    from safegen.directions.edits import WeightEdit
    from safegen.safeguards import SafeguardContext
    from safegen.safeguards.canvas import Canvas
    from safegen.scoring.report import Treatment
    from safegen.scoring.scores import ScoreSheet


class WeightEditing(DrawingSafeguard):
    """A method that has learned a weight edit for every concept.

    Attributes:
        whole: whether an edit also works on the negative half of guidance.
    """

    whole: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self._found: dict[str, WeightEdit] = {}  # by concept

    def check(self, context: SafeguardContext) -> None:
        """Check that the denoiser has layers to edit, and that there is an edit of every concept.

        Raises:
            UsageError: it has no such layers.
            ModelError: there is no denoiser, or it is compiled or streamed.
            DirectionError: there is no edit of a concept for this denoiser, or a file is corrupt.
        """
        super().check(context)
        self.check_layers(context.family.bottleneck.denoiser)
        fingerprint, known = context.family.bottleneck.fingerprint, recipes.known(context.folder)
        self._found = {name: edits.find(name, self.name, fingerprint, known.get(name)) for name in context.recipes}

    def check_layers(self, denoiser: Any) -> None:
        """Check that a denoiser has the layers that are edited.

        Raises:
            UsageError: it has none.
        """
        text_layers(denoiser)

    def treat(self, sheet: ScoreSheet, context: SafeguardContext, strength: float) -> Treatment | None:
        """Add the hashes of the edits to what is known of the prompt."""
        found = super().treat(sheet, context, strength)
        return found and replace(found, facts={"edits": {name: self._found[name].sha256 for name in found.concepts}})

    def drawing(self, canvas: Canvas, context: SafeguardContext) -> AbstractContextManager[None]:
        """Let the concepts' edits work on the pictures that have a treatment."""
        own = {
            row: [(_deltas(self._found[name]), one.strength) for name in one.concepts]
            for row, one in canvas.own.items()
        }
        return edited(context.family, len(canvas.treatments), own, whole=self.whole)


class UnifiedConceptEditing(WeightEditing):
    """Map harmful text to safe text in the layers that read it (UCE, Gandikota et al., WACV 2024)."""

    name = "uce"


class ReliableErasing(WeightEditing):
    """Erase what would bring a concept back, too (RECE, Gong et al., ECCV 2024)."""

    name = "rece"


class SelfAttentionTuning(WeightEditing):
    """Unlearn in self-attention how harmful pictures look (SafeGen, Li et al., CCS 2024)."""

    name = "safegen-ccs"
    whole: ClassVar[bool] = True

    def check_layers(self, denoiser: Any) -> None:
        """Check that places of the picture attend to each other alone, see the base class."""
        picture_layers(denoiser)


class PreferenceUnlearning(WeightEditing):
    """Prefer the safe picture of every pair (DUO, Park et al., NeurIPS 2024)."""

    name = "duo"
    whole: ClassVar[bool] = True

    def check_layers(self, denoiser: Any) -> None:
        """Check that places of the picture attend to each other alone, see the base class."""
        block_layers(denoiser)


class RewardTuning(WeightEditing):
    """Draw what a judge finds harmless and like the safe picture (ShieldDiff, Han et al. 2024)."""

    name = "shielddiff"
    whole: ClassVar[bool] = True

    def check_layers(self, denoiser: Any) -> None:
        """Check that places of the picture attend to each other and to the text, see the base class."""
        attention_layers(denoiser)


def _deltas(edit: WeightEdit) -> Edit:
    return {name: Delta(edit.tensors[f"{name}.up"], edit.tensors[f"{name}.down"]) for name in edit.layers()}
