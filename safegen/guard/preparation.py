"""Prompts that may be drawn: encoded, scored and repaired together, each with what the guard found.

Nothing else leads from a prompt to what a `Generator` draws.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeVar

from safegen.errors import GuardError, SafegenError
from safegen.families.weights import weigh
from safegen.families.windows import WindowedPrompts
from safegen.guard import weighting
from safegen.prompts.prompt import Prompt, admit
from safegen.safeguards.canvas import Canvas
from safegen.safeguards.options import GuardOptions
from safegen.scoring.report import Report, Treatment
from safegen.scoring.scores import ScoreSheet

if TYPE_CHECKING:
    from safegen.conditioning import Conditioning
    from safegen.families import Family
    from safegen.guard.bound import BoundGuard
    from safegen.scoring.text import Causes

OnFlag = Literal["sanitize", "skip", "warn"]
T = TypeVar("T")


@dataclass(frozen=True)
class Prepared:
    """A prompt that may be drawn.

    Attributes:
        prompt: as the model reads it.
        plain: its conditioning as the model would draw it without a guard.
        conditioning: what is drawn; None where the prompt is skipped.
        report: what the guard found and did, where there is one.
        guard: the options of the guard that it is drawn behind, which may keep concepts out; None without a guard.
    """

    prompt: Prompt
    plain: Conditioning = field(repr=False)
    conditioning: Conditioning | None = field(repr=False)
    report: Report | None = field(repr=False)
    guard: GuardOptions | None = None

    @property
    def treatment(self) -> Treatment | None:
        """The safeguard's work while the prompt is drawn."""
        return self.report.treatment if self.report is not None and self.guard is not None else None

    @property
    def unguarded(self) -> Prepared:
        """The same without what the guard did, to compare with."""
        return replace(self, conditioning=self.plain, guard=None)


@dataclass(frozen=True)
class Preparation:
    """The way of prompts to a model: through its encoders, and the guard in front of it.

    Attributes:
        family: the model.
        guard: None prepares prompts as they are.
    """

    family: Family
    guard: BoundGuard | None

    def score(self, prompts: Sequence[Prompt], causes: Causes) -> list[ScoreSheet]:
        """Score prompts; see `BoundGuard.score`.

        Raises:
            GuardError: there is no guard, or it failed.
            Refused: minors in a sexual context.
        """
        if self.guard is None:
            raise GuardError("there is no guard to score with", "Load the generator with guarded=True.")
        read = self.encode(prompts)
        sheets = self.guard.score(read.conditioning, causes, weights=read.weights, wholes=read.wholes)
        return read.merge(sheets, ScoreSheet.merged)

    def prepare(self, prompts: Sequence[Prompt], on_flag: OnFlag) -> list[Prepared | SafegenError]:
        """Encode, score and sanitize prompts together; see `Generator.prepare`."""
        read, found = [self.as_read(prompt) for prompt in prompts], dict[int, Prepared | SafegenError]()
        for index, prompt in enumerate(read):
            try:
                admit([prompt])
            except SafegenError as error:
                found[index] = error
        left = [index for index in range(len(read)) if index not in found]
        if left:
            found |= zip(left, self._prepare([read[index] for index in left], on_flag), strict=True)
        return [found[index] for index in range(len(read))]

    def _prepare(self, prompts: Sequence[Prompt], on_flag: OnFlag) -> list[Prepared | SafegenError]:
        try:
            return list(self._behind_guard(prompts, self.encode(prompts), on_flag))
        except SafegenError as error:
            if len(prompts) == 1:
                return [error]
        # One of them made the guard fail closed; alone, each does so for itself.
        return [self._prepare([prompt], on_flag)[0] for prompt in prompts]

    def _behind_guard(self, prompts: Sequence[Prompt], read: WindowedPrompts, on_flag: OnFlag) -> Iterator[Prepared]:
        """Give what may be drawn of every prompt, by what a flagged one is to do."""
        guard, weights = self.guard, read.weights
        plain = read.abreast(weigh(read.conditioning, weights))
        if guard is None:
            for prompt, conditioning in zip(prompts, plain, strict=True):
                yield Prepared(prompt, conditioning, conditioning, None)
            return
        if on_flag == "sanitize":
            rows, row_reports = guard.sanitize(read.conditioning, weights=weights, wholes=read.wholes)
        else:
            sheets = guard.score(read.conditioning, weights=weights, wholes=read.wholes)
            if on_flag == "skip":  # what is drawn may not be harmful with its weights, either
                args = (read.conditioning, read.conditioning, sheets, weights, guard.context)
                weights = weighting.filter_weights(*args)[1]
            rows = weigh(read.conditioning, weights)
            row_reports = [Report(sheet, sheet, 0.0, own) for sheet, own in zip(sheets, weights, strict=True)]
        reports = read.merge(row_reports, Report.merged)
        for prompt, unguarded, conditioning, report in zip(prompts, plain, read.abreast(rows), reports, strict=True):
            skipped = on_flag == "skip" and report.before.flagged
            yield Prepared(prompt, unguarded, None if skipped else conditioning, report, guard.options)

    def encode(self, prompts: Sequence[Prompt]) -> WindowedPrompts:
        """Encode prompts: in several windows if the family has them, without weight marks if it obeys them."""
        return self.family.encode_windows([self.as_read(prompt) for prompt in prompts])

    def as_read(self, prompt: Prompt) -> Prompt:
        """Give the prompt with its marks of weight as text, for a model that knows no weights."""
        return prompt if self.family.weighted else prompt.verbatim

    def treating(
        self, prepared: Sequence[Prepared], guidance: float, size: tuple[int, int]
    ) -> contextlib.AbstractContextManager[None]:
        """Let the safeguard act while prepared prompts are drawn, where it has something to do.

        Raises:
            GuardError: another safeguard has prepared them.
        """
        canvas = Canvas(tuple(one.treatment for one in prepared), guidance, size)
        guard, names = self.guard, {one.safeguard for one in canvas.own.values()}
        if not names:
            return contextlib.nullcontext()
        if guard is None or names != {guard.safeguard.name}:
            raise GuardError(
                f"what {' and '.join(sorted(names))} prepared cannot be drawn behind another safeguard",
                "Draw with the generator that prepared it.",
            )
        return guard.safeguard.drawing(canvas, guard.context)


def side_by_side(prepared: Sequence[Prepared]) -> Conditioning:
    """Join what is drawn of prompts into one conditioning.

    Raises:
        GuardError: one of them is skipped, or there are none.
    """
    rows = [one.conditioning for one in prepared if one.conditioning is not None]
    if not rows or len(rows) < len(prepared):
        raise GuardError("a prompt that was skipped cannot be drawn", "Leave it out.")
    return rows[0].joined(rows[1:])


def unwrap(prepared: T | SafegenError) -> T:
    """Give the value, or raise the error that stands in its place.

    Raises:
        SafegenError: see above.
    """
    if isinstance(prepared, SafegenError):
        raise prepared
    return prepared
