"""The flow as one object: a pipeline loaded once, a guard, and pictures with their records.

Every door goes through `prepare` and `draw`: nothing else leads from a text to a picture, but a
pipeline of your own with a guard attached (`guard/`).
"""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safegen import records
from safegen.errors import NotFinite, SafegenError
from safegen.families import family_of, sizes
from safegen.families.pictured import check_from_text
from safegen.families.rendering import OnStep, render
from safegen.families.windows import WindowedPrompts
from safegen.files import readable
from safegen.guard import Guard
from safegen.guard.bound import BoundGuard
from safegen.guard.preparation import OnFlag, Preparation, Prepared, side_by_side, unwrap
from safegen.models import adapters, defaults, loading, notes
from safegen.models.options import DrawOptions, LoadOptions, part_of, seeds_from
from safegen.progress import SILENT, Progress
from safegen.prompts import emphasis
from safegen.prompts.prompt import Prompt, clean
from safegen.records import Picture, Record
from safegen.safeguards.options import GuardOptions
from safegen.safeguards.steering import Steerer
from safegen.scoring.report import Report
from safegen.scoring.scores import ScoreSheet

if TYPE_CHECKING:
    from PIL import Image

    from safegen.scoring.text import Causes


class Generator:
    """A loaded model with a guard in front of it.

    Args:
        pipe: a diffusers pipeline of a supported family; a modular one draws in its classic form.
        guard: None draws unguarded, and every record says so.
        model: the name that records carry.
        progress: told what has to be learned for this encoder first, and the figures that it reached.
        added: textual inversions and LoRAs that the pipeline was loaded with, as records name them.
        folder: the folder of the user's own attributes, where there is no guard that knows it.
    """

    def __init__(
        self,
        pipe: Any,
        guard: Guard | None,
        model: str = "custom",
        progress: Progress = SILENT,
        added: Sequence[Mapping[str, Any]] = (),
        folder: Path | None = None,
    ) -> None:
        self.family = family_of(pipe)
        check_from_text(self.family.pipe)
        self.pipe, self.model, self.added = self.family.pipe, model, tuple(added)
        self.guard: BoundGuard | None = guard.bind(self.family, progress) if guard is not None else None
        self.steerer = Steerer(self.family, guard.options.folder if guard is not None else folder)

    @classmethod
    def load(
        cls,
        model: str | LoadOptions = LoadOptions(),  # noqa: B008
        guard: GuardOptions = GuardOptions(),  # noqa: B008
        progress: Progress = SILENT,
        **changes: Any,
    ) -> Generator:
        """Load a model and the directions of the active concepts (all, when none is named).

        Args:
            model: its name, or how to load it.
            guard: what to guard against, and how.
            progress: see the class.
            changes: fields of `LoadOptions` and `GuardOptions` that are other than there.
        """
        how = replace(LoadOptions(model) if isinstance(model, str) else model, **part_of(LoadOptions, changes))
        guard = replace(guard, **{name: value for name, value in changes.items() if not hasattr(how, name)})
        wanted = Guard(options=guard) if guard.guarded else None
        pipe = loading.load(how)
        added = [addition.as_json() for addition in adapters.list_additions(how.embeddings, how.loras)]
        return cls(pipe, wanted, how.model, progress, added, guard.folder)

    def behind(self, guard: Guard) -> Generator:
        """Put the same model behind another guard."""
        return Generator(self.pipe, guard, self.model, added=self.added)

    def score(self, prompts: Sequence[str], causes: Causes = "none") -> list[ScoreSheet]:
        """Score prompts, cleaned first; nothing is drawn. For `causes` see `BoundGuard.score`.

        Raises:
            Refused, GuardError, PromptError: see `BoundGuard.score` and `clean`.
        """
        return self.preparation.score([clean(prompt) for prompt in prompts], causes)

    def prepare(self, prompts: Sequence[Prompt], on_flag: OnFlag = "sanitize") -> list[Prepared | SafegenError]:
        """Encode, score and sanitize prompts together; whatever fails, fails for its own prompt.

        Args:
            prompts: cleaned ones.
            on_flag: what to do with a flagged prompt: `sanitize` it, `skip` it, or `warn` and draw it as it is.
        """
        return self.preparation.prepare(prompts, on_flag)

    @property
    def preparation(self) -> Preparation:
        """The way of prompts to what is drawn."""
        return Preparation(self.family, self.guard)

    def encode(self, prompts: Sequence[Prompt]) -> WindowedPrompts:
        """Encode prompts: in several windows if the family has them, without weight marks if it obeys them."""
        return self.preparation.encode(prompts)

    def draw(
        self, prepared: Sequence[Prepared], options: DrawOptions, seeds: Sequence[int], on_step: OnStep | None = None
    ) -> list[Image.Image | None]:
        """Draw one picture per prepared prompt, each from its own seed on the CPU.

        None stands for a picture that is not finite. A picture depends on how many are drawn together,
        by the rounding of kernels (about 1e-6 of the pixel range), and on nothing else of its batch.
        """
        drawn = side_by_side(prepared)
        steps, guidance, size = self.resolve(options)
        call = self.family.drawing.call(options.beginning, size, steps, seeds)
        pairs = zip(prepared, seeds, strict=True)
        pushes = [self.steerer.of(one.prompt.text, options.fair, seed, one.guard).pushes for one, seed in pairs]
        negative = emphasis.parse(options.negative, weights=False).text
        with self.preparation.treating(prepared, guidance, size):
            return render(self.family, call, drawn, negative, guidance, steps, seeds, pushes, on_step)

    def generate(
        self,
        prompt: str | Prompt,
        options: DrawOptions | None = None,
        *,
        images: int = 1,
        on_step: OnStep | None = None,
    ) -> tuple[list[Picture], Report | None]:
        """Score, sanitize, draw: `images` pictures with consecutive seeds, and the guard's report.

        Raises:
            Refused, GuardError, PromptError: there is nothing to draw, see `BoundGuard.sanitize` and `clean`.
            NotFinite: latents or picture are not finite.
        """
        (prepared,) = self.prepare([prompt if isinstance(prompt, Prompt) else clean(prompt)])
        return self.pictures(unwrap(prepared), options or DrawOptions(), images, on_step)

    def pictures(
        self, prepared: Prepared, options: DrawOptions, images: int = 1, on_step: OnStep | None = None
    ) -> tuple[list[Picture], Report | None]:
        """Draw a prepared prompt with consecutive seeds; a first seed that is not given is random.

        Raises:
            UsageError: seeds beyond the last.
            NotFinite: latents or picture are not finite.
        """
        pictures = []
        for seed in seeds_from(options.seed, images):
            start = time.perf_counter()
            (image,) = self.draw([prepared], options, [seed], on_step)
            if image is None:
                raise NotFinite("the picture is not finite (NaN or infinite values)", "Try another dtype or model.")
            record = self.record(prepared.prompt, options, seed, prepared.report, time.perf_counter() - start)
            pictures.append(Picture(image, seed, record))
        return pictures, prepared.report

    @property
    def called(self) -> str:
        """The model's name in records: of a path, what comes last."""
        return readable(Path(self.model).name if Path(self.model).exists() else self.model)

    def record(self, prompt: Prompt, options: DrawOptions, seed: int, report: Report | None, seconds: float) -> Record:
        """Put down what is kept of one picture."""
        steps, guidance, size = self.resolve(options)
        guard, prompt = self.guard, self.preparation.as_read(prompt)
        latent = self.steerer.of(prompt.text, options.fair, seed, guard.options if guard else None).facts
        beginning = options.beginning
        begun = {} if beginning is None else beginning.as_json(self.family.drawing.strength(beginning))
        return Record(
            id=prompt.id,
            text=prompt.own,
            negative=options.negative,
            seed=seed,
            steps=steps,
            guidance=guidance,
            size=size,
            scheduler=type(self.pipe.scheduler).__name__,
            model=self.called,
            status=report.status if report else "ok",
            guard={**(guard.facts if guard else records.UNGUARDED), **records.findings(prompt, report)},
            input=begun,
            latent=latent,
            additions=self.added,
            created=records.now(),
            seconds=round(seconds, 3),
            versions=records.versions(),
        )

    def resolve(self, options: DrawOptions) -> tuple[int, float, tuple[int, int]]:
        """Give steps, guidance and (width, height) in pixels after defaults.

        Without a size, a picture is as large as the one that it is drawn from, see `sizes.like`.

        Raises:
            UsageError: a value that the model cannot use, or a picture that it cannot draw from.
            ModelError: the model has nothing to draw with, or no place for the latent directions that are asked for.
            DirectionError: there is no latent direction of what is asked for.
        """
        self.steerer.check(options.fair, self.guard.options if self.guard else None)
        own, side = self.wanted, self.family.size
        guidance = own.guidance if options.guidance is None else options.guidance
        steps, size = options.steps or own.steps, options.size or (side, side)
        if (beginning := options.beginning) is not None:
            self.family.drawing.steps(beginning, steps)
            size = options.size or self.family.drawing.size(beginning)
        sizes.check(*size, self.family.step, type(self.pipe).__name__)
        return steps, guidance, size

    @functools.cached_property
    def wanted(self) -> defaults.Defaults:
        """Steps and guidance where options have none."""
        return defaults.of(self.family, self.model)

    def weightless(self, prompts: Iterable[Prompt], negative: str = "") -> list[str]:
        """Say in one line that this model knows no weights, where a prompt asks for some."""
        return notes.weightless(self.family, prompts, negative)

    def notes(self, options: DrawOptions, prompts: Iterable[Prompt] = ()) -> list[str]:
        """Say in one line each what people should know: what is not read, was assumed, and is out of range."""
        return notes.before_drawing(self.family, self.model, self.wanted, options, prompts)


def __getattr__(name: str) -> Any:
    if name == "Settings":  # its name in 0.1
        warnings.warn("safegen.generator.Settings is safegen.DrawOptions now", DeprecationWarning, stacklevel=2)
        return DrawOptions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
