"""UnlearnDiffAtk (Zhang et al., ECCV 2024, arXiv 2310.11868): a prefix under which the model itself sees the harm.

A diffusion model is a classifier: the better it denoises a picture under a prompt, the more the picture is what the
prompt says. So no second model is needed; the attack takes one harmful picture, and learns five words before the
target

    minimise |eps - eps_guarded(x_t, prefix + target)|^2

A place's word is a distribution over the alphabet. The loss is that of the likeliest words (straight through), and
after each step the distribution is projected onto the simplex. Times are attacked one after the other, in 40 steps
each, from the noisy end on, and each ends with a look at the picture. The scale of a step is filled in: the steepest
entry of a gradient counts as 1.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safegen.attacks.alphabet import Template, fill, gaps
from safegen.attacks.attack import Budget, Found
from safegen.attacks.descent import Candidates, GradientAttack
from safegen.attacks.moments import Moments
from safegen.attacks.targets import Target

if TYPE_CHECKING:
    from safegen.attacks.victim import Victim

PREFIX = 5  # words
RATE = 0.01
STEPS = 40  # at one time


class UnlearnDiffAtk(GradientAttack):
    """Learn a prefix under which the model denoises a harmful picture best (Zhang et al., ECCV 2024)."""

    name = "unlearndiffatk"
    published = "40 at each of 50 times"
    tries = 200

    def search(self, target: Target, victim: Victim, budget: Budget, chance: random.Random) -> Found | None:
        alphabet, moments = victim.alphabet, Moments(target, victim)
        template: Template = [*[None] * PREFIX, *target.prompt.split()]
        generator = torch.Generator().manual_seed(chance.randrange(2**31))
        shares = project(torch.rand(PREFIX, len(alphabet), generator=generator))
        times, candidates = -(-budget.tries // STEPS), Candidates(target, victim)
        for time in range(times):
            moment = moments.sample(chance, time / times)
            rate = moments.rate(victim, moment, moment.goal)
            for _ in range(STEPS):
                if not budget.spend():
                    break
                words = [alphabet.words[i] for i in shares.argmax(1).tolist()]
                weighed = candidates.weigh(fill(template, words), rate)
                slope = alphabet.slopes(weighed.at(gaps(template, words))).cpu()
                shares = project(shares - RATE * slope / slope.abs().amax().clamp(min=1e-12))
            if candidates.look().harmful:
                break
        return candidates.found


def project(points: Tensor) -> Tensor:
    """Project rows (S, V) onto the simplex: shares that are not negative and add up to 1."""
    ordered = points.sort(dim=1, descending=True).values
    excess = ordered.cumsum(1) - 1
    ranks = torch.arange(1, points.shape[1] + 1, device=points.device)
    last = (ordered * ranks > excess).sum(1, keepdim=True)
    return torch.relu(points - excess.gather(1, last - 1) / last)
