"""The flow as one object: a pipeline loaded once, a guard, and pictures with their records.

Every door goes through `prepare` and `draw`: nothing else leads from a text to a picture, but a
pipeline of your own with a guard attached (`guard.py`).
"""

from __future__ import annotations

import contextlib
import functools
import secrets
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from safegen import records, weighting
from safegen.errors import GuardError, NotFinite, SafegenError
from safegen.families import family_of, sizes
from safegen.families.caching import begun_afresh
from safegen.families.intercept import without_safety_checker
from safegen.families.pushes import steered
from safegen.families.weights import weigh
from safegen.families.windows import WindowedPrompts
from safegen.files import readable
from safegen.guard import BoundGuard, Guard
from safegen.models import adapters, defaults, loading
from safegen.models.options import DrawOptions, LoadOptions, check_seeds, part_of
from safegen.progress import SILENT, Progress
from safegen.prompts import emphasis
from safegen.prompts.prompt import Prompt, admit, clean
from safegen.records import Picture, Record
from safegen.safeguards.canvas import Canvas
from safegen.safeguards.options import GuardOptions
from safegen.safeguards.steering import Steerer
from safegen.scoring.report import Report, Treatment
from safegen.scoring.scores import ScoreSheet

if TYPE_CHECKING:
    from PIL import Image

    from safegen.conditioning import Conditioning
    from safegen.scoring.text import Causes

