"""Blending: how a model without a pipeline for masks of its own keeps what a mask leaves of a picture.

After every step, the latents outside the mask are replaced by the picture's own, with as much noise as that step leaves
(Avrahami et al. 2022, Blended Latent Diffusion, arXiv 2206.02779; without that paper's fine-tuned decoder). Diffusers'
pipelines for masks do the same, but those of Stable Diffusion take latents of four channels alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from safegen.errors import PictureError
from safegen.families.pictured import HALF, Keep, PictureDrawing, Size, fit, fit_mask

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.pictures.inputs import Beginning


class BlendedDrawing(PictureDrawing):
    """Drawing from pictures by the pipeline that takes no mask; the mask acts between its steps."""

    def _pipeline(self, masked: bool) -> Any:
        return self.pipeline(False) if masked else super()._pipeline(masked)

    def arguments(self, beginning: Beginning, size: Size, count: int) -> dict[str, Any]:
        """Give the arguments of a call without a mask."""
        given = super().arguments(beginning, size, count)
        given.pop("mask_image", None)
        return given

    def keeping(self, beginning: Beginning, size: Size, seeds: Sequence[int]) -> Keep | None:
        """Give what is done with the latents (B, C, H, W) after every step; None where there is no mask.

        Encoding and noise are those of the pipeline: both are drawn from the picture's seed, in its order.
        """
        import torch

        if beginning.mask is None:
            return None
        pipe, scale = self.pipeline(True), self.pipe.vae.config.scaling_factor
        pixels = pipe.image_processor.preprocess(fit(beginning.image.decode(), size))
        with torch.no_grad():
            posterior = self.pipe.vae.encode(pixels.to(pipe._execution_device, self.pipe.vae.dtype)).latent_dist
        draws = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        own = torch.cat([posterior.sample(draw) * scale for draw in draws])
        noise = torch.cat([torch.randn(own[:1].shape, generator=draw, dtype=own.dtype) for draw in draws]).to(
            own.device
        )
        mask = mask_latents(fit_mask(beginning.mask, size), own)
        if not bool(mask.any()):
            raise PictureError(
                "the mask's white is too fine for this model, so nothing would be drawn",
                f"Draw its white larger: {own.shape[-1]} by {own.shape[-2]} places are told apart.",
            )

        def keep(step: int, latents: Tensor) -> Tensor:
            timesteps = pipe.scheduler.timesteps[-pipe.num_timesteps :]
            later = timesteps[step + 1 : step + 2]
            left = pipe.scheduler.add_noise(own, noise, later) if len(later) else own
            return (1 - mask) * left + mask * latents

        return keep


def mask_latents(mask: Any, latents: Tensor) -> Tensor:
    """Make a mask of 0 and 1 (1, 1, H, W), as large as the latents, from a picture."""
    import numpy as np
    import torch

    whole = torch.from_numpy(np.asarray(mask) >= HALF).to(latents)[None, None]
    return torch.nn.functional.interpolate(whole, size=latents.shape[-2:])
