"""Safeguards: one file per method, one protocol, imported when used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from safegen.conditioning import SCORED
from safegen.errors import GuardError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.concepts import Concept
    from safegen.conditioning import Channel, Conditioning
    from safegen.directions import Direction
    from safegen.families import Family
    from safegen.scoring import Scorer
    from safegen.sheets import ScoreSheet

# (direction, states (B, T, D), positions (B, T)) -> states (B, T, D)
Change = Callable[["Direction", "Tensor", "Tensor"], "Tensor"]
REGISTRY: Mapping[str, str] = {
    "localise": "safegen.safeguards.localise:Localise",
    "clamp": "safegen.safeguards.clamp:Clamp",
    "es": "safegen.safeguards.es:Es",
    "region": "safegen.safeguards.region:Region",
    "surgery": "safegen.safeguards.surgery:Surgery",
    "safree": "safegen.safeguards.safree:Safree",
}
DEFAULT = "localise"


@dataclass(frozen=True)
class Tools:
    """What a safeguard may use beside the embedding: the scorer, the encoder, the recipes."""

    scorer: Scorer
    family: Family
    recipes: Mapping[str, Concept]


class Safeguard(Protocol):
    """A method that edits conditioning before denoising."""

    name: str

    def check(self, tools: Tools) -> None:
        """Whether the method can work on every channel of the model, asked once before it is used.

        Raises:
            SafegenError: a direction or the model lacks what it needs.
        """
        ...

    def edit(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], tools: Tools, strength: float
    ) -> Conditioning:
        """Conditioning with the flagged prompts repaired; pure, and the identity at strength 0.

        Prompts without an open gate keep their states bit for bit. A published baseline is drawn as it
        comes out, over the line or not; methods of ours fail closed at full strength.

        Raises:
            GuardError: gate or check object to what became of a prompt; there must be no picture.
        """
        ...


@runtime_checkable
class Intense(Protocol):
    """A safeguard with a score of its own for every token, from 0 to 1, that sets how far it edits it."""

    def intensities(self, channel: Channel, directions: Sequence[Direction]) -> Tensor:
        """The scores (B, T, K) of a channel by its directions."""
        ...


def create(name: str) -> Safeguard:
    """A safeguard by name.

    Raises:
        UsageError: no safeguard has this name.
    """
    if name not in REGISTRY:
        raise UsageError(f"unknown safeguard {name!r}", f"Known: {', '.join(REGISTRY)}.")
    module, attribute = REGISTRY[name].split(":")
    safeguard: Safeguard = getattr(importlib.import_module(module), attribute)()
    return safeguard


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
