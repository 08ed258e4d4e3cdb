"""Safeguards: one file per method, one base class, imported when used.

A method writes `repair`, and `check` if it needs more than an encoder. That strength 0 is the identity,
that only flagged prompts are touched, and that nothing leaves unverified is the base class's business.
"""

from __future__ import annotations

import abc
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from safegen.conditioning import SCORED
from safegen.errors import GuardError, UsageError
from safegen.safeguards.context import SafeguardContext, check_directed, lacking

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.conditioning import Conditioning
    from safegen.directions.direction import Direction
    from safegen.scoring.scorer import Scorer
    from safegen.scoring.scores import ScoreSheet

__all__ = ["DEFAULT", "REGISTRY", "Safeguard", "SafeguardContext", "check_directed", "create", "lacking"]

# (direction, states (B, T, D), positions (B, T)) -> states (B, T, D)
Change = Callable[["Direction", "Tensor", "Tensor"], "Tensor"]


@dataclass(frozen=True)
class Method:
    """Where a safeguard is, and what learns it.

    Attributes:
        safeguard: its class, as module:name.
        learn: by the name of the way to learn it, a function as module:name; none where nothing is to be learned.
    """

    safeguard: str
    learn: Mapping[str, str] = field(default_factory=dict)


# Adding a method is a file beside this one, one under `learning/` if it learns anything, and a row here.
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
}
DEFAULT = "localise"


class Safeguard(abc.ABC):
    """A method that repairs conditioning before denoising."""

    name: ClassVar[str]

    def check(self, context: SafeguardContext) -> None:  # noqa: B027
        """Check that the method can work on every channel of the model; asked once, before it is used.

        Raises:
            SafegenError: a direction or the model lacks what it needs.
        """

    @abc.abstractmethod
    def repair(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], context: SafeguardContext, strength: float
    ) -> Conditioning:
        """Repair the flagged prompts; the others keep their states bit for bit. Pure.

        Args:
            conditioning: B prompts, at least one of them flagged.
            sheets: what was found in each.
            context: both senses, the encoders, the recipes.
            strength: over 0, up to 1.5.
        """

    def edit(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], context: SafeguardContext, strength: float
    ) -> Conditioning:
        """Repair the flagged prompts and verify what came of them; the identity at strength 0.

        Raises:
            GuardError: classifier or verifier object to what became of a prompt; there must be no picture.
        """
        rows = flagged_rows(sheets)
        if strength == 0 or not rows:
            return conditioning
        return self.verify(self.repair(conditioning, sheets, context, strength), rows, context, strength)

    def verify(
        self, conditioning: Conditioning, rows: Sequence[int], context: SafeguardContext, strength: float
    ) -> Conditioning:
        """Give back repaired prompts to which directions do not object at full strength.

        Args:
            conditioning: B prompts.
            rows: those that were repaired.
            context: see `repair`.
            strength: under 1 nothing is promised, so nothing is verified.

        Raises:
            GuardError: they object to one.
        """
        if strength >= 1 and context.directions is not None:
            objections = context.directions.objections(conditioning)
            if names := sorted({name for row in rows for name in objections[row]}):
                raise unsafe(names)
        return conditioning


class Baseline(Safeguard):
    """A published method to compare with: drawn as it comes out, over the line or not."""

    def verify(
        self, conditioning: Conditioning, rows: Sequence[int], context: SafeguardContext, strength: float
    ) -> Conditioning:
        """Leave it as it is."""
        return conditioning


def create(name: str) -> Safeguard:
    """A safeguard by name.

    Raises:
        UsageError: no safeguard has this name.
    """
    if name not in REGISTRY:
        raise UsageError(f"unknown safeguard {name!r}", f"Known: {', '.join(REGISTRY)}.")
    safeguard: Safeguard = find(REGISTRY[name].safeguard)()
    return safeguard


def find(place: str) -> Any:
    """Import what is at module:name."""
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


def unsafe(names: Sequence[str]) -> GuardError:
    """The error for a prompt that is still over a line of these concepts after it was repaired."""
    return GuardError(
        f"the prompt could not be made safe under {', '.join(names)}", "No picture was made. Say it in other words."
    )


def flagged_rows(sheets: Sequence[ScoreSheet]) -> list[int]:
    """The prompts with an open gate."""
    return [row for row, sheet in enumerate(sheets) if sheet.flagged]


def by_concept(
    conditioning: Conditioning, sheets: Sequence[ScoreSheet], scorer: Scorer, change: Change
) -> Conditioning:
    """Concept after concept, every channel of the prompts whose gate is open changed; the rest keep every bit."""
    for column, concept in enumerate(scorer.names):
        rows = [i for i, sheet in enumerate(sheets) if sheet.concepts[concept].flagged]
        if not rows:
            continue
        states = {}
        for name, (probes, channel) in scorer.pairs(conditioning).items():
            states[name] = channel.states.clone()
            old, positions = channel.states[rows].float(), channel.positions[rows]
            new = change(probes.directions[column], old, positions)
            scored = (positions < len(SCORED)).unsqueeze(-1)  # a template, or no state at all, has nothing to edit
            states[name][rows] = new.where(scored, old).to(channel.states.dtype)
        conditioning = conditioning.with_states(states)
    return conditioning
