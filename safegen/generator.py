"""The flow in one object: a pipeline loaded once, a guard, and pictures with their records."""

from __future__ import annotations

import contextlib
import functools
import gc
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safegen import records, safeguards, weighting
from safegen.errors import GuardError, NotFinite, UsageError
from safegen.families import family_of, sizes
from safegen.families.intercept import unblackened
from safegen.families.windows import Passages
from safegen.files import home
from safegen.guard import Causes, Guard, OnUnread, Report
from safegen.models import adapters, catalog, defaults, loading
from safegen.progress import NOBODY, Teller
from safegen.prompts import emphasis
from safegen.prompts.prompt import Prompt, clean, clean_negative

if TYPE_CHECKING:
    from PIL import Image
    from typing_extensions import Unpack

    from safegen.conditioning import Conditioning
    from safegen.models.options import Loading
    from safegen.scoring.scores import ScoreSheet


NO_SEED = -1
FAR = 2  # times the side of the pictures that a model has learned


@dataclass(frozen=True)
class Settings:
    """Choices for a drawing; None means the model's own default. A seed of -1 is none, as other tools write it.

    The negative prompt is cleaned, whoever gives it.
    """

    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    size: tuple[int, int] | None = None
    negative: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "negative", clean_negative(self.negative))
        object.__setattr__(self, "seed", None if self.seed == NO_SEED else self.seed)


MAX_SEED = 2**63 - 1  # what records and data sets can hold


def check_seeds(first: int | None, images: int) -> None:
    """Check that pictures with consecutive seeds have one each.

    Raises:
        UsageError: they have not.
    """
    if first is not None and not 0 <= first <= MAX_SEED - (images - 1):
        beyond = f"seed {first}" if images == 1 else f"{images} seeds from {first} on"
        raise UsageError(
            f"{beyond}: seeds are whole numbers from 0 to {MAX_SEED}", f"Begin at most at {MAX_SEED - (images - 1)}."
        )


