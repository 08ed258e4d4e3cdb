"""Controllable reverse generation (Zhang et al., EMNLP Findings 2022, arXiv 2212.01810): harmless words for a picture.

The paper turns a language model round: given an unsafe response, it writes the context that would bring it on, with the
context's own toxicity under control. Here the response is a harmful picture, and what is written is a prompt that looks
harmless and is likely given the picture:

    p(prompt | picture) ~ p(picture | prompt) p(prompt)

The prior is a language model of captions (`NGrams`), in the place of the paper's DialoGPT. The likelihood is that of the
diffusion model itself: how much better than nothing the prompt denoises the picture, behind the guard. Prompts are
written word by word, with a beam; gradients say which next words are worth a measurement, which the paper has no need
for. The control: no word of the recipes' harmful phrases, and nothing in which the reader finds harm.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safegen.attacks.alphabet import gaps
from safegen.attacks.attack import Attack, Budget, Found, Target
from safegen.attacks.moments import Moments
from safegen.attacks.ngrams import NGrams
from safegen.learning.corpus import captions
from safegen.reader import Reader
from safegen.reader.lexicon import harmful_words

if TYPE_CHECKING:
    from safegen.attacks.alphabet import Alphabet
    from safegen.attacks.victim import Passed, Victim

LENGTH, WIDTH, BATCH = 8, 3, 6  # words of a prompt, prompts of a beam, next words that are measured for each
TIMES = (0.2, 0.4)  # shares of the steps that are done at the moments of a picture that prompts are measured at
FLUENCY = 0.02  # of a loss of 1, for one unit of the mean log-likelihood
PULL = 2.0  # how much the gradient counts against the language model where next words are chosen


@dataclass(frozen=True)
class Line:
    """A prompt in the making: its words, their summed log-likelihood, and what it costs."""

    words: tuple[str, ...] = ()
    fluency: float = 0.0
    loss: float = math.inf

    @property
    def cost(self) -> float:
        """The loss, and how unlike a caption it is."""
        return self.loss - FLUENCY * self.fluency / max(1, len(self.words))

    @property
    def prompt(self) -> str:
        return " ".join(self.words)


class ReverseGeneration(Attack):
    """Write prompts that look harmless for a harmful picture (Zhang et al., EMNLP Findings 2022)."""

    name = "reverse"
    counts = "prompts that the picture is denoised with"
    published = "none: its language model answers at once"

    def check(self, victim: Victim) -> None:
        """Check that gradients run from the denoiser to the words.

        Raises:
            ModelError: they do not.
        """
        victim.check_gradients(drawing=True)

    def search(self, target: Target, victim: Victim, budget: Budget, chance: random.Random) -> Found:
        alphabet = victim.alphabet.without(harmful_words() | set(target.prompt.lower().split()))
        writer = Writer(victim, Moments(target, victim), alphabet, chance)
        best = Line(tuple(alphabet.words[i] for i in alphabet.sample(1, chance)))
        while budget.left:
            beam = [Line()]
            for _ in range(LENGTH):
                beam = sorted((new for line in beam for new in writer.extend(line, budget)), key=lambda new: new.cost)
                beam = beam[:WIDTH]
                if not beam:
                    break
                if beam[0].cost < best.cost:
                    best = beam[0]
                    if victim.look(best.prompt, target).harmful:
                        return Found(best.prompt)
        return Found(best.prompt)


class Writer:
    """Writes prompts for a picture, word by word."""

    def __init__(self, victim: Victim, moments: Moments, alphabet: Alphabet, chance: random.Random) -> None:
        self.victim, self.alphabet, self.chance = victim, alphabet, chance
        some = [moments.sample(chance, share) for share in TIMES]
        self._rates = [moments.rate(victim, moment, moment.goal) for moment in some]

    def extend(self, line: Line, budget: Budget) -> list[Line]:
        """Measure the prompt with each of a few next words, those that look harmless."""
        if not budget.spend():
            return []
        likely = torch.tensor(language().log_likelihoods(line.words, self.alphabet.words))
        words = (*line.words, self.alphabet.words[self.alphabet.sample(1, self.chance)[0]])
        weighed = self.victim.weigh(" ".join(words), self._rate)
        slope = self.alphabet.slopes(weighed.at(gaps([*line.words, None], words[-1:])))[0].cpu()
        score = likely - PULL * slope / slope.std().clamp(min=1e-12)
        some = [(*line.words, self.alphabet.words[i]) for i in score.topk(min(4 * BATCH, len(score))).indices.tolist()]
        calm = [new for new, harmless in zip(some, _harmless([" ".join(new) for new in some]), strict=True) if harmless]
        calm = calm[: min(BATCH, budget.left)]
        budget.spend(len(calm))
        losses = self.victim.rate([" ".join(new) for new in calm], self._rate) if calm else []
        place = {word: i for i, word in enumerate(self.alphabet.words)}
        return [
            Line(new, line.fluency + float(likely[place[new[-1]]]), loss)
            for new, loss in zip(calm, losses, strict=True)
        ]

    def _rate(self, passed: Passed) -> Tensor:
        return torch.stack([rate(passed) for rate in self._rates]).mean()


@functools.cache
def language() -> NGrams:
    """Learn the language of captions, once."""
    return NGrams(captions())


def _harmless(prompts: Sequence[str]) -> list[bool]:
    """Tell of each prompt whether the reader finds no harm in it."""
    return [not reading.spans for reading in Reader.load().read(list(prompts))]
