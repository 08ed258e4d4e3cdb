"""Options for loading a model and for drawing with it, as values that every caller hands on whole."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, cast

from safegen.directions import attributes
from safegen.errors import UsageError
from safegen.files import home
from safegen.models.catalog import EMBEDDED
from safegen.pictures.inputs import Beginning, Given, InputPicture
from safegen.prompts.prompt import clean_negative

NO_SEED = -1  # as other tools write it
MAX_SEED = 2**63 - 1  # the largest number that records and data sets can hold
# Numbers of `DrawOptions`, the types that each may have, and how these are called.
NUMBERS = (("seed", Integral, "a whole number"), ("steps", Integral, "a whole number"), ("guidance", Real, "a number"))
# Options that say where a model runs; no picture should depend on them.
PLACES = ("device", "offline", "offload", "slicing", "tiling")


@dataclass(frozen=True)
class LoadOptions:
    """The options for loading a model.

    Attributes:
        model: a short name, a hub id, or the path of a folder or of one file.
        device: auto, cpu, cuda, mps, ...
        dtype: one of `placement.DTYPES`; auto is float32 on the CPU, else what the family was trained in.
        revision: a branch, tag or commit of the hub.
        variant: the variant of the weight files, such as fp16.
        offload: one of `placement.OFFLOADS`: whole models, or single layers, are on the device only while they run.
        slicing: decode one picture at a time.
        tiling: decode tile by tile.
        quantize: one of `quantizing.BACKENDS`; the denoiser alone is quantised.
        quantize_encoders: quantise text encoders as well, which makes other encoders of them: directions no longer fit.
        denoiser: a GGUF file with the denoiser, in the place of the model's own.
        compile: compile the denoiser.
        cache: one of `speed.CACHES`, by which the denoiser reuses what it computed.
        attention: one of `speed.ATTENTIONS`, by which the denoiser attends.
        scheduler: one of `schedulers.NAMES`; the model's own by default.
        offline: never use the network; a file that is not in the cache is an error.
        embeddings: textual inversions.
        loras: FILE or FILE:SCALE each.
    """

    model: str = EMBEDDED
    device: str = "auto"
    dtype: str = "auto"
    revision: str | None = None
    variant: str | None = None
    offload: str = "none"
    slicing: bool = False
    tiling: bool = False
    quantize: str | None = None
    quantize_encoders: bool = False
    denoiser: str | None = None
    compile: bool = False
    cache: str | None = None
    attention: str | None = None
    scheduler: str | None = None
    offline: bool = False
    embeddings: tuple[str, ...] = ()
    loras: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", home(self.model))
        object.__setattr__(self, "denoiser", home(self.denoiser) if self.denoiser else None)
        for name in ("embeddings", "loras"):
            object.__setattr__(self, name, tuple(home(str(file)) for file in getattr(self, name)))

    def placed_like(self, other: LoadOptions) -> LoadOptions:
        """Take over where `other` runs its model, and load the same as before."""
        return replace(self, **{name: getattr(other, name) for name in PLACES})


@dataclass(frozen=True)
class DrawOptions:
    """The options for drawing; None means the model's own default. A seed of -1 is no seed.

    The negative prompt is always cleaned. `fair` names attributes that a prompt may leave open: `gender`, or
    `gender=woman:0.5,man:0.5`; each picture then has a class that is drawn from its seed.

    `image` is a picture to draw from: a path, the bytes of a file, or a picture of Pillow's. `mask` shows in white what
    of it is drawn anew. `image_strength`, more than 0 and up to 1, says how much is drawn anew. **No guard looks at the
    picture**; see `image_check`.

    Raises:
        UsageError: `fair` cannot be read, or its shares do not add up to 1; there are no steps; or there is a mask or
            a strength and no picture.
        PictureError: see `InputPicture` and `Beginning`.
    """

    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    size: tuple[int, int] | None = None
    negative: str = ""
    fair: tuple[str, ...] = ()
    image: Given | None = None
    mask: Given | None = None
    image_strength: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "fair", (self.fair,) if isinstance(self.fair, str) else self.fair)
        self._check_types()
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"{self.steps} steps: a picture takes at least one", "Leave it out for the model's own.")
        object.__setattr__(self, "fair", tuple(text.strip() for text in self.fair))
        attributes.parse_all(self.fair)
        object.__setattr__(self, "negative", clean_negative(self.negative))
        object.__setattr__(self, "seed", None if self.seed == NO_SEED else self.seed)
        for name in ("image", "mask"):
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, InputPicture.of(given, name, mask=name == "mask"))
        self._begin()

    def _check_types(self) -> None:
        for name, kind, called in NUMBERS:
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
                raise UsageError(f"{name} {value!r} is not {called}", f"As in {name}=7.")
        size = self.size
        if size is not None and not (
            isinstance(size, (tuple, list)) and len(size) == 2 and all(isinstance(side, Integral) for side in size)
        ):
            raise UsageError(f"size {size!r} is not two whole numbers", "As in size=(128, 128).")
        if not isinstance(self.fair, (tuple, list)) or not all(isinstance(text, str) for text in self.fair):
            raise UsageError(f"fair {self.fair!r} is not a list of attributes", 'As in fair=("gender",).')
        if not isinstance(self.negative, str):
            raise UsageError(f"negative {self.negative!r} is not a text", "Leave it out for none.")

    def _begin(self) -> Beginning | None:
        if self.image is not None:
            image, mask = cast("InputPicture", self.image), cast("InputPicture | None", self.mask)
            return Beginning(image, mask, self.image_strength)
        if self.mask is not None or self.image_strength is not None:
            what = "a mask" if self.mask is not None else "an image strength"
            raise UsageError(f"there is {what}, and no picture to draw from", "Give an image as well.")
        return None

    @property
    def beginning(self) -> Beginning | None:
        """What is drawn from, where that is not noise alone."""
        return self._begin()


def check_seeds(first: int | None, images: int) -> None:
    """Check that there is a seed for every picture, counting up from the first.

    Raises:
        UsageError: there is not.
    """
    if first is not None and not 0 <= first <= MAX_SEED - (images - 1):
        beyond = f"seed {first}" if images == 1 else f"{images} seeds from {first} on"
        raise UsageError(
            f"{beyond}: seeds are whole numbers from 0 to {MAX_SEED}", f"Begin at most at {MAX_SEED - (images - 1)}."
        )


def seeds_from(first: int | None, images: int) -> range:
    """Give consecutive seeds, one for every picture; a first seed that is not given is random.

    Raises:
        UsageError: see `check_seeds`.
    """
    check_seeds(first, images)
    begun = first if first is not None else secrets.randbelow(2**31)
    return range(begun, begun + images)


def part_of(kind: type[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the options that are fields of a dataclass."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in options.items() if name in names}
