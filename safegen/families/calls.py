"""Calls of a denoiser as its pipeline makes them, recorded so that they can be made again with other latents.

So one program works through every family: what a denoiser wants besides latents and a time is taken from the pipeline.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safegen.families.denoiser import Received, watched

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.conditioning import Conditioning
    from safegen.families.base import Family


@dataclass(frozen=True)
class Call:
    """A recorded call of a denoiser, told B prompts."""

    denoiser: Any
    received: Received

    def predict(self, latents: Tensor, times: Tensor) -> Tensor:
        """Give the denoiser's output for other latents (B, ...) at other times, as its pipeline gives times."""
        call = self.received.at(latents.to(self.denoiser.dtype), times)
        output = self.denoiser(*call.args, **call.named)[0]
        noise: Tensor = as_rows(output)[:, : latents.shape[1]]  # some put out a variance behind it
        return noise.float()


def as_rows(output: Any) -> Tensor:
    """Give what a denoiser puts out as one tensor (N, ...); Z-Image gives its pictures one by one."""
    import torch

    rows: Tensor = torch.stack(output).squeeze(2) if isinstance(output, list) else output
    return rows


def tell(family: Family, prompts: Sequence[str] | Conditioning, guidance: float, size: tuple[int, int]) -> Call:
    """Record how the pipeline tells its denoiser prompts, for pictures of that width and height in pixels.

    It draws one step for that, so it cannot be called while the pipeline draws.
    """
    import torch

    with torch.no_grad(), recorded(family) as calls:
        told = family.encode(prompts) if isinstance(prompts, Sequence) else prompts
        family.pipe(**arguments_to_tell(family, told, guidance, size))
    return Call(family.bottleneck.denoiser, calls[0])


def arguments_to_tell(family: Family, told: Conditioning, guidance: float, size: tuple[int, int]) -> dict[str, Any]:
    """Give the arguments of a call that tells a denoiser prompts, in one step, and unguided where guidance is apart."""
    import torch

    quiet = guidance if not family.negative else 0.0 if family.guided(1.0) else 1.0
    return {
        **family.arguments(told, "", quiet),
        "generator": [torch.Generator().manual_seed(0) for _ in told.prompts],
        "num_inference_steps": 1,
        "width": size[0],
        "height": size[1],
        "output_type": "latent",
    }


@contextlib.contextmanager
def recorded(family: Family) -> Iterator[list[Received]]:
    """Keep what the denoiser is called with, but for the calls with the negative prompt alone."""
    calls: list[Received] = []

    def keep(received: Received, conditional: bool) -> None:
        if conditional:
            calls.append(received)

    bar = getattr(family.pipe, "_progress_bar_config", None)
    family.pipe.set_progress_bar_config(disable=True)
    try:
        with watched(family.bottleneck.denoiser, keep):
            yield calls
    finally:
        family.pipe.set_progress_bar_config(**(bar or {}))
