"""Safeguards: one file per method, one base class; methods are imported when they are used.

A method implements `repair`, and `check` if it needs more than an encoder. The base class sees to the rest: strength 0
is the identity, only flagged prompts are edited, and at full strength nothing leaves that directions object to. Methods
that act while a picture is drawn have a base class of their own, in `drawing.py`.
"""

from __future__ import annotations

import abc
import contextlib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from safegen.errors import GuardError, UsageError
from safegen.safeguards.context import SafeguardContext, check_directed

if TYPE_CHECKING:
    from safegen.conditioning import Conditioning
    from safegen.safeguards.canvas import Canvas
    from safegen.scoring.report import Treatment
    from safegen.scoring.scores import ScoreSheet

__all__ = ["DEFAULT", "REGISTRY", "Safeguard", "SafeguardContext", "check_directed", "create"]


@dataclass(frozen=True)
class Method:
    """The places of a safeguard's class, and of the functions that learn it.

    Attributes:
        safeguard: the class, as module:name.
        learn: functions that learn it, as module:name, by the name of the way to learn; empty if nothing is learned.
        edit: the function that learns its weight edit of a denoiser, as module:name; empty if it has none.
        tune: the objective that its weight edit is tuned by, as module:name; empty if it is not tuned.
    """

    safeguard: str
    learn: Mapping[str, str] = field(default_factory=dict)
    edit: str = ""
    tune: str = ""


# To add a method, write a file beside this one, another under `learning/` if it learns anything, and a row here.
REGISTRY: Mapping[str, Method] = {
    "localise": Method("safegen.safeguards.localise:Localise"),
    "clamp": Method("safegen.safeguards.clamp:Clamp"),
    "es": Method("safegen.safeguards.es:EmbeddingSanitizer", {"es": "safegen.learning.es:learn"}),
    "region": Method(
        "safegen.safeguards.region:SafeRegion",
        {"region": "safegen.learning.region:learn", "half-spaces": "safegen.learning.region:learn_half_spaces"},
    ),
    "surgery": Method("safegen.safeguards.surgery:SemanticSurgery"),
    "safree": Method("safegen.safeguards.safree:Safree"),
    "sld": Method("safegen.safeguards.sld:SafeLatentDiffusion"),
    "latent-guard": Method(
        "safegen.safeguards.latent_guard:LatentGuard", {"latent-guard": "safegen.learning.latent_guard:learn"}
    ),
    "eiup": Method("safegen.safeguards.eiup:ErasurePrompt"),
    "dual": Method("safegen.safeguards.dual:DualReconstruction"),
    "uce": Method("safegen.safeguards.editing:UnifiedConceptEditing", edit="safegen.learning.erasing:learn_uce"),
    "rece": Method("safegen.safeguards.editing:ReliableErasing", edit="safegen.learning.erasing:learn_rece"),
    "safegen-ccs": Method(
        "safegen.safeguards.editing:SelfAttentionTuning", tune="safegen.learning.safegen_ccs:SelfAttention"
    ),
    "duo": Method("safegen.safeguards.editing:PreferenceUnlearning", tune="safegen.learning.duo:Preference"),
    "shielddiff": Method("safegen.safeguards.editing:RewardTuning", tune="safegen.learning.shielddiff:PolicyGradient"),
}
DEFAULT = "localise"


class Safeguard(abc.ABC):
    """A method that repairs conditioning before denoising."""

    name: ClassVar[str]
    while_drawing: ClassVar[bool] = False  # whether it acts while a picture is drawn

    def check(self, context: SafeguardContext) -> None:  # noqa: B027
        """Check once, before use, that the method can work on every channel of the model.

        Raises:
            SafegenError: a direction or the model lacks something that the method needs.
        """

    @abc.abstractmethod
    def repair(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], context: SafeguardContext, strength: float
    ) -> Conditioning:
        """Repair the flagged prompts; the others keep their states bit for bit. A pure function.

        Args:
            conditioning: B prompts, at least one of them flagged.
            sheets: the score sheet of each prompt.
            context: both senses, the encoders and the recipes.
            strength: more than 0, up to 1.5.
        """

    def concerned(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], context: SafeguardContext
    ) -> list[int]:
        """List the prompts that the method acts on: the flagged ones, unless it has a gate of its own."""
        return flagged_rows(sheets)

    def edit(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], context: SafeguardContext, strength: float
    ) -> Conditioning:
        """Repair the flagged prompts and verify the results; strength 0 changes nothing.

        Raises:
            GuardError: the classifier or the verifier objects to a repaired prompt, which fails closed.
        """
        rows = self.concerned(conditioning, sheets, context) if strength > 0 else []
        if not rows:
            return conditioning
        return self.verify(self.repair(conditioning, sheets, context, strength), rows, context, strength)

    def verify(
        self, conditioning: Conditioning, rows: Sequence[int], context: SafeguardContext, strength: float
    ) -> Conditioning:
        """Check that directions do not object to the repaired prompts, and give them back.

        Args:
            conditioning: B prompts.
            rows: the prompts that were repaired.
            context: see `repair`.
            strength: the strength of the repair; under 1 nothing is promised, so nothing is verified.

        Raises:
            GuardError: directions object to a prompt.
        """
        if strength >= 1 and context.scorer_or_none is not None:
            objections = context.scorer_or_none.objections(conditioning, context.cautions(conditioning.prompts))
            if names := sorted({name for row in rows for name in objections[row]}):
                raise unsafe(names)
        return conditioning

    def treat(self, sheet: ScoreSheet, context: SafeguardContext, strength: float) -> Treatment | None:
        """Decide what is done to a flagged prompt's picture while it is drawn; None where that is nothing."""
        return None

    def drawing(self, canvas: Canvas, context: SafeguardContext) -> contextlib.AbstractContextManager[None]:
        """Act on what is drawn while the context lasts; **changes the pipeline** meanwhile.

        Args:
            canvas: the pictures of one call of the pipeline, at least one of them with a treatment.
            context: see `repair`.
        """
        return contextlib.nullcontext()


class Baseline(Safeguard):
    """A published method to compare with; its results are drawn even if they are over a line."""

    def verify(
        self, conditioning: Conditioning, rows: Sequence[int], context: SafeguardContext, strength: float
    ) -> Conditioning:
        """Give the conditioning back without verification."""
        return conditioning


def create(name: str) -> Safeguard:
    """Create a safeguard by name.

    Raises:
        UsageError: no safeguard has this name.
    """
    if name not in REGISTRY:
        raise UsageError(f"unknown safeguard {name!r}", f"Known: {', '.join(REGISTRY)}.")
    safeguard: Safeguard = import_object(REGISTRY[name].safeguard)()
    return safeguard


def import_object(place: str) -> Any:
    """Import the object at module:name."""
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


def unsafe(names: Sequence[str]) -> GuardError:
    """Make the error for a repaired prompt that is still over the lines of these concepts."""
    return GuardError(
        f"the prompt could not be made safe under {', '.join(names)}", "No picture was made. Say it in other words."
    )


def flagged_rows(sheets: Sequence[ScoreSheet]) -> list[int]:
    """List the flagged prompts."""
    return [row for row, sheet in enumerate(sheets) if sheet.flagged]
