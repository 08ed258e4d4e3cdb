"""The guard: directions and a safeguard, applied to conditioning, failing closed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from safegen import safeguards, weighting
from safegen.directions import recipes, store
from safegen.directions.recipes import Concept
from safegen.errors import GuardError, SafegenError, UnknownConcept, Unread, UsageError
from safegen.files import located
from safegen.learning import ensure
from safegen.progress import NOBODY, Teller
from safegen.prompts import refusal
from safegen.reader import Reader
from safegen.reader import sheets as reader_sheets
from safegen.scoring import attribution
from safegen.scoring.scorer import Intense, Scorer, unscored, with_intensities

if TYPE_CHECKING:
    from safegen.conditioning import Conditioning
    from safegen.directions.direction import Direction
    from safegen.families import Family
    from safegen.families.windows import Passage
    from safegen.prompts.emphasis import Weight
    from safegen.safeguards import Tools
    from safegen.scoring.scores import ScoreSheet

Causes = Literal["none", "flagged", "all"]
OnUnread = Literal["refuse", "draw"]
NUDITY = "nudity"  # always loaded: the one refusal depends on it
MAX_STRENGTH = 1.5


def checked(strength: float) -> float:
    """The strength, once it is known to be in range.

    Raises:
        UsageError: it is not, or is no number.
    """
    if not 0 <= strength <= MAX_STRENGTH:
        raise UsageError(f"strength {strength} is outside 0 to {MAX_STRENGTH}", "1 is the default.")
    return strength


@dataclass(frozen=True)
class Report:
    """What the guard found and did in one prompt."""

    before: ScoreSheet
    after: ScoreSheet
    drift: float  # 1 - cosine between the prompt's states before and after; exactly 0 when untouched
    weights: tuple[Weight, ...] = ()  # that it is drawn with, counted in the text of `after`
    objections: tuple[str, ...] = ()  # the concepts under which it could not be drawn with its weights

    @property
    def sanitized(self) -> bool:
        return self.drift > 0

    @property
    def status(self) -> str:
        """What its picture is recorded as: `ok` where nothing was changed, `flagged` where that was not enough."""
        return "ok" if not self.sanitized else "flagged" if self.after.flagged else "sanitized"

    @property
    def rewritten(self) -> str:
        """The text that the repaired embedding is the encoding of; empty where the text stayed."""
        return self.after.prompt if self.after.prompt != self.before.prompt else ""


class Guard:
    """Scores prompts and repairs those over the line.

    Args:
        names: active concepts; all standard ones when empty.
        strength: 0 leaves everything as it is, 1 is the default, up to 1.5; `localise` has nothing stronger than 1.
        safeguard: name of the method.
        folder: the user's own concepts, one folder each.
        unread: what becomes of text that the reader cannot read and no directions can judge: `refuse` or `draw`.

    Raises:
        UnknownConcept: a name has no recipe.
        UsageError: a strength outside its range, or an unknown safeguard.
    """

    def __init__(
        self,
        names: Sequence[str] = (),
        *,
        strength: float = 1.0,
        safeguard: str = safeguards.DEFAULT,
        folder: str | Path | None = None,
        unread: OnUnread = "refuse",
    ) -> None:
        self.folder = None if folder is None else located(folder)
        known = recipes.known(self.folder)
        self.names = tuple(dict.fromkeys(names)) or tuple(known)
        for name in self.names:
            if name not in known:
                raise UnknownConcept(name, known)
        if unread not in get_args(OnUnread):
            raise UsageError(f"unread {unread!r} is not known", f"One of: {', '.join(get_args(OnUnread))}.")
        self.strength, self.unread = checked(strength), unread
        self.safeguard = safeguards.create(safeguard)
        self.directions: Mapping[str, Mapping[str, Direction]] = {}  # by concept and channel
        self.tools: Tools | None = None  # of the model that the guard is bound to
        self.last: list[Report] = []
        self._held: set[contextlib.ExitStack] = set()  # what is attached for good

    @classmethod
    def load(
        cls,
        *names: str,
        strength: float = 1.0,
        safeguard: str = safeguards.DEFAULT,
        folder: str | Path | None = None,
        unread: OnUnread = "refuse",
    ) -> Guard:
        """A guard by the names of its concepts; it takes up a model's encoder when it is bound to one."""
        return cls(names, strength=strength, safeguard=safeguard, folder=folder, unread=unread)

    def bind(self, family: Family, teller: Teller = NOBODY) -> None:
        """Take up the reader, and the directions that there are for this encoder.

        Nothing is learned for a concept that the reader knows: without directions it is guarded by text alone,
        and the teller hears of it. A concept of the user's own that has no directions yet is learned, and cached.

        Raises:
            ReaderError: the reader is missing or damaged.
            DirectionError: a file cannot be trusted, lacks what the safeguard needs, or what was learned is
                too poor to use.
            UsageError: the safeguard cannot work on this family.
        """
        reader = Reader.load()
        found, missing = store.available(self.names, family, self.folder)
        unknown = [name for name in missing if name not in reader.concepts]
        found |= ensure.resolve(unknown, family, self.folder, teller) if unknown else {}
        if alone := [name for name in missing if name in reader.concepts]:
            teller.say(
                f"no directions for this encoder under {', '.join(alone)}: the prompt's text alone is judged there; "
                "safegen directions learn, with this --model, adds what the encoder makes of it"
            )
        concepts = {name: Concept.load(name, self.folder) for name in self.names}
        scorer = Scorer.of(found, [name for name in self.names if name in found]) if found else None
        tools = safeguards.Tools(reader, scorer, family, concepts, self.folder)
        self.safeguard.check(tools)
        self.tools, self.directions = tools, found

    @property
    def hashes(self) -> dict[str, str]:
        """The hash of every direction file, by its concept, or by concept/channel where there are several."""
        return {
            name if len(some) == 1 else f"{name}/{channel}": direction.sha256
            for name, some in self.directions.items()
            for channel, direction in some.items()
        }

    def score(
        self, conditioning: Conditioning, causes: Causes = "none", passages: Sequence[Passage] = ()
    ) -> list[ScoreSheet]:
        """Sheets for every prompt.

        Args:
            conditioning: the prompts, encoded by the model that the guard is bound to.
            causes: find every word's cause under no concept, under the `flagged` ones, or under `all`.
            passages: what of which prompt every row is, where it is not a prompt of its own.

        Raises:
            Refused: minors in a sexual context.
            GuardError: a prompt could not be scored.
        """
        tools = self.bound
        with _closed("scoring"):
            sheets = self._judged(conditioning, causes)
        wholes = [passage.prompt for passage in passages] or conditioning.prompts
        for sheet, whole, sexual in zip(sheets, wholes, self._sexual(sheets), strict=True):
            for text in {sheet.prompt, whole}:
                refusal.check(text, sexual=sexual)
        sheets = [weighting.shown(s, p.weights) for s, p in zip(sheets, passages, strict=True)] if passages else sheets
        if isinstance(self.safeguard, Intense) and tools.directions:
            with _closed("scoring"):
                sheets = with_intensities(sheets, conditioning, self.safeguard, tools.scorer)
        if causes == "none":
            return sheets
        with _closed("finding causes"):
            return [self._caused(sheet, causes) for sheet in sheets]

    def _judged(self, conditioning: Conditioning, causes: Causes, edited: Sequence[bool] = ()) -> list[ScoreSheet]:
        """The sheets of both senses, joined; the reader's with its causes where they are asked for.

        A prompt whose states were `edited`, and not its text, is judged by directions alone.
        """
        tools = self.bound
        readings = tools.read(conditioning.prompts)
        read = [reader_sheets.sheet_of(tools.reader, reading, tools.readable) for reading in readings]
        if causes != "none":
            read = reader_sheets.completed(tools.reader, read)
            read = reader_sheets.with_causes(tools.reader, read, every=causes == "all")
        calm = [tools.calm(reading) for reading in readings]
        seen = tools.directions.score(conditioning, calm) if tools.directions else unscored(conditioning)
        edited = list(edited) or [False] * len(seen)
        columns = zip(read, seen, edited, strict=True)
        return [sheet if changed else reader_sheets.joined(text, sheet) for text, sheet, changed in columns]

    def _sexual(self, sheets: Sequence[ScoreSheet]) -> list[bool]:
        """Per prompt, whether either sense flags it as sexual; nudity is watched for even when it is not active."""
        if NUDITY in self.names:
            return [sheet.concepts[NUDITY].flagged for sheet in sheets]
        reader = self.bound.reader
        readings = reader.read([sheet.prompt for sheet in sheets])
        return [any(span.concept == NUDITY for span in reading.spans) for reading in readings]

    def _caused(self, sheet: ScoreSheet, causes: Causes) -> ScoreSheet:
        """The sheet with causes by directions under the concepts that those alone flag, or that the reader lacks."""
        tools = self.bound
        names = self.names if causes == "all" else sheet.open_gates()
        reached = {name for word in sheet.words for name in word.causes}
        left = [name for name in names if tools.directions and name in tools.directions.names and name not in reached]
        return attribution.with_causes(sheet, left, tools.scorer, tools.family.encode_words) if left else sheet

    def sanitize(
        self, conditioning: Conditioning, passages: Sequence[Passage] = ()
    ) -> tuple[Conditioning, list[Report]]:
        """Repaired conditioning and a report per prompt; untouched prompts keep the same tensor.

        Args:
            conditioning: the prompts, encoded by the model that the guard is bound to.
            passages: what of which prompt every row is, and the weights that its words are to have.

        Raises:
            Refused: minors in a sexual context.
            GuardError: the guard failed, its result is not finite, or either sense objects to what a method of
                ours has made at full strength; there must be no picture.
            Unread: a text that the reader cannot read, and no directions that could judge it.
        """
        before = self.score(conditioning, passages=passages)
        self._check_read(before)
        weights = [passage.weights for passage in passages] or [()] * len(before)
        acts = self.strength > 0 and any(sheet.flagged for sheet in before)
        if not acts and not any(weights):
            self.last = [Report(sheet, sheet, 0.0) for sheet in before]
            return conditioning, self.last
        with _closed("sanitizing"):
            tools, edited = self.bound, conditioning
            if acts:
                edited = self.safeguard.edit(conditioning, before, tools, self.strength)
            drifts = _drifts(conditioning, edited)
            objections: list[list[str]] = [[] for _ in before]
            if self.strength > 0:
                final, weights, objections = weighting.guarded(conditioning, edited, before, weights, tools)
            else:
                final = weighting.weighted(edited, weights)
            _drifts(edited, final)
            # States that were changed under a text that stayed are no longer what that text says.
            same = zip(conditioning.prompts, final.prompts, drifts, strict=True)
            after = self._judged(final, "none", [old == new and drift > 0 for old, new, drift in same])
        columns = zip(before, after, drifts, weights, map(tuple, objections), strict=True)
        self.last = [Report(*column) for column in columns]
        return final, self.last

    def _check_read(self, sheets: Sequence[ScoreSheet]) -> None:
        """Refuse text that nothing at work can judge.

        Raises:
            Unread: the reader cannot read it, and not every active concept has directions.
        """
        tools = self.bound
        judged = tools.directions is not None and set(self.names) <= set(tools.directions.names)
        if self.strength == 0 or judged or self.unread == "draw":
            return
        for sheet in sheets:
            if not sheet.legible:
                words = " ".join(sheet.unread)
                raise Unread(
                    f"the guard cannot read this text: {words[:80]}",
                    "Write it in English, learn directions for this model (safegen directions learn), "
                    "or draw it unread: --unread draw.",
                )

    @property
    def bound(self) -> Tools:
        """The tools for the model that the guard is bound to.

        Raises:
            GuardError: it is bound to none.
        """
        if self.tools is None:
            raise GuardError("the guard is not bound to a model", "Attach it to a pipeline, or load a Generator.")
        return self.tools

    @contextlib.contextmanager
    def attached(self, pipe: Any) -> Iterator[Guard]:
        """**Changes `pipe` while the context lasts**: its `encode_prompt` returns repaired embeddings.

        The sheets of the last call are in `last`. Leaving the context restores the pipeline.

        Raises:
            ModelError: the pipeline is of an unsupported class.
            DirectionError: there is no usable direction for its encoder.
        """
        from safegen.families import family_of

        family = family_of(pipe)
        self.bind(family)

        def repair(conditioning: Conditioning) -> Conditioning:
            if self.bound.family is not family:  # it was bound to another pipeline since
                self.bind(family)
            return self.sanitize(conditioning)[0]

        with family.intercepted(repair):
            yield self

    def attach(self, pipe: Any) -> Callable[[], None]:
        """**Changes `pipe` for good**, as `attached` does for a while; call what comes back to detach.

        Raises:
            ModelError, DirectionError: see `attached`.
        """
        stack = contextlib.ExitStack()
        stack.enter_context(self.attached(pipe))
        # The pipeline holds the guard, and the guard this: a context that nobody holds would end by itself.
        self._held.add(stack)
        stack.callback(self._held.discard, stack)
        return stack.close


@contextlib.contextmanager
def _closed(doing: str) -> Iterator[None]:
    """Whatever goes wrong inside ends as a `GuardError`: no result, no picture."""
    try:
        yield
    except SafegenError:
        raise
    except Exception as error:
        raise GuardError(
            f"the guard failed while {doing}: {type(error).__name__}: {error}",
            "No picture was made. If it persists, report it with the output of --json.",
        ) from error


def _drifts(before: Conditioning, after: Conditioning) -> list[float]:
    import torch

    drifts = torch.zeros(len(before.prompts))
    for name, channel in before.channels.items():
        length = max(channel.states.shape[1], after.channels[name].states.shape[1])
        old, new = (c.padded(length).states.float().flatten(1) for c in (channel, after.channels[name]))
        if not bool(torch.isfinite(new).all()):
            raise GuardError("the sanitized embedding is not finite", "No picture was made; try a lower --strength.")
        cosine = torch.nn.functional.cosine_similarity(old.double(), new.double()).cpu()
        same = (old == new).all(1).cpu()
        drifts = torch.maximum(drifts, torch.where(same, 0.0, (1 - cosine).clamp(min=1e-9)).float())
    return drifts.tolist()
