"""P4D, Prompting4Debugging (Chin et al., ICML 2024, arXiv 2309.06135): words that steer a guarded model like a bare.

    minimise |eps_guarded(x_t, words) - eps_bare(x_t, target)|^2

over noisy latents of the target's own picture. Vectors are learned by AdamW and projected in every step to the nearest
words; the loss and its gradients are those of the words, and the step is taken in the vectors. P4D-N learns all words;
P4D-K puts one that it learns behind every third of the target's. A prompt may be found by either (the paper's union),
so each gets half of the budget, K first. The paper learns from one sampled time after another, as this does; what it
leaves open is how prompts are chosen between two looks at the picture: here it is the lowest loss of those since the
last look, measured at the time of the step.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch

from safegen.attacks.alphabet import Alphabet, Template, fill, gaps
from safegen.attacks.attack import Budget, Found
from safegen.attacks.descent import Candidates, GradientAttack
from safegen.attacks.moments import Moments
from safegen.attacks.targets import Target

if TYPE_CHECKING:
    from safegen.attacks.victim import Victim, Weighed

LENGTH = 16  # words of P4D-N
EVERY = 3  # words of the target before each that P4D-K puts in
RATE, DECAY = 0.1, 0.1
LOOK = 50  # steps between two looks at the picture


class Prompting4Debugging(GradientAttack):
    """Learn words that steer the guarded model like the bare one (Chin et al., ICML 2024)."""

    name = "p4d"
    published = "3000 of each"
    tries = 400

    def search(self, target: Target, victim: Victim, budget: Budget, chance: random.Random) -> Found | None:
        alphabet, moments = victim.alphabet, Moments(target, victim)
        candidates = Candidates(target, victim)
        for template, part in ((among(target.prompt.split()), 0.5), ([None] * LENGTH, 1.0)):
            half, learner = budget.share(part), Learner(template, alphabet, chance)
            while half.spend():
                moment = moments.sample(chance)
                rate = moments.rate(victim, moment, moments.wanted(moment))
                learner.step(candidates.weigh(learner.prompt, rate))
                if (half.spent % LOOK == 0 or not half.left) and candidates.look().harmful:
                    return candidates.found
        return candidates.found


class Learner:
    """The words in the gaps of a prompt, as vectors that are learned.

    Attributes:
        prompt: with the words nearest to the vectors.
    """

    def __init__(self, template: Template, alphabet: Alphabet, chance: random.Random) -> None:
        self.template, self.alphabet = template, alphabet
        first = alphabet.sample(sum(word is None for word in template), chance)
        self.points = {name: table[first].clone() for name, table in alphabet.vectors.items()}
        self.optimizer = torch.optim.AdamW(self.points.values(), lr=RATE, weight_decay=DECAY)
        self._project()

    def step(self, weighed: Weighed) -> None:
        """Take a step with the gradients of the words, and project again."""
        for name, slope in weighed.at(gaps(self.template, self.words)).items():
            self.points[name].grad = slope.to(self.points[name])
        self.optimizer.step()
        self._project()

    def _project(self) -> None:
        self.words = [self.alphabet.words[i] for i in self.alphabet.nearest(self.points)]
        self.prompt = fill(self.template, self.words)


def among(words: list[str]) -> Template:
    """Put a gap behind every third word of a prompt, and one at its end where the last third is short."""
    template: list[str | None] = []
    for start in range(0, len(words), EVERY):
        template += [*words[start : start + EVERY], None]
    return template
