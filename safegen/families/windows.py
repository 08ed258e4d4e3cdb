"""Passages: what of a prompt each window of an encoder reads, and the windows put together again.

A prompt that one window holds is one passage and goes the way of any other. A longer one becomes several,
side by side, as the web UIs do it (and `lpw_stable_diffusion` among diffusers' community pipelines); its
pooled vector is the first passage's. Every passage is encoded, scored and repaired as a prompt of its own:
averaged over a long prompt, a harmful word would be lost among the others.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from safegen.prompts.emphasis import Weight

if TYPE_CHECKING:
    from safegen.conditioning import Conditioning
    from safegen.families import Family
    from safegen.families.outputs import Reading
    from safegen.guard import Report
    from safegen.prompts.prompt import Prompt
    from safegen.scoring.scores import ScoreSheet

Span = tuple[int, int]


@dataclass(frozen=True)
class Passage:
    """What one window reads of a prompt; the weights are counted from the passage's own beginning."""

    prompt: str
    span: Span
    weights: tuple[Weight, ...] = ()

    @property
    def text(self) -> str:
        return self.prompt[slice(*self.span)]


@dataclass(frozen=True)
class Passages:
    """Prompts as a model reads them.

    Attributes:
        conditioning: one row for every passage, prompt after prompt.
        prompts: the passages of every prompt.
    """

    conditioning: Conditioning
    prompts: tuple[tuple[Passage, ...], ...]

    @classmethod
    def of(cls, prompts: Sequence[Prompt], family: Family) -> Passages:
        """The prompts encoded, in as many windows as they need and the family has."""
        found = tuple(tuple(_passages(prompt, family)) for prompt in prompts)
        return cls(family.encode([passage.text for some in found for passage in some]), found)

    @property
    def rows(self) -> list[Passage]:
        """All passages, in the order of the conditioning's rows."""
        return [passage for some in self.prompts for passage in some]

    @property
    def weights(self) -> list[tuple[Weight, ...]]:
        """Those of every passage."""
        return [passage.weights for passage in self.rows]

    def only(self, index: int) -> Passages:
        """One prompt."""
        start, end = self._parts()[index]
        rows = [self.conditioning.only(row) for row in range(start, end)]
        return Passages(rows[0].joined(rows[1:]), (self.prompts[index],))

    def abreast(self, conditioning: Conditioning) -> list[Conditioning]:
        """Per prompt, its passages side by side along T.

        Args:
            conditioning: one row for every passage, as it was or repaired.
        """
        joined = []
        for (start, end), some in zip(self._parts(), self.prompts, strict=True):
            rows = [conditioning.only(row) for row in range(start, end)]
            whole, starts = _laid([row.prompts[0] for row in rows], some)
            joined.append(rows[0].abreast(rows[1:], whole, starts) if len(rows) > 1 else rows[0])
        return joined

    def sheets(self, sheets: Sequence[ScoreSheet]) -> list[ScoreSheet]:
        """Per prompt, the sheets of its passages as one."""
        return [_sheet(sheets[start:end], some) for (start, end), some in zip(self._parts(), self.prompts, strict=True)]

    def reports(self, reports: Sequence[Report]) -> list[Report]:
        """Per prompt, the reports on its passages as one."""
        return [
            _report(reports[start:end], some) for (start, end), some in zip(self._parts(), self.prompts, strict=True)
        ]

    def _parts(self) -> list[Span]:
        ends = [0]
        for some in self.prompts:
            ends.append(ends[-1] + len(some))
        return list(itertools.pairwise(ends))


def cut(text: str, readings: Sequence[Reading], most: int) -> list[Span]:
    """Where the windows of a text begin and end.

    Args:
        text: any.
        readings: the encoders' outputs; what fits, fits into the window of each.
        most: as many windows at most; what does not fit into the last one is left to it.
    """
    spans: list[Span] = []
    start = 0
    while len(spans) < most - 1 and not _fits(text[start:], readings):
        end = start + _border(text[start:], readings)
        spans.append((start, start + len(text[start:end].rstrip())))
        start = end + len(text[end:]) - len(text[end:].lstrip())
    return [*spans, (start, len(text))]


