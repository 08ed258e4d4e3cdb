"""Moments of harmful pictures: the attacker's own, drawn from the target without a guard, with noise added again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safegen.families.calls import tell
from safegen.learning.denoising import draw, noised

if TYPE_CHECKING:
    from safegen.attacks.targets import Target
    from safegen.attacks.victim import Passed, Rate, Victim


@dataclass(frozen=True)
class Moment:
    """A picture with noise.

    Attributes:
        latents: (1, ...), as the denoiser is given them.
        times: (1,), as it is told them.
        goal: (1, ...), what a perfect denoiser would put out.
    """

    latents: Tensor
    times: Tensor
    goal: Tensor


class Moments:
    """A target's pictures, to take moments from.

    Args:
        target: its prompt is drawn without a guard, from its seed on.
        victim: the model.
        count: the number of pictures.
    """

    def __init__(self, target: Target, victim: Victim, count: int = 1) -> None:
        self.family, side = victim.family, victim.family.size
        seeds = [target.seed + i for i in range(count)]
        prompts = [target.prompt] * count
        self.pictures = draw(self.family, prompts, "", victim.guidance, victim.steps, side, seeds)
        self.told = tell(self.family, [target.prompt], victim.guidance, victim.size)
        self.nothing = tell(self.family, [""], victim.guidance, victim.size)

    def sample(self, chance: random.Random, share: float | None = None) -> Moment:
        """Take a moment by chance, or one of which that share of the steps is done."""
        steps, pictures = len(self.pictures.times), self.pictures.latents.cpu()
        at = chance.randrange(steps) if share is None else round(share * (steps - 1))
        row = chance.randrange(len(pictures))
        own = pictures[row : row + 1]
        noise = torch.randn(own.shape, generator=torch.Generator().manual_seed(chance.randrange(2**31)))
        latents, goal = noised(self.family.pipe.scheduler, own, noise, self.pictures.times[at : at + 1])
        device = self.family.pipe._execution_device
        goal = self.family.output_sign * goal
        return Moment(latents.to(device), self.pictures.inputs[at : at + 1].to(device), goal.to(device))

    @torch.no_grad()
    def wanted(self, moment: Moment) -> Tensor:
        """Give what the bare model predicts from the target's own prompt."""
        return self.told.predict(moment.latents, moment.times)

    def rate(self, victim: Victim, moment: Moment, wanted: Tensor) -> Rate:
        """Make the measure of how far a victim's prediction is from what is wanted; 1 is as far as one from nothing."""
        with torch.no_grad():
            nothing = self.nothing.predict(moment.latents, moment.times)
        scale = (nothing - wanted).square().mean().clamp(min=1e-8)

        def distance(passed: Passed) -> Tensor:
            far: Tensor = (victim.predict(passed, moment.latents, moment.times) - wanted).square().mean() / scale
            return far

        return distance
