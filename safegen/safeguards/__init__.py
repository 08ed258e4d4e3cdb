"""Safeguards: one file per method, one protocol, imported when used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from safegen.conditioning import SCORED
from safegen.errors import DirectionError, GuardError, UsageError
from safegen.reader.words import Word

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from safegen.conditioning import Conditioning
    from safegen.directions.direction import Direction
    from safegen.directions.recipes import Concept
    from safegen.families import Family
    from safegen.reader import Reader
    from safegen.reader.reading import Reading
    from safegen.scoring.scorer import Scorer
    from safegen.scoring.scores import ScoreSheet

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
    """What a safeguard may use beside the embedding: both senses, the encoder, the recipes.

    Attributes:
        reader: the first sense.
        directions: the second, of the concepts that have directions for this encoder; None where none has.
        family: encodes.
        recipes: of the active concepts.
        folder: of the user's own concepts.
    """

    reader: Reader
    directions: Scorer | None
    family: Family
    recipes: Mapping[str, Concept]
    folder: Path | None = None

    @property
    def scorer(self) -> Scorer:
        """The second sense.

        Raises:
            DirectionError: no active concept has directions for this encoder.
        """
        if self.directions is None:
            raise lacking(list(self.recipes))
        return self.directions

    @property
    def readable(self) -> list[str]:
        """The active concepts that the reader knows."""
        return [name for name in self.recipes if name in self.reader.concepts]

    def objections(self, conditioning: Conditioning) -> list[list[str]]:
        """Per prompt, the active concepts under which either sense is over a line."""
        readings = self.read(conditioning.prompts)
        read = [[span.concept for span in reading.spans if span.concept in self.recipes] for reading in readings]
        seen = self._seen(conditioning, readings)
        return [list(dict.fromkeys([*one, *other])) for one, other in zip(read, seen, strict=True)]

    def seen(self, conditioning: Conditioning) -> list[list[str]]:
        """Per prompt, the active concepts under which directions are over a line; none where there are none."""
        return self._seen(conditioning, self.read(conditioning.prompts))

    def _seen(self, conditioning: Conditioning, readings: Sequence[Reading]) -> list[list[str]]:
        if self.directions is None:
            return [[] for _ in readings]
        return self.directions.objections(conditioning, [self.calm(reading) for reading in readings])

    def read(self, prompts: Sequence[str]) -> list[Reading]:
        """Read prompts; a word that was learned for the encoder has no meaning in the text, and counts as unread."""
        readings = self.reader.read(prompts)
        for row, reading in enumerate(readings):
            spans = self.family.learned_words(reading.text)
            found = tuple(Word(reading.text[slice(*span)], span) for span in spans)
            if found:
                readings[row] = replace(reading, unread=(*reading.unread, *found), legible=False)
        return readings

    def calm(self, reading: Reading) -> frozenset[str]:
        """The concepts under which a text is calm to the encoder, too: none where a LoRA changes what it reads."""
        return frozenset() if self.family.adapted else reading.calm


def lacking(names: Sequence[str]) -> DirectionError:
    """The error for a method that edits along directions which an encoder does not have."""
    return DirectionError(
        f"there are no directions for this encoder under {', '.join(names)}, and this method edits along them",
        "Learn them: safegen directions learn, with this --model and --lora; or use --safeguard localise.",
    )


def check_directed(tools: Tools) -> None:
    """Check that every active concept has directions.

    Raises:
        DirectionError: one has none.
    """
    known = tools.directions.names if tools.directions else ()
    if missing := [name for name in tools.recipes if name not in known]:
        raise lacking(missing)


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
