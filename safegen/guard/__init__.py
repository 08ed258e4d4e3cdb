"""The guard: both senses and a safeguard, applied to a prompt, failing closed.

A `Guard` is what somebody wants guarded, and how. Bound to a model it is a `BoundGuard` (`bound.py`), which scores and
repairs what that model's encoders made of prompts.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from safegen import safeguards
from safegen.directions import recipes
from safegen.directions.recipes import Concept
from safegen.errors import UnknownConcept, UsageError
from safegen.guard.bound import NUDITY, BoundGuard, refuse
from safegen.learning import ensure
from safegen.progress import SILENT, Progress
from safegen.prompts.prompt import Prompt, clean
from safegen.reader import Reader
from safegen.safeguards.options import GuardOptions
from safegen.scoring import text
from safegen.scoring.report import Report
from safegen.scoring.scorer import Scorer
from safegen.scoring.text import Causes

if TYPE_CHECKING:
    from safegen.conditioning import Conditioning
    from safegen.families import Family
    from safegen.scoring.scores import ScoreSheet


class Guard:
    """Scores prompts and repairs those over the line.

    Args:
        concepts: the active ones; all standard ones when none is named.
        options: everything else.
        changes: fields of `GuardOptions` that are other than in `options`.

    Raises:
        UnknownConcept: a concept has no recipe.
        UsageError: see `GuardOptions`.
    """

    def __init__(self, *concepts: str, options: GuardOptions = GuardOptions(), **changes: Any) -> None:  # noqa: B008
        for name in concepts:
            if not isinstance(name, str):
                raise UsageError(f"{name!r} is not the name of a concept", 'As in Guard("violence", "hate").')
        self.options = replace(options, **{"concepts": concepts or options.concepts, **changes})
        known = recipes.known(self.options.folder)
        self.names = self.options.concepts or tuple(known)
        for name in (*self.names, *self.options.safe):
            if name not in known:
                raise UnknownConcept(name, known)
        self.last: list[Report] = []  # on the prompts of the last call of a pipeline that it is attached to
        self._attached: set[contextlib.ExitStack] = set()

    @classmethod
    def load(cls, *names: str, **changes: Any) -> Guard:
        """Do what the constructor does; the name it had in 0.1."""
        warnings.warn("Guard.load loads nothing: call Guard(...) itself", DeprecationWarning, stacklevel=2)
        return cls(*names, **changes)

    def score(self, prompts: Sequence[str | Prompt], causes: Causes = "none") -> list[ScoreSheet]:
        """Score prompts by their text alone, under the concepts that the reader knows; no model is needed.

        Args:
            prompts: one, or any number; cleaned first.
            causes: find words' causes under no concept, the `flagged` ones, or `all`.

        Raises:
            Refused: minors in a sexual context.
            ReaderError: the reader is missing or damaged.
            PromptError: see `clean`.
        """
        some = [prompts] if isinstance(prompts, str) else prompts
        ready = [prompt if isinstance(prompt, Prompt) else clean(prompt) for prompt in some]
        reader = Reader.load()
        readings = reader.read([prompt.text for prompt in ready])
        refuse([r.text for r in readings], [any(s.concept == NUDITY for s in r.spans) for r in readings])
        sheets = text.read_sheets(reader, readings, self.names, causes)
        return [sheet.with_weights(prompt.weights) for sheet, prompt in zip(sheets, ready, strict=True)]

    def bind(self, family: Family, progress: Progress = SILENT) -> BoundGuard:
        """Take up the reader, and the directions that there are for a model's encoders.

        Nothing is learned for a concept that the reader knows: without directions it is guarded by text alone,
        and `progress` hears of it. A concept of the user's own that has no directions yet is learned, and cached.

        Raises:
            ReaderError: the reader is missing or damaged.
            DirectionError: a file cannot be trusted, lacks what the safeguard needs, or what was learned is
                too poor to use.
            UsageError: the safeguard cannot work on this family.
        """
        reader, folder = Reader.load(), self.options.folder
        directions, missing = ensure.available(self.names, family, folder)
        unknown = [name for name in missing if name not in reader.concepts]
        directions |= ensure.resolve(unknown, family, folder, progress) if unknown else {}
        if alone := [name for name in missing if name in reader.concepts]:
            progress.say(
                f"no directions for this encoder under {', '.join(alone)}: the prompt's text alone is judged there; "
                "safegen directions learn, with this --model, adds what the encoder makes of it"
            )
        concepts = {name: Concept.load(name, folder) for name in self.names}
        names = [name for name in self.names if name in directions]
        scorer = Scorer.of(directions, names) if directions else None
        context = safeguards.SafeguardContext(reader, scorer, family, concepts, folder)
        safeguard = safeguards.create(self.options.safeguard)  # only now: most of them import torch
        safeguard.check(context)
        return BoundGuard(self.options, self.names, safeguard, context, directions)

    @contextlib.contextmanager
    def attached(self, pipe: Any) -> Iterator[Guard]:
        """**Changes `pipe` while the context lasts**: its `encode_prompt` returns repaired embeddings.

        The reports on the last call are in `last`. Leaving the context restores the pipeline.

        Raises:
            ModelError: the pipeline is of an unsupported class.
            DirectionError: there is no usable direction for its encoder.
            UsageError: the safeguard acts while pictures are drawn, which only a `Generator` lets it do.
        """
        from safegen.families import family_of, intercepted

        family = family_of(pipe)
        bound = self.bind(family)
        if bound.safeguard.while_drawing:
            raise UsageError(
                f"{bound.safeguard.name} acts while a picture is drawn, so a guard with it cannot be attached",
                "Draw with safegen.Generator(pipe, guard), or attach another --safeguard.",
            )

        def repair(conditioning: Conditioning) -> Conditioning:
            repaired, self.last = bound.sanitize(conditioning)
            return repaired

        with intercepted(pipe, family, repair):
            yield self

    def attach(self, pipe: Any) -> Callable[[], None]:
        """**Changes `pipe` for good**, as `attached` does for a while; call what comes back to detach.

        Raises:
            ModelError, DirectionError: see `attached`.
        """
        stack = contextlib.ExitStack()
        stack.enter_context(self.attached(pipe))
        # The pipeline holds the guard, and the guard this: a context that nobody holds would end by itself.
        self._attached.add(stack)
        stack.callback(self._attached.discard, stack)
        return stack.close
