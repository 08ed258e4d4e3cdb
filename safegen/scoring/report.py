"""The report: what the guard found and did in one prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from safegen.errors import GuardError
from safegen.prompts.prompt import lay_out
from safegen.scoring.scores import ScoreSheet

if TYPE_CHECKING:
    from safegen.conditioning import Conditioning
    from safegen.families.weights import Weights


@dataclass(frozen=True)
class Treatment:
    """What a safeguard does to one picture while it is drawn.

    Attributes:
        safeguard: its name.
        strength: more than 0.
        concepts: those that flag the prompt, the farthest over first.
        phrases: harmful ones of their recipes, the nearest to the prompt first.
        rest: the prompt without the words that are flagged.
        facts: what else records say of it, ready for JSON.
    """

    safeguard: str
    strength: float
    concepts: tuple[str, ...]
    phrases: tuple[str, ...]
    rest: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def joined(self, others: Sequence[Treatment]) -> Treatment:
        """Join the treatments of a prompt's windows into one."""
        concepts, phrases = (
            tuple(dict.fromkeys(name for one in (self, *others) for name in getattr(one, part)))
            for part in ("concepts", "phrases")
        )
        rest = " ".join(one.rest for one in (self, *others))
        return replace(self, concepts=concepts, phrases=phrases, rest=rest)

    def as_json(self) -> dict[str, Any]:
        """Give what records say of it; what the recipes' phrases are depends on the prompt, so they stay out."""
        return {"concepts": list(self.concepts), **self.facts}


@dataclass(frozen=True)
class Report:
    """The report on one prompt: what the guard found and did."""

    before: ScoreSheet
    after: ScoreSheet
    drift: float  # 1 - cosine between the prompt's states before and after; exactly 0 where nothing was edited
    weights: Weights = ()  # the weights that it is drawn with, with spans in the text of `after`
    objections: tuple[str, ...] = ()  # the concepts under which it could not be drawn with its weights
    treatment: Treatment | None = None  # what is done while it is drawn

    @property
    def sanitized(self) -> bool:
        """Whether anything is done about the prompt: to its states, or while it is drawn."""
        return self.drift > 0 or self.treatment is not None

    @property
    def status(self) -> str:
        """The picture's status in records.

        `ok` if nothing was edited, even of a flagged prompt; `flagged` if it is so after the edit; else `sanitized`.
        """
        return "ok" if not self.sanitized else "flagged" if self.after.flagged else "sanitized"

    @property
    def rewritten(self) -> str:
        """The text whose encoding the repaired embedding is; empty where the text stayed."""
        return self.after.prompt if self.after.prompt != self.before.prompt else ""

    @staticmethod
    def merged(reports: Sequence[Report], gaps: Sequence[str]) -> Report:
        """Merge the reports on a prompt's windows into one; for `gaps` see `ScoreSheet.merged`."""
        if len(reports) == 1:
            return reports[0]
        before, after = ([getattr(report, name) for report in reports] for name in ("before", "after"))
        _, starts = lay_out([sheet.prompt for sheet in after], gaps)
        treated = [report.treatment for report in reports if report.treatment is not None]
        return Report(
            ScoreSheet.merged(before, gaps),
            ScoreSheet.merged(after, gaps),
            max(report.drift for report in reports),
            tuple(w.moved(start) for report, start in zip(reports, starts, strict=True) for w in report.weights),
            tuple(dict.fromkeys(name for report in reports for name in report.objections)),
            treated[0].joined(treated[1:]) if treated else None,
        )


def drifts(before: Conditioning, after: Conditioning) -> list[float]:
    """Measure how far every prompt's states moved, as 1 - cosine; 0 where every bit is the same.

    Raises:
        GuardError: the new states are not finite.
    """
    import torch

    moved = torch.zeros(len(before.prompts))
    for name, channel in before.channels.items():
        length = max(channel.states.shape[1], after.channels[name].states.shape[1])
        old, new = (c.padded(length).states.float().flatten(1) for c in (channel, after.channels[name]))
        if not bool(torch.isfinite(new).all()):
            raise GuardError("the sanitized embedding is not finite", "No picture was made; try a lower --strength.")
        cosine = torch.nn.functional.cosine_similarity(old.double(), new.double()).cpu()
        same = (old == new).all(1).cpu()
        moved = torch.maximum(moved, torch.where(same, 0.0, (1 - cosine).clamp(min=1e-9)).float())
    return moved.tolist()
