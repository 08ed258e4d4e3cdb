"""Rendering: one call of a pipeline, from conditioning to pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from safegen.families.caching import begun_afresh
from safegen.families.intercept import without_safety_checker
from safegen.families.pushes import Push, steered

if TYPE_CHECKING:
    from PIL import Image

    from safegen.conditioning import Conditioning
    from safegen.families.base import Family
    from safegen.families.pictured import Call

OnStep = Callable[[int, int], None]


def render(
    family: Family,
    call: Call,
    conditioning: Conditioning,
    negative: str,
    guidance: float,
    steps: int,
    seeds: Sequence[int],
    pushes: Sequence[Sequence[Push]] = (),
    on_step: OnStep | None = None,
) -> list[Image.Image | None]:
    """Draw one picture per prompt, each from its own seed on the CPU; None stands for one that is not finite.

    Args:
        family: the family object around the pipeline.
        call: the pipeline that draws, and its arguments but for the prompts.
        conditioning: B prompts.
        negative: the negative prompt, never sanitized.
        guidance: the guidance scale.
        steps: the denoising steps of a picture that is drawn from noise alone.
        seeds: B of them.
        pushes: what is added to every picture at the bottleneck.
        on_step: told of every step, and of how many there are.
    """
    import torch

    def after_step(_pipe: Any, step: int, _t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if on_step is not None:
            on_step(step + 1, call.steps)
        return tensors if call.keep is None else {"latents": call.keep(step, tensors["latents"])}

    with without_safety_checker(call.pipe), begun_afresh(call.pipe), steered(family, pushes, call.pipe):
        result = call.pipe(
            **family.arguments(conditioning, negative, guidance),
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            **family.timing(steps),
            output_type="pt",
            **call.arguments,
            **({"callback_on_step_end": after_step} if family.reports_steps else {}),
        )
    if call.pipe is not family.pipe:
        family.pipe.maybe_free_model_hooks()  # it offloads the parts that both share
    return _finite(family.pipe.image_processor, result.images)


def _finite(processor: Any, images: Any) -> list[Image.Image | None]:
    """Turn the finite ones of B pictures into Pillow's, by the conversion that diffusers itself ends with."""
    import torch

    finite = torch.isfinite(images).flatten(1).all(1).tolist()
    whole = iter(processor.numpy_to_pil(processor.pt_to_numpy(images[finite])) if any(finite) else ())
    return [next(whole) if good else None for good in finite]
