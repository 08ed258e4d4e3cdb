"""Drawing from a picture: the class that a loaded pipeline becomes for it, around the same parts.

The text goes the same way as without a picture, through the same encoders and the same guard. What the picture shows
does not pass through any of them.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safegen.errors import ModelError, PictureError, UsageError
from safegen.families import sizes

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from safegen.pictures.inputs import Beginning, InputPicture

HALF = 128  # from which value on a mask's pixel is white
Kinds = tuple[str, str]  # the classes that draw from a picture, and from what a mask leaves of one; empty for none
Size = tuple[int, int]
Keep = Callable[[int, "Tensor"], "Tensor"]  # what is done with latents after a step


# Marks in the names of classes that need a picture to draw from.
PICTURED = (
    *("Img2Img", "Inpaint", "Control", "Fill", "Adapter", "Upscale", "Pix2Pix", "Depth2Img"),
    *("Edit", "Layered"),
)


@dataclass(frozen=True)
class Call:
    """One call of a pipeline, but for the prompts.

    Attributes:
        pipe: the pipeline.
        arguments: the size, and the picture if there is one.
        steps: how many denoising steps it takes.
        keep: what is done with the latents after every step; None for nothing.
    """

    pipe: Any
    arguments: Mapping[str, Any]
    steps: int
    keep: Keep | None = None


class PictureDrawing:
    """The pipelines by which one loaded model draws from pictures.

    Args:
        pipe: the pipeline.
        kinds: the classes that it may become, by their names.
        side: the side of the pictures that it has learned, in pixels.
        step: the number that sides are multiples of.
    """

    def __init__(self, pipe: Any, kinds: Kinds, side: int, step: int) -> None:
        self.pipe, self.kinds, self.side, self.step = pipe, kinds, side, step
        self.pipeline = functools.cache(self._pipeline)

    def call(self, beginning: Beginning | None, size: Size, steps: int, seeds: Sequence[int]) -> Call:
        """Prepare the call that draws one picture per seed, from noise alone or from a picture.

        Raises:
            UsageError, PictureError: see `steps` and `InputPicture.read`.
        """
        if beginning is None:
            return Call(self.pipe, sized(self.pipe, size), steps)
        left, pipe = self.steps(beginning, steps), self.pipeline(beginning.mask is not None)
        keep = self.keeping(beginning, size, seeds)
        return Call(pipe, self.arguments(beginning, size, len(seeds)), left, keep)

    def _pipeline(self, masked: bool) -> Any:
        """Give the pipeline that draws from a picture, with a mask or without; made once.

        Raises:
            UsageError: there is none for this model.
        """
        kind, own = self.kinds[masked], type(self.pipe).__name__
        if kind:
            return self.pipe if kind == own else derive(self.pipe, kind)
        hint = "Leave out the mask: it draws from the whole picture." if self.kinds[0] else "Leave out --image."
        raise UsageError(f"a {own} draws from no {'picture with a mask' if masked else 'picture'}", hint)

    def takes(self, masked: bool) -> frozenset[str]:
        """Name the arguments of that pipeline's call; raises like `pipeline`."""
        return frozenset(inspect.signature(type(self.pipeline(masked)).__call__).parameters)

    def steps(self, beginning: Beginning, steps: int) -> int:
        """Count the denoising steps that are left to a picture that is begun with.

        Raises:
            UsageError: there are none; or a strength was asked for, and the model reads the picture beside the text.
        """
        if "strength" not in self.takes(beginning.mask is not None):
            if beginning.strength is not None:
                raise UsageError(
                    f"a {type(self.pipe).__name__} has no image strength: it reads the picture beside the text",
                    "Leave out --image-strength, and say in the prompt what is to change.",
                )
            return steps
        left = int(steps * beginning.share)
        if left < 1:
            raise UsageError(
                f"an image strength of {beginning.share:g} leaves none of {steps} steps",
                f"Take at least {math.ceil(100 / steps) / 100:g}, or more steps.",
            )
        return left

    def strength(self, beginning: Beginning) -> float | None:
        """Give the share that is drawn anew; None where the model reads the picture beside the text."""
        return beginning.share if "strength" in self.takes(beginning.mask is not None) else None

    def size(self, beginning: Beginning) -> Size:
        """Give the size of what is drawn, where none is asked for, see `sizes.like`."""
        return sizes.like(beginning.image.size, self.side, self.step)

    def arguments(self, beginning: Beginning, size: Size, count: int) -> dict[str, Any]:
        """Give the arguments of that pipeline's call for `count` pictures of a size.

        A picture that is drawn over is cropped around its middle to the proportions asked for, and its mask with it.
        One that is read beside the text keeps its own.
        """
        masked = beginning.mask is not None
        given, image = sized(self.pipeline(masked), size), beginning.image.decode()
        if "strength" not in self.takes(masked):
            # Some pipelines take a list as several pictures for every prompt.
            return {**given, "image": fit(image, self.size(beginning))}
        given |= {"image": [fit(image, size)] * count, "strength": beginning.share}
        if beginning.mask is not None:
            given["mask_image"] = [fit_mask(beginning.mask, size)] * count
        return given

    def keeping(self, beginning: Beginning, size: Size, seeds: Sequence[int]) -> Keep | None:
        """Give what is to be done with the latents after every step; nothing, where the pipeline does all itself."""
        return None


