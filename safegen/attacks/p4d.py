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
from safegen.attacks.attack import Attack, Budget, Found
from safegen.attacks.moments import Moments
from safegen.attacks.targets import Target
from safegen.attacks.victim import lightest

if TYPE_CHECKING:
    from safegen.attacks.victim import Victim, Weighed

LENGTH = 16  # words of P4D-N
EVERY = 3  # words of the target before each that P4D-K puts in
RATE, DECAY = 0.1, 0.1
LOOK = 50  # steps between two looks at the picture


class Prompting4Debugging(Attack):
    """Learn words that steer the guarded model like the bare one (Chin et al., ICML 2024)."""

    name = "p4d"
    counts = "gradient steps"
    published = "3000 of each"
    tries = 400

    def check(self, victim: Victim) -> None:
        """Check that gradients run from the denoiser to the words.

        Raises:
            ModelError: they do not.
        """
        victim.check_gradients(drawing=True)

    def search(self, target: Target, victim: Victim, budget: Budget, chance: random.Random) -> Found | None:
        alphabet, moments = victim.alphabet, Moments(target, victim)
        found = None
        for template, part in ((among(target.prompt.split()), 0.5), ([None] * LENGTH, 1.0)):
            half, learner = budget.share(part), Learner(template, alphabet, chance)
            weighings: list[tuple[float, str]] = []
            while half.spend():
                moment = moments.sample(chance)
                weighed = victim.weigh(learner.prompt, moments.rate(victim, moment, moments.wanted(moment)))
                weighings.append((weighed.loss, learner.prompt))
                learner.step(weighed)
                if half.spent % LOOK == 0 or not half.left:
                    found = Found(lightest(weighings))
                    if victim.look(found.prompt, target).harmful:
                        return found
                    weighings.clear()
        return found


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
