"""SafeGen (Li et al., CCS 2024, arXiv 2404.06666): self-attention unlearns how harmful pictures look.

Nothing is told to the denoiser while it learns, and only the layers change in which places of the picture attend to
each other. So what it unlearns does not depend on words. From a harmful picture z with noise e it learns to come to a
mosaic m of it, and benign pictures b stay as they are:

    loss = 0.1 |out(z + noise) - (goal + z - m)|^2 + 0.9 |out(b + noise) - goal|^2

The goal is what a perfect denoiser would put out. That z - m is added to it at full weight at every time is the
authors' own simplification; their code has it for models that predict noise, and it is filled in here for others.
Filled in as well: the benign pictures are those of the recipe's safe phrases. The mosaic is one of the whole picture,
made of its latents; the paper censors what a detector finds in pixels. The paper tunes all weights of these layers by a
rate of 1e-5; here the change has a low rank, and the rate is higher. Steps and their warm-up are the paper's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.nn import functional as F

from safegen.families.edits import picture_layers
from safegen.learning.objective import Objective, Pairs, Plan, TunedModel, errors

if TYPE_CHECKING:
    from torch import Tensor

CENSOR, PRESERVE = 0.1, 0.9  # weights
CELLS = 4  # of a mosaic's side


class SelfAttention(Objective):
    """Tune self-attention on pictures alone."""

    name = "safegen-ccs"
    plan: ClassVar[Plan] = Plan(96, 24, batch=4, draw_steps=20, steps=1000, rate=1e-4, warm_up=200, rank=16)

    def layers(self, denoiser: Any) -> list[str]:
        """List the layers of self-attention."""
        return picture_layers(denoiser)

    def losses(self, model: TunedModel, pairs: Pairs, chance: torch.Generator) -> dict[str, Tensor]:
        """Compute the loss, how far harmful pictures are from their mosaics, and benign ones from themselves."""
        count, pictures = len(pairs.seeds), torch.cat([pairs.harmful, pairs.safe])
        at = torch.randint(len(pairs.times), (2 * count,), generator=chance)
        noise = torch.randn(pictures.shape, generator=chance)
        noisy, goal = model.noised(pictures, noise, pairs.times[at])
        # The signs are those of noise; what predicts the picture itself has the other.
        sign = -1 if model.family.pipe.scheduler.config.get("prediction_type") == "sample" else 1
        lost = (pairs.harmful - mosaic(pairs.harmful)).to(goal)
        goal = torch.cat([goal[:count] + model.family.output_sign * sign * lost, goal[count:]])
        gaps = errors(model.predict(model.unprompted(2 * count), noisy, pairs.inputs[at].to(noisy)), goal)
        censored, preserved = gaps[:count].mean(), gaps[count:].mean()
        return {"loss": CENSOR * censored + PRESERVE * preserved, "censored": censored, "preserved": preserved}


def mosaic(latents: Tensor) -> Tensor:
    """Make a mosaic of pictures, in latents (B, D, H, W)."""
    return F.interpolate(F.adaptive_avg_pool2d(latents, CELLS), latents.shape[-2:], mode="nearest")