def _passages(prompt: Prompt, family: Family) -> list[Passage]:
    found = []
    for start, end in cut(prompt.text, family.readings, family.windows):
        found.append(Passage(prompt.text, (start, end), weights_in(prompt.weights, (start, end))))
    return found


def weights_in(weights: Sequence[Weight], span: Span) -> tuple[Weight, ...]:
    """Cut a text's weights to a part of it, and count them from its beginning."""
    start, end = span
    inside = [w for w in weights if w.span[0] < end and w.span[1] > start]
    return tuple(Weight((max(w.span[0], start), min(w.span[1], end)), w.value).moved(-start) for w in inside)


def _fits(text: str, readings: Sequence[Reading]) -> bool:
    # No token is shorter than a byte, so most prompts need not be counted.
    room = min(r.window - r.tokenizer.num_special_tokens_to_add() for r in readings)
    return all(
        len(whole.encode()) <= room or len(r.tokenizer(whole, verbose=False)["input_ids"]) <= r.window
        for r, whole in ((r, r.spelled(text)) for r in readings)
    )


def _border(text: str, readings: Sequence[Reading]) -> int:
    """Where a text that fills more than a window is cut.

    Behind a comma or a full stop in the window's last quarter, else between words, else inside one.
    """
    first = readings[0]
    room = first.window - first.tokenizer.num_special_tokens_to_add()
    found = first.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    end = int(found["offset_mapping"][:room][-1][1])
    while end > 1 and not _fits(text[:end], readings):
        end -= 1
    for sign, least in ((r"[,.;:!?]\s", end * 3 // 4), (r"\s", 0)):
        borders = [match.end() for match in re.finditer(sign, text[: end + 1]) if match.end() > least]
        if borders:
            return borders[-1]
    return max(end, 1)


def _laid(texts: Sequence[str], passages: Sequence[Passage]) -> tuple[str, list[int]]:
    """The texts of a prompt's passages as one, with the gaps of the prompt, and where each begins."""
    whole, starts = texts[0], [0]
    for text, before, after in zip(texts[1:], passages, passages[1:], strict=False):
        whole += before.prompt[before.span[1] : after.span[0]]
        starts.append(len(whole))
        whole += text
    return whole, starts


def _sheet(sheets: Sequence[ScoreSheet], passages: Sequence[Passage]) -> ScoreSheet:
    """A prompt is as harmful as the worst of its passages."""
    if len(sheets) == 1:
        return sheets[0]
    whole, starts = _laid([sheet.prompt for sheet in sheets], passages)
    concepts = {
        name: max((sheet.concepts[name] for sheet in sheets), key=lambda score: score.margin)
        for name in sheets[0].concepts
    }
    moved = [sheet.moved(start, window) for window, (sheet, start) in enumerate(zip(sheets, starts, strict=True))]
    return replace(
        moved[0],
        prompt=whole,
        concepts=concepts,
        words=tuple(word for sheet in moved for word in sheet.words),
        tokens=tuple(token for sheet in moved for token in sheet.tokens),
        truncated=" ".join(sheet.truncated for sheet in moved if sheet.truncated),
        spans=tuple(span for sheet in moved for span in sheet.spans),
        unread=tuple(word for sheet in moved for word in sheet.unread),
        legible=all(sheet.legible for sheet in moved),
    )


def _report(reports: Sequence[Report], passages: Sequence[Passage]) -> Report:
    if len(reports) == 1:
        return reports[0]
    before, after = (_sheet([getattr(r, name) for r in reports], passages) for name in ("before", "after"))
    _, starts = _laid([report.after.prompt for report in reports], passages)
    return replace(
        reports[0],
        before=before,
        after=after,
        drift=max(report.drift for report in reports),
        weights=tuple(w.moved(start) for report, start in zip(reports, starts, strict=True) for w in report.weights),
        objections=tuple(dict.fromkeys(name for report in reports for name in report.objections)),
    )
