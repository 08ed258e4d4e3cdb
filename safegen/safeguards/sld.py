"""Safe latent diffusion (SLD, CVPR 2023, arXiv 2211.05105): guidance away from a concept, in every step.

The denoiser is asked a third time, with a text that names the concept. Where its prediction from the prompt is near the
one from the concept, the picture is becoming that, and the prompt's prediction is moved away:

    scale = min(1, s |prompt - concept|), and 0 where prompt - concept >= threshold
    move  = scale (concept - nothing) + m momentum
    prompt' = prompt - move, after the warm-up

The momentum is a running mean of the moves. The paper adds the move to the guidance itself, which is the same: the
pipeline guides by prompt' - nothing. The paper's four sets of settings are chosen by the strength. They count the
warm-up in the paper's 50 steps; here it is a share of whatever steps there are. The paper has one text for all that is
inappropriate; here it is the flagged concepts' phrases that are nearest to the prompt. Where the pipeline draws without
guidance, nothing is the empty prompt. What a model predicts instead of noise grows with the noise, so the formulas
hold, on another scale.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from safegen.errors import UsageError
from safegen.families import predictions
from safegen.families.calls import Call, tell
from safegen.safeguards.drawing import DrawingSafeguard

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.families import Family
    from safegen.families.predictions import Prediction
    from safegen.safeguards import SafeguardContext
    from safegen.safeguards.canvas import Canvas
    from safegen.scoring.report import Treatment
    from safegen.scoring.scores import ScoreSheet


@dataclass(frozen=True)
class Preset:
    """One of the paper's sets of settings.

    Attributes:
        warm_up: the share of the steps before anything is moved.
        scale: s.
        threshold: see the module.
        momentum: m.
        decay: the share of the momentum that stays from step to step.
    """

    name: str
    warm_up: float
    scale: float
    threshold: float
    momentum: float
    decay: float


# By the highest strength that chooses them.
PRESETS = {
    0.5: Preset("weak", 15 / 50, 20, 0.0, 0.0, 0.0),
    0.75: Preset("medium", 10 / 50, 1000, 0.01, 0.3, 0.4),
    1.0: Preset("strong", 7 / 50, 2000, 0.025, 0.5, 0.7),
    1.5: Preset("max", 0.0, 5000, 1.0, 0.5, 0.7),
}


class SafeLatentDiffusion(DrawingSafeguard):
    """Guide every step away from the flagged concepts (Schramowski et al., CVPR 2023)."""

    name = "sld"

    def check(self, context: SafeguardContext) -> None:
        """Check that the model is guided, and that hooks would be called.

        Raises:
            UsageError: its guidance is part of it, so what it would predict from nothing is not known.
            ModelError: there is no denoiser, or it is compiled.
        """
        if not context.family.negative:
            raise UsageError(
                f"sld guides against a prediction from nothing, and a {type(context.family.pipe).__name__} has none: "
                "its guidance is part of the model",
                "Choose another method: --safeguard localise.",
            )
        super().check(context)

    def treat(self, sheet: ScoreSheet, context: SafeguardContext, strength: float) -> Treatment | None:
        """Add the name of the preset to what is known of the prompt."""
        found = super().treat(sheet, context, strength)
        return found and replace(found, facts={"preset": preset(strength).name})

    @contextlib.contextmanager
    def drawing(self, canvas: Canvas, context: SafeguardContext) -> Iterator[None]:
        """Guide the pictures that have a treatment."""
        own, family = canvas.own, context.family
        concept = tell(family, [", ".join(one.phrases) for one in own.values()], canvas.guidance, canvas.size)
        nothing = tell(family, [""] * len(own), canvas.guidance, canvas.size)
        strength = next(iter(own.values())).strength
        guide = Guide(family, preset(strength), concept, nothing)
        with predictions.changed(family, len(canvas.treatments), list(own), guide.move):
            yield


class Guide:
    """Moves the predictions for R pictures, step after step."""

    def __init__(self, family: Family, preset: Preset, concept: Call, nothing: Call) -> None:
        self.family, self.preset, self.concept, self.nothing = family, preset, concept, nothing
        self.step = 0
        self.momentum: Tensor | float = 0.0

    def move(self, prediction: Prediction) -> Tensor:
        """Move the predictions (R, ...) of one step away from the concept."""
        chosen, prompted, unprompted = self.preset, prediction.prompted, prediction.unprompted
        concept = self._ask(self.concept, prediction)
        if unprompted is None:
            unprompted = self._ask(self.nothing, prediction)
        gap = prompted - concept
        scale = torch.where(gap >= chosen.threshold, 0.0, (chosen.scale * gap.abs()).clamp(max=1.0))
        move = scale * (concept - unprompted) + chosen.momentum * self.momentum
        self.momentum = chosen.decay * self.momentum + (1 - chosen.decay) * move
        warm = self.step >= chosen.warm_up * len(self.family.pipe.scheduler.timesteps)
        self.step += 1
        return prompted - move if warm else prompted

    def _ask(self, call: Call, prediction: Prediction) -> Tensor:
        return self.family.output_sign * call.predict(prediction.latents, prediction.times)


def preset(strength: float) -> Preset:
    """Choose the preset of a strength."""
    return next(preset for highest, preset in PRESETS.items() if strength <= highest)
