"""Dual latent reconstruction (Vice et al. 2024, arXiv 2411.13982): two streams, mixed in every step.

The denoiser is asked twice: with the prompt's embedding and with a safe one. The latents of the next step are a
weighted sum of what the two would give:

    z' = (1 - w) step(z, prompt) + w step(z, safe)

Steps are linear in the prediction in the samplers that the families use, so the predictions are mixed, and the pipeline
makes its step. The paper's code is not public, and this fills in what its text leaves open. The safe embedding is that
of the prompt without the words that the guard flags, so that the rest of it, its global context, stays; of a long
prompt, as much as one window of the encoder reads. Whether a prompt's context is unsafe is for the guard to say. The
weight w is the strength, as a share of the highest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from safegen.families import predictions
from safegen.families.calls import tell
from safegen.safeguards.drawing import DrawingSafeguard
from safegen.safeguards.options import MAX_STRENGTH

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.families.predictions import Prediction
    from safegen.safeguards import SafeguardContext
    from safegen.safeguards.canvas import Canvas


class DualReconstruction(DrawingSafeguard):
    """Mix every step with that of a safe embedding (Vice et al. 2024)."""

    name = "dual"

    @contextlib.contextmanager
    def drawing(self, canvas: Canvas, context: SafeguardContext) -> Iterator[None]:
        """Mix the steps of the pictures that have a treatment."""
        own, family = canvas.own, context.family
        safe = tell(family, [one.rest for one in own.values()], canvas.guidance, canvas.size)
        weight = next(iter(own.values())).strength / MAX_STRENGTH

        def mix(prediction: Prediction) -> Tensor:
            other = family.output_sign * safe.predict(prediction.latents, prediction.times)
            return (1 - weight) * prediction.prompted + weight * other

        with predictions.changed(family, len(canvas.treatments), list(own), mix):
            yield