@dataclass(frozen=True)
class Picture:
    """One image with what is known of it."""

    image: Image.Image
    seed: int
    record: dict[str, Any] = field(repr=False)

    def save(self, path: str | Path, kept: records.Kept = records.DEFAULT) -> None:
        """Write a PNG that says as much of itself as is kept, see `records.save_picture`."""
        records.save_picture(self.image, path, self.record, kept)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which searches the libraries again and again while they are imported."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class Generator:
    """A loaded model with a guard in front of it.

    Args:
        pipe: a diffusers pipeline of a supported family.
        guard: None draws unguarded, and every record says so.
        model: the name that records carry.
        teller: told what has to be learned for this encoder first, and the figures that it reached.
        added: textual inversions and LoRAs that the pipeline was loaded with, as records name them.
    """

    def __init__(
        self,
        pipe: Any,
        guard: Guard | None,
        model: str = "custom",
        teller: Teller = NOBODY,
        added: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.family = family_of(pipe)
        self.family.check_from_text()
        self.pipe, self.guard, self.model, self.added = pipe, guard, model, tuple(added)
        if guard is not None:
            guard.bind(self.family, teller)

    @classmethod
    def load(
        cls,
        model: str = catalog.EMBEDDED,
        *,
        concepts: Sequence[str] = (),
        strength: float = 1.0,
        safeguard: str = safeguards.DEFAULT,
        guarded: bool = True,
        folder: str | Path | None = None,
        unread: OnUnread = "refuse",
        teller: Teller = NOBODY,
        **how: Unpack[Loading],
    ) -> Generator:
        """Load a model and the directions of the active concepts (all, when none is named).

        For `how`, from the device to quantised weights, see `safegen.models.loading.Loading`.
        """
        model = home(model)  # what its records say, too
        with _uncollected():
            guard = (
                Guard.load(*concepts, strength=strength, safeguard=safeguard, folder=folder, unread=unread)
                if guarded
                else None
            )
            pipe = loading.load(model, **how)
        some = adapters.listed(how.get("embeddings", ()), how.get("loras", ()))
        return cls(pipe, guard, model, teller, [addition.as_json() for addition in some])

    def behind(self, guard: Guard) -> Generator:
        """The same model behind another guard."""
        return Generator(self.pipe, guard, self.model, added=self.added)

    def score(self, prompts: Sequence[str], causes: Causes = "none") -> list[ScoreSheet]:
        """Sheets for the prompts, cleaned first; nothing is drawn. For `causes` see `Guard.score`.

        Raises:
            Refused, GuardError, PromptError: see `Guard.score` and `prompts.clean`.
        """
        if self.guard is None:
            raise GuardError("there is no guard to score with", "Load the generator with guarded=True.")
        read = self.read([clean(p) for p in prompts])
        return read.sheets(self.guard.score(read.conditioning, causes, read.rows))

    def read(self, prompts: Sequence[Prompt]) -> Passages:
        """Prompts encoded as the model reads them, in several windows and without marks where it has and knows them."""
        return Passages.of([self.as_read(prompt) for prompt in prompts], self.family)

    def as_read(self, prompt: Prompt) -> Prompt:
        """The prompt with its marks of weight as text, for a model that knows no weights."""
        return prompt if self.family.weighted else prompt.verbatim

    def prepare(self, prompt: Prompt) -> tuple[Conditioning, Conditioning, Report | None]:
        """The prompt's conditioning as it is, as it may be drawn, and the guard's report."""
        read = self.read([prompt])
        (plain,) = read.abreast(weighting.weighted(read.conditioning, read.weights))
        if self.guard is None:
            from safegen.prompts import refusal

            refusal.check(self.as_read(prompt).text)
            return plain, plain, None
        rows, reports = self.guard.sanitize(read.conditioning, read.rows)
        (guarded,) = read.abreast(rows)
        return plain, guarded, read.reports(reports)[0]

    def draw(
        self,
        conditioning: Conditioning,
        settings: Settings,
        seed: int,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Image.Image:
        """One picture from prepared conditioning; the same seed gives the same picture anywhere.

        Raises:
            NotFinite: latents or picture are not finite.
        """
        (image,) = self.draw_all(conditioning, settings, [seed], on_step)
        if image is None:
            raise NotFinite("the picture is not finite (NaN or infinite values)", "Try another dtype or model.")
        return image

    def draw_all(
        self,
        conditioning: Conditioning,
        settings: Settings,
        seeds: Sequence[int],
        on_step: Callable[[int, int], None] | None = None,
    ) -> list[Image.Image | None]:
        """One picture per row of prepared conditioning, each from its own seed on the CPU.

        None stands for a picture that is not finite. A picture depends on how many are drawn together,
        by the rounding of kernels (about 1e-6 of the pixel range), and on nothing else of its batch.
        """
        import torch

        steps, guidance, (width, height) = self.resolve(settings)
        negative = emphasis.parse(settings.negative, weights=False).text

        def after_step(_pipe: Any, step: int, _t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if on_step is not None:
                on_step(step + 1, steps)
            return tensors

        with unblackened(self.pipe):
            result = self.pipe(
                **self.family.arguments(conditioning, negative, guidance),
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
                num_inference_steps=steps,
                width=width,
                height=height,
                output_type="pt",
                **({"callback_on_step_end": after_step} if self.family.tells_steps else {}),
            )
        finite = torch.isfinite(result.images).flatten(1).all(1).tolist()
        processor = self.pipe.image_processor  # the conversion that diffusers itself ends with
        whole = iter(processor.numpy_to_pil(processor.pt_to_numpy(result.images[finite])) if any(finite) else ())
        return [next(whole) if good else None for good in finite]

    def resolve(self, settings: Settings) -> tuple[int, float, tuple[int, int]]:
        """Steps, guidance and (width, height) in pixels after defaults.

        Raises:
            UsageError: a value that the model cannot use.
            ModelError: the model has nothing to draw with.
        """
        own, side = self.wanted, self.family.size
        guidance = own.guidance if settings.guidance is None else settings.guidance
        width, height = settings.size or (side, side)
        sizes.check(width, height, self.family.step, type(self.pipe).__name__)
        return settings.steps or own.steps, guidance, (width, height)

    @functools.cached_property
    def wanted(self) -> defaults.Defaults:
        """Steps and guidance where settings have none."""
        return defaults.of(self.family, self.model)

    def weightless(self, prompts: Iterable[Prompt], negative: str = "") -> list[str]:
        """Say in one line that this model knows no weights, where a prompt asks for some."""
        if self.family.weighted:
            return []
        if not any(prompt.weights for prompt in prompts) and not emphasis.parse(negative).weights:
            return []
        return [f"a {type(self.pipe).__name__} knows no weights: the marks in the prompt are text to it"]

    def notes(self, settings: Settings, prompts: Iterable[Prompt] = ()) -> list[str]:
        """Say in one line each what people should know: what is not read, was assumed, and is out of range."""
        found = self.weightless(prompts, settings.negative)
        if self.wanted.assumed and (settings.steps is None or settings.guidance is None):
            found.append(defaults.note(self.model, self.wanted))
        side, (width, height) = self.family.size, settings.size or (0, 0)
        if max(width, height) > FAR * side:
            found.append(
                f"{width}x{height} is far beyond the {side}x{side} that this model has learned: "
                f"things repeat or fall apart; up to {FAR * side} pixels a side are sound"
            )
        return found

    def generate(
        self,
        prompt: str | Prompt,
        settings: Settings | None = None,
        *,
        images: int = 1,
        on_step: Callable[[int, int], None] | None = None,
    ) -> tuple[list[Picture], Report | None]:
        """Score, sanitize, draw: `images` pictures with consecutive seeds, and the guard's report."""
        settings = settings or Settings()
        check_seeds(settings.seed, images)
        prompt = clean(prompt) if isinstance(prompt, str) else prompt
        _, guarded, report = self.prepare(prompt)
        first = settings.seed if settings.seed is not None else secrets.randbelow(2**31)
        pictures = []
        for seed in range(first, first + images):
            start = time.perf_counter()
            image = self.draw(guarded, settings, seed, on_step)
            record = records.of(self, prompt, settings, seed, report, time.perf_counter() - start)
            pictures.append(Picture(image, seed, record))
        return pictures, report
