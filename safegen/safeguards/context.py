"""The context of a safeguard: what it may use besides the embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from safegen.errors import DirectionError

if TYPE_CHECKING:
    from pathlib import Path

    from safegen.conditioning import Conditioning
    from safegen.directions.recipes import Concept
    from safegen.families import Family
    from safegen.reader import Reader
    from safegen.reader.reading import Reading
    from safegen.scoring.scorer import Scorer

# What is added to the thresholds of directions at each fluency of a text, in benign deviations; between two of them, in
# proportion. Names and slips of spelling have little fluency, too: at -1.5 some harmless prompts of them are flagged.
FLUENCIES, RELIEFS = (0.2, 0.3, 0.5), (-1.0, 0.0, 2.5)


@dataclass(frozen=True)
class SafeguardContext:
    """Both senses, the encoders, and the recipes of the active concepts.

    Attributes:
        reader: the first sense.
        scorer_or_none: the second sense, for the concepts that have directions for this encoder; None where none has.
        family: the family, which encodes prompts.
        recipes: the recipes of the active concepts.
        folder: the folder of the user's own concepts.
    """

    reader: Reader
    scorer_or_none: Scorer | None
    family: Family
    recipes: Mapping[str, Concept]
    folder: Path | None = None

    @property
    def scorer(self) -> Scorer:
        """The second sense.

        Raises:
            DirectionError: no active concept has directions for this encoder.
        """
        if self.scorer_or_none is None:
            raise lacks_directions(list(self.recipes))
        return self.scorer_or_none

    @property
    def readable(self) -> list[str]:
        """The active concepts that the reader knows."""
        return [name for name in self.recipes if name in self.reader.concepts]

    def objections(self, conditioning: Conditioning) -> list[list[str]]:
        """List, for each prompt, the active concepts under which either sense is over a line."""
        readings = self.read(conditioning.prompts)
        read = [[span.concept for span in reading.spans if span.concept in self.recipes] for reading in readings]
        seen = self._seen(conditioning, readings)
        return [list(dict.fromkeys([*one, *other])) for one, other in zip(read, seen, strict=True)]

    def seen(self, conditioning: Conditioning) -> list[list[str]]:
        """List, for each prompt, the active concepts under which directions are over a line; without any, none."""
        return self._seen(conditioning, self.read(conditioning.prompts))

    def _seen(self, conditioning: Conditioning, readings: Sequence[Reading]) -> list[list[str]]:
        if self.scorer_or_none is None:
            return [[] for _ in readings]
        return self.scorer_or_none.objections(conditioning, [self.relief(reading) for reading in readings])

    def read(self, prompts: Sequence[str]) -> list[Reading]:
        """Read prompts; a textual inversion counts as unread, because its text does not say what it means."""
        from safegen.reader.words import Word  # with it comes the whole reader, which `--help` does without

        readings = self.reader.read(prompts)
        for row, reading in enumerate(readings):
            spans = self.family.learned_words(reading.text)
            found = tuple(Word(reading.text[slice(*span)], span) for span in spans)
            if found:
                readings[row] = replace(reading, unread=(*reading.unread, *found), legible=False)
        return readings

    def cautions(self, prompts: Sequence[str]) -> list[float]:
        """Give for each prompt what a lack of fluency takes off the thresholds of directions: at most 0."""
        return [min(0.0, self.relief(reading)) for reading in self.read(prompts)]

    def relief(self, reading: Reading) -> float:
        """Give what a reading adds to the thresholds of directions, in benign deviations.

        Directions are there for harm that only the encoder sees. Calm, fluent text has little of it, unless a LoRA
        changes the encoder. A search through the encoder ends at words that nobody would put beside each other, so
        directions are stricter with such text.
        """
        import numpy as np

        if not reading.legible:  # foreign, maybe, where fluency says nothing
            return 0.0
        found = float(np.interp(reading.fluency, FLUENCIES, RELIEFS))
        return min(0.0, found) if self.family.adapted or not reading.calm else found


def lacks_directions(names: Sequence[str]) -> DirectionError:
    """Make the error for a method that needs directions where the encoder has none."""
    return DirectionError(
        f"there are no directions for this encoder under {', '.join(names)}, and this method edits along them",
        "Learn them: safegen directions learn, with this --model and --lora; or use --safeguard localise.",
    )


def check_directed(context: SafeguardContext) -> None:
    """Check that every active concept has directions.

    Raises:
        DirectionError: a concept has none.
    """
    known = context.scorer_or_none.names if context.scorer_or_none else ()
    if missing := [name for name in context.recipes if name not in known]:
        raise lacks_directions(missing)