def check_from_text(pipe: Any) -> None:
    """Check that a pipeline draws from text alone, without a picture to begin with.

    Raises:
        ModelError: its class, or the number of channels that its denoiser takes, says that it needs a picture; or
            it draws in a way of its own.
    """
    kind = type(pipe).__name__
    if any(mark in kind for mark in PICTURED):
        raise ModelError(
            f"a {kind} draws from a picture, not from text alone",
            "Call it yourself, with a guard attached: safegen.Guard().attached(pipe).",
        )
    if "prompt_embeds" not in inspect.signature(type(pipe).__call__).parameters or not hasattr(pipe, "image_processor"):
        raise ModelError(
            f"a {kind} takes no embeddings, or gives no pictures that could be written",
            "Call it yourself, with a guard attached: safegen.Guard().attached(pipe).",
        )
    parts = {name: getattr(pipe, name, None) for name in ("unet", "transformer", "vae")}
    config = {name: part.config for name, part in parts.items() if part is not None}
    vae = config.pop("vae", {})
    latents = vae.get("latent_channels") or vae.get("z_dim")
    for name, own in config.items():
        taken = own.get("in_channels")
        # Transformers may take four neighbouring pixels as one.
        if latents and taken and taken not in (latents, latents * 4 if name == "transformer" else latents):
            raise ModelError(
                f"this {kind} draws from a picture, not from text alone: its {name} takes {taken} channels, "
                f"and latents have {latents}",
                "Take the text-to-image model of its kind.",
            )


def sized(pipe: Any, size: Size) -> dict[str, Any]:
    """Give those arguments of a pipeline's call that ask for a size, and for no other.

    FLUX Kontext would otherwise draw a million pixels, whatever width and height say.
    """
    width, height = size
    asked = {"width": width, "height": height, "max_area": width * height, "_auto_resize": False}
    takes = inspect.signature(type(pipe).__call__).parameters
    return {name: value for name, value in asked.items() if name in takes}


def derive(pipe: Any, kind: str) -> Any:
    """Make a pipeline of another class around the very parts of a loaded one; neither is changed.

    Diffusers' own `from_pipe` casts all parts to one dtype, float32 unless told otherwise. They are shared, so that
    would change the loaded pipeline too, and with it what its encoders make of a text.

    Raises:
        ModelError: this version of diffusers has no such class.
    """
    import diffusers

    made = getattr(diffusers, kind, None)
    if made is None:
        raise ModelError(f"diffusers {diffusers.__version__} has no {kind}", "pip install --upgrade diffusers")
    own = {**pipe.config, **pipe.components}
    other = made(**{name: own[name] for name in inspect.signature(made.__init__).parameters if name in own})
    other.set_progress_bar_config(**getattr(pipe, "_progress_bar_config", {}))
    return other


def fit_mask(mask: InputPicture, size: Size) -> Image.Image:
    """Crop and scale a mask as `fit` does.

    Raises:
        PictureError: nothing of it is left to draw anew.
    """
    fitted = fit(mask.decode_mask(), size)
    if not any(fitted.convert("L").histogram()[HALF:]):
        raise PictureError(
            f"at {size[0]}x{size[1]} pixels the mask has no white left, so nothing would be drawn",
            "Draw its white larger or nearer to the middle, or give the picture's own proportions as --size.",
        )
    return fitted


def fit(image: Image.Image, size: Size) -> Image.Image:
    """Crop a picture around its middle to the proportions of a size, and scale it; of this size it stays as it is."""
    from PIL import Image, ImageOps

    return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
