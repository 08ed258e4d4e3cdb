"""Pictures to learn from, in latents: drawn by the model itself, and with noise added again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from safegen.errors import ModelError
from safegen.families.calls import recorded

if TYPE_CHECKING:
    from safegen.families import Family


@dataclass(frozen=True)
class Pictures:
    """Pictures that were drawn together.

    Attributes:
        latents: (B, ...), finished.
        times: the scheduler's time at every step.
        inputs: the time that the denoiser was told at every step.
    """

    latents: Tensor
    times: Tensor
    inputs: Tensor


def draw(
    family: Family, prompts: Sequence[str], negative: str, guidance: float, steps: int, side: int, seeds: Sequence[int]
) -> Pictures:
    """Draw latents of pictures of `side` pixels a side from prompts, and note the times.

    Raises:
        ModelError: the pipeline draws in a way that cannot be repeated by its denoiser alone.
    """
    pipe, ends = family.pipe, list[Tensor]()
    negative = negative if family.negative else ""

    def after_step(_pipe: Any, _step: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        ends[:] = [tensors["latents"]]  # as the denoiser takes them; a pipeline may unpack what it gives back
        return tensors

    with torch.no_grad(), recorded(family) as calls:
        result = pipe(
            **family.arguments(family.encode(prompts), negative, guidance),
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            num_inference_steps=steps,
            width=side,
            height=side,
            output_type="latent",
            **({"callback_on_step_end": after_step} if family.reports_steps else {}),
        ).images
    latents = ends[0] if ends else result
    times = pipe.scheduler.timesteps.float().cpu()
    inputs = [call.times for call in calls]
    if len(inputs) != len(times) or len(latents) != len(prompts):
        raise ModelError(
            f"this {type(pipe).__name__} calls its denoiser {len(inputs)} times in {len(times)} steps",
            "Take another --scheduler.",
        )
    return Pictures(latents.detach().float(), times, torch.stack([time.flatten()[0].float().cpu() for time in inputs]))


@contextlib.contextmanager
def frozen(module: Any) -> Iterator[None]:
    """Let no weight ask for a gradient while the context lasts."""
    asking = [weight for weight in module.parameters() if weight.requires_grad]
    module.requires_grad_(False)
    try:
        yield
    finally:
        for weight in asking:
            weight.requires_grad_(True)


def flows(scheduler: Any) -> bool:
    """Tell whether a model is one of rectified flow, with no noise between its beginning and its end."""
    config = scheduler.config
    return "beta_start" not in config or config.get("prediction_type") == "flow_prediction"


def noised(scheduler: Any, latents: Tensor, noise: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Add noise to finished latents (B, ...) as at times (B,); also give what a perfect denoiser would put out."""
    from diffusers import DDPMScheduler

    config = scheduler.config
    if flows(scheduler):
        share = (times / config.num_train_timesteps).view(-1, *[1] * (latents.ndim - 1)).to(latents)
        return (1 - share) * latents + share * noise, noise - latents
    forward, at = DDPMScheduler.from_config(config), times.round().long().to(latents.device)
    kind, goals = config.get("prediction_type", ""), {"epsilon": noise, "sample": latents}
    goal = goals[kind] if kind in goals else forward.get_velocity(latents, noise, at)
    return forward.add_noise(latents, noise, at), goal