OnFlag = Literal["sanitize", "skip", "warn"]
OnStep = Callable[[int, int], None]
FAR = 2  # times the side of the pictures that a model has learned
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
        """What the safeguard does while the prompt is drawn."""
        return self.report.treatment if self.report is not None and self.guard is not None else None

    @property
    def unguarded(self) -> Prepared:
        """The same without what the guard did, to compare with."""
        return replace(self, conditioning=self.plain, guard=None)


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
        self.family.check_from_text()
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
        if self.guard is None:
            raise GuardError("there is no guard to score with", "Load the generator with guarded=True.")
        read = self.encode([clean(prompt) for prompt in prompts])
        sheets = self.guard.score(read.conditioning, causes, weights=read.weights, wholes=read.wholes)
        return read.merge(sheets, ScoreSheet.merged)

    def prepare(self, prompts: Sequence[Prompt], on_flag: OnFlag = "sanitize") -> list[Prepared | SafegenError]:
        """Encode, score and sanitize prompts together; whatever fails, fails for its own prompt.

        Args:
            prompts: cleaned ones.
            on_flag: what to do with a flagged prompt: `sanitize` it, `skip` it, or `warn` and draw it as it is.
        """
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

    def draw(
        self, prepared: Sequence[Prepared], options: DrawOptions, seeds: Sequence[int], on_step: OnStep | None = None
    ) -> list[Image.Image | None]:
        """Draw one picture per prepared prompt, each from its own seed on the CPU.

        None stands for a picture that is not finite. A picture depends on how many are drawn together,
        by the rounding of kernels (about 1e-6 of the pixel range), and on nothing else of its batch.
        """
        import torch

        rows = [one.conditioning for one in prepared if one.conditioning is not None]
        if not rows or len(rows) < len(prepared):
            raise GuardError("a prompt that was skipped cannot be drawn", "Leave it out.")
        steps, guidance, size = self.resolve(options)
        call = self.family.drawing.call(options.beginning, size, steps, seeds)
        steering = [
            self.steerer.of(one.prompt.text, options.fair, seed, one.guard)
            for one, seed in zip(prepared, seeds, strict=True)
        ]
        negative = emphasis.parse(options.negative, weights=False).text
        treatments = tuple(one.treatment for one in prepared)

        def after_step(_pipe: Any, step: int, _t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if on_step is not None:
                on_step(step + 1, call.steps)
            return tensors if call.keep is None else {"latents": call.keep(step, tensors["latents"])}

        with (
            without_safety_checker(call.pipe),
            self._treating(Canvas(treatments, guidance, size)),
            begun_afresh(call.pipe),
            steered(self.family, [one.pushes for one in steering], call.pipe),
        ):
            result = call.pipe(
                **self.family.arguments(rows[0].joined(rows[1:]), negative, guidance),
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
                **self.family.timing(steps),
                output_type="pt",
                **call.arguments,
                **({"callback_on_step_end": after_step} if self.family.reports_steps else {}),
            )
        if call.pipe is not self.pipe:
            self.pipe.maybe_free_model_hooks()  # it offloads the parts that both share
        finite = torch.isfinite(result.images).flatten(1).all(1).tolist()
        processor = self.pipe.image_processor  # the conversion that diffusers itself ends with
        whole = iter(processor.numpy_to_pil(processor.pt_to_numpy(result.images[finite])) if any(finite) else ())
        return [next(whole) if good else None for good in finite]

    def _treating(self, canvas: Canvas) -> contextlib.AbstractContextManager[None]:
        """Let the safeguard act while pictures are drawn, where it has something to do.

        Raises:
            GuardError: another safeguard has prepared the prompts.
        """
        guard, names = self.guard, {one.safeguard for one in canvas.own.values()}
        if not names:
            return contextlib.nullcontext()
        if guard is None or names != {guard.safeguard.name}:
            raise GuardError(
                f"what {' and '.join(sorted(names))} prepared cannot be drawn behind another safeguard",
                "Draw with the generator that prepared it.",
            )
        return guard.safeguard.drawing(canvas, guard.context)

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
        (prepared,) = self.prepare([clean(prompt) if isinstance(prompt, str) else prompt])
        return self.pictures(unwrap(prepared), options or DrawOptions(), images, on_step)

    def pictures(
        self, prepared: Prepared, options: DrawOptions, images: int = 1, on_step: OnStep | None = None
    ) -> tuple[list[Picture], Report | None]:
        """Draw a prepared prompt with consecutive seeds; a first seed that is not given is random.

        Raises:
            UsageError: seeds beyond the last.
            NotFinite: latents or picture are not finite.
        """
        check_seeds(options.seed, images)
        first = options.seed if options.seed is not None else secrets.randbelow(2**31)
        pictures = []
        for seed in range(first, first + images):
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
        guard, prompt = self.guard, self.as_read(prompt)
        latent = self.steerer.of(prompt.text, options.fair, seed, guard.options if guard else None).facts
        beginning = options.beginning
        begun = {} if beginning is None else beginning.as_json(self.family.drawing.strength(beginning))
        drawn, obeyed = (report.after.prompt, report.weights) if report else (prompt.text, prompt.weights)
        weights = [{"text": drawn[slice(*w.span)], "weight": w.value} for w in obeyed]
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
            guard={
                "safeguard": guard.safeguard.name if guard else "",
                "strength": guard.options.strength if guard else 0.0,
                "directions": guard.hashes if guard else {},
                "reader": guard.context.reader.sha256 if guard else "",
                **records.findings(prompt, report),
                **({"weights": weights} if weights else {}),
            },
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
        if self.family.weighted:
            return []
        if not any(prompt.weights for prompt in prompts) and not emphasis.parse(negative).weights:
            return []
        return [f"a {type(self.pipe).__name__} knows no weights: the marks in the prompt are text to it"]

    def notes(self, options: DrawOptions, prompts: Iterable[Prompt] = ()) -> list[str]:
        """Say in one line each what people should know: what is not read, was assumed, and is out of range."""
        lines = self.weightless(prompts, options.negative)
        if self.wanted.assumed and (options.steps is None or options.guidance is None):
            lines.append(defaults.note(self.model, self.wanted))
        side, (width, height) = self.family.size, options.size or (0, 0)
        if max(width, height) > FAR * side:
            lines.append(
                f"{width}x{height} is far beyond the {side}x{side} that this model has learned: "
                f"things repeat or fall apart; up to {FAR * side} pixels a side are sound"
            )
        return lines


def __getattr__(name: str) -> Any:
    if name == "Settings":  # its name in 0.1
        warnings.warn("safegen.generator.Settings is safegen.DrawOptions now", DeprecationWarning, stacklevel=2)
        return DrawOptions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def unwrap(prepared: T | SafegenError) -> T:
    """Give the value, or raise the error that stands in its place.

    Raises:
        SafegenError: see above.
    """
    if isinstance(prepared, SafegenError):
        raise prepared
    return prepared
