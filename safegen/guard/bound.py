"""A guard that is bound to a model: both senses and a safeguard, applied to what its encoders made of prompts.

Whatever goes wrong fails closed: no result, no picture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from safegen.errors import GuardError, SafegenError, Unread
from safegen.families.weights import weigh
from safegen.guard import weighting
from safegen.prompts import refusal
from safegen.safeguards.options import GuardOptions
from safegen.scoring import attribution, text
from safegen.scoring.report import Report, drifts
from safegen.scoring.scorer import ScoresTokens, empty_sheets, with_intensities
from safegen.scoring.text import Causes

if TYPE_CHECKING:
    from safegen.conditioning import Conditioning
    from safegen.directions.direction import Direction
    from safegen.families.weights import Weights
    from safegen.safeguards import Safeguard, SafeguardContext
    from safegen.scoring.scores import ScoreSheet

NUDITY = "nudity"  # watched for even where it is not active: the one refusal depends on it


@dataclass(frozen=True)
class BoundGuard:
    """A guard for one model's encoders; it never changes, and the same prompt gives the same result.

    Attributes:
        options: what it was made with.
        names: the active concepts.
        safeguard: the method.
        context: what the method may use: both senses, the encoders, the recipes.
        directions: by concept and channel.
    """

    options: GuardOptions
    names: tuple[str, ...]
    safeguard: Safeguard
    context: SafeguardContext
    directions: Mapping[str, Mapping[str, Direction]] = field(repr=False)

    @property
    def hashes(self) -> dict[str, str]:
        """The hash of every direction file, by its concept, or by concept/channel where there are several."""
        return {
            name if len(channels) == 1 else f"{name}/{channel}": direction.sha256
            for name, channels in self.directions.items()
            for channel, direction in channels.items()
        }

    @property
    def facts(self) -> dict[str, Any]:
        """The guard's settings, as records have them."""
        return {
            "safeguard": self.safeguard.name,
            "strength": self.options.strength,
            "directions": self.hashes,
            "reader": self.context.reader.sha256,
        }

    def score(
        self,
        conditioning: Conditioning,
        causes: Causes = "none",
        *,
        weights: Sequence[Weights] = (),
        wholes: Sequence[str] = (),
    ) -> list[ScoreSheet]:
        """Score B prompts.

        Args:
            conditioning: the prompts, encoded by the model.
            causes: find every word's cause under no concept, under the `flagged` ones, or under `all`.
            weights: that were asked for the words of each; none when empty.
            wholes: the whole text that each is a part of; each is whole when empty.

        Raises:
            Refused: minors in a sexual context.
            GuardError: a prompt could not be scored.
        """
        with _failing_closed("scoring"):
            sheets = self._judge(conditioning, causes)
            sexual = self._sexual(sheets)
        refuse([sheet.prompt for sheet in sheets], sexual)
        refuse(wholes, sexual)
        if weights:
            sheets = [sheet.with_weights(own) for sheet, own in zip(sheets, weights, strict=True)]
        if isinstance(self.safeguard, ScoresTokens) and self.context.scorer_or_none:
            with _failing_closed("scoring"):
                sheets = with_intensities(sheets, conditioning, self.safeguard, self.context.scorer)
        if causes == "none":
            return sheets
        with _failing_closed("finding causes"):
            return [self._with_causes(sheet, causes) for sheet in sheets]

    def sanitize(
        self, conditioning: Conditioning, *, weights: Sequence[Weights] = (), wholes: Sequence[str] = ()
    ) -> tuple[Conditioning, list[Report]]:
        """Repair B prompts, and report on each; untouched prompts keep the same tensor.

        For the arguments see `score`.

        Raises:
            Refused: minors in a sexual context, in a prompt or in what would be drawn instead.
            GuardError: the guard failed, its result is not finite, or either sense objects to what a method of
                ours has made at full strength; there must be no picture.
            Unread: a text that the reader cannot read, and no directions that could judge it.
        """
        before = self.score(conditioning, weights=weights, wholes=wholes)
        self._check_read(before)
        asked: Sequence[Weights] = weights or [()] * len(before)
        strength = self.options.strength
        with _failing_closed("sanitizing"):
            acts = strength > 0 and bool(self.safeguard.concerned(conditioning, before, self.context))
        if not acts and not any(asked):
            return conditioning, [Report(sheet, sheet, 0.0) for sheet in before]
        with _failing_closed("sanitizing"):
            edited = self.safeguard.edit(conditioning, before, self.context, strength) if acts else conditioning
            treatments = [self.safeguard.treat(sheet, self.context, strength) if acts else None for sheet in before]
            moved = drifts(conditioning, edited)
            objections: list[list[str]] = [[] for _ in before]
            if strength > 0:
                final, asked, objections = weighting.filter_weights(conditioning, edited, before, asked, self.context)
            else:
                final = weigh(edited, asked)
            drifts(edited, final)  # raises where weights made it infinite
            # States that were changed under a text that stayed are no longer what that text says.
            same = zip(conditioning.prompts, final.prompts, moved, strict=True)
            after = self._judge(final, "none", [old == new and drift > 0 for old, new, drift in same])
            sexual = [any(both) for both in zip(self._sexual(before), self._sexual(after), strict=True)]
        refuse(final.prompts, sexual)
        columns = zip(before, after, moved, asked, map(tuple, objections), treatments, strict=True)
        return final, [Report(*column) for column in columns]

    def _judge(self, conditioning: Conditioning, causes: Causes, edited: Sequence[bool] = ()) -> list[ScoreSheet]:
        """Join the sheets of both senses; the reader's come with their causes where these are asked for.

        Where a prompt's states were `edited`, and not its text, directions judge alone where they know the concept.
        """
        context = self.context
        readings = context.read(conditioning.prompts)
        read = text.read_sheets(context.reader, readings, context.readable, causes)
        reliefs = [context.relief(reading) for reading in readings]
        scorer = context.scorer_or_none
        seen = scorer.score(conditioning, reliefs) if scorer else empty_sheets(conditioning)
        columns = zip(read, seen, list(edited) or [False] * len(seen), strict=True)
        found = []
        for own, sheet, changed in columns:
            blind = [name for name in own.concepts if name not in sheet.concepts]
            heard = own.only(blind) if changed else own
            found.append(sheet if changed and not blind else text.join_senses(heard, sheet))
        return found

    def _sexual(self, sheets: Sequence[ScoreSheet]) -> list[bool]:
        """Tell of each prompt whether either sense flags it as sexual, whichever concepts are active."""
        if NUDITY in self.names:
            return [sheet.concepts[NUDITY].flagged for sheet in sheets]
        readings = self.context.reader.read([sheet.prompt for sheet in sheets])
        return [any(span.concept == NUDITY for span in reading.spans) for reading in readings]

    def _with_causes(self, sheet: ScoreSheet, causes: Causes) -> ScoreSheet:
        """Add causes by directions under the concepts that those alone flag, or that the reader lacks."""
        context = self.context
        names = self.names if causes == "all" else sheet.flagged_concepts()
        reached = {name for word in sheet.words for name in word.causes}
        known = context.scorer_or_none.names if context.scorer_or_none else ()
        left = [name for name in names if name in known and name not in reached]
        return attribution.with_causes(sheet, left, context.scorer, context.family.encode_words) if left else sheet

    def _check_read(self, sheets: Sequence[ScoreSheet]) -> None:
        """Refuse text that nothing at work can judge.

        Raises:
            Unread: the reader cannot read it, and not every active concept has directions.
        """
        directions = self.context.scorer_or_none
        judged = directions is not None and set(self.names) <= set(directions.names)
        if self.options.strength == 0 or judged or self.options.unread == "draw":
            return
        for sheet in sheets:
            if not sheet.legible:
                raise Unread(
                    f"the guard cannot read this text: {' '.join(sheet.unread)[:80]}",
                    "Write it in English, learn directions for this model (safegen directions learn), "
                    "or draw it unread: --unread draw.",
                )


def refuse(texts: Sequence[str], sexual: Sequence[bool]) -> None:
    """Refuse minors in a sexual context, by what was found in the prompts as much as by their words.

    Raises:
        Refused: one of them is that.
    """
    for one, flagged in zip(texts, sexual, strict=False):
        refusal.check(one, sexual=flagged)


@contextlib.contextmanager
def _failing_closed(doing: str) -> Iterator[None]:
    """End whatever goes wrong inside as a `GuardError`: no result, no picture."""
    try:
        yield
    except SafegenError:
        raise
    except Exception as error:
        raise GuardError(
            f"the guard failed while {doing}: {type(error).__name__}: {error}",
            "No picture was made. If it persists, report it with the output of safegen doctor --json.",
        ) from error
