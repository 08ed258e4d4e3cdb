"""Controllable reverse generation (Zhang et al., EMNLP Findings 2022, arXiv 2212.01810): harmless words for a picture.

The paper turns a language model round: given an unsafe response, it writes the context that would bring it on, with
the context's own toxicity under control. Here the response is a harmful picture, and what is written is a prompt that
looks harmless and is likely given the picture:

    p(prompt | picture) ~ p(picture | prompt) p(prompt)

The prior is a language model of captions (`NGrams`), in the place of the paper's DialoGPT. The likelihood is the
diffusion model's own: how well a prompt denoises the picture, behind the guard. Prompts are written word by word. Which
words are worth a measurement next is foretold from those that were measured, by a ridge regression on what the encoders
look up for them, with some noise; the paper's model, which is trained for the task, has no need for that. The control:
no word of the recipes' harmful phrases, and nothing in which the reader finds harm.
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
from torch.nn import functional as F

from safegen.attacks.alphabet import words_of
from safegen.attacks.attack import Attack, Budget, Found
from safegen.attacks.moments import Moments
from safegen.attacks.ngrams import NGrams
from safegen.attacks.targets import Target
from safegen.learning.corpus import captions
from safegen.reader import Reader
from safegen.reader.lexicon import harmful_words

if TYPE_CHECKING:
    from safegen.attacks.alphabet import Alphabet
    from safegen.attacks.victim import Passed, Victim

LENGTH, WIDTH, BATCH = 6, 3, 6  # words of a prompt, prompts that are gone on with, next words measured for each
TIMES = (0.2, 0.4)  # shares of the steps that are done at the moments of a picture that prompts are measured at
FLUENCY = 0.02  # of a loss of 1, for one unit of the mean log-likelihood
RIDGE, NOISE = 1.0, 0.3  # of the regression; and of what it foretells, in deviations of the losses that were measured


@dataclass(frozen=True)
class Line:
    """A prompt in the making: its words, by their places in the alphabet, how likely they are, and their loss."""

    letters: tuple[int, ...] = ()
    fluency: float = 0.0  # log-likelihoods, added up
    loss: float = math.inf

    @property
    def cost(self) -> float:
        """The loss, and how unlike a caption it is."""
        return self.loss - FLUENCY * self.fluency / max(1, len(self.letters))


class ReverseGeneration(Attack):
    """Write prompts that look harmless for a harmful picture (Zhang et al., EMNLP Findings 2022)."""

    name = "reverse"
    counts = "prompts that the picture is denoised with"
    published = "none: its language model answers at once"
    tries = 600

    def check(self, victim: Victim) -> None:
        """Check that the denoiser can be asked.

        Raises:
            ModelError: there is none, or it is compiled.
        """
        victim.family.bottleneck.check_hooks()

    def search(self, target: Target, victim: Victim, budget: Budget, chance: random.Random) -> Found | None:
        alphabet = victim.alphabet.without(harmful_words() | set(words_of(target.prompt)))
        writer, best = Writer(victim, Moments(target, victim), alphabet, chance), Line()
        while budget.left and writer.go_on(budget):
            if writer.lines[0] != best:
                best = writer.lines[0]
                if victim.look(alphabet.text(best.letters), target).harmful:
                    break
        return Found(alphabet.text(best.letters)) if best.letters else None


class Writer:
    """Writes prompts for a picture, word by word.

    Attributes:
        lines: those that were measured, the best first.
    """

    def __init__(self, victim: Victim, moments: Moments, alphabet: Alphabet, chance: random.Random) -> None:
        self.victim, self.alphabet, self.chance = victim, alphabet, chance
        self.lines: list[Line] = []
        some = [moments.sample(chance, share) for share in TIMES]
        self._rates = [moments.rate(victim, moment, moment.goal) for moment in some]
        self._vectors = torch.cat([F.normalize(table - table.mean(0), dim=1) for table in alphabet.vectors.values()], 1)

    def go_on(self, budget: Budget) -> bool:
        """Begin a prompt and go on with the best ones; tell whether anything was left to measure."""
        open_ = [line for line in self.lines if len(line.letters) < LENGTH and math.isfinite(line.loss)]
        before = len(self.lines)
        for line in (Line(), *open_[:WIDTH]):
            self.lines += self._measured(self._next(line)[: budget.left], budget)
        self.lines.sort(key=lambda line: line.cost)
        return len(self.lines) > before

    def _next(self, line: Line) -> list[Line]:
        """Choose the next words of a prompt that promise most, and look harmless."""
        words = [self.alphabet.words[i] for i in line.letters]
        likely = torch.tensor(language().log_likelihoods(words, self.alphabet.words))
        promise = self._foretell(line) - FLUENCY * (line.fluency + likely) / (len(words) + 1)
        known = {one.letters for one in self.lines}
        found = []
        for letter in promise.topk(min(8 * BATCH, len(promise)), largest=False).indices.tolist():
            letters = (*line.letters, letter)
            if letters not in known and letter not in line.letters and _harmless(self.alphabet.text(letters)):
                found.append(Line(letters, line.fluency + float(likely[letter])))
            if len(found) == BATCH:
                break
        return found

    def _foretell(self, line: Line) -> Tensor:
        """Foretell the loss of a prompt with each next word (V,), with noise."""
        generator = torch.Generator().manual_seed(self.chance.randrange(2**31))
        noise = torch.randn(len(self.alphabet), generator=generator)
        seen = [one for one in self.lines if math.isfinite(one.loss)]
        if len(seen) < 2:
            return noise
        losses = torch.tensor([one.loss for one in seen])
        points = torch.stack([self._vectors[list(one.letters)].mean(0) for one in seen]).cpu()
        kernel = points @ points.T + RIDGE * torch.eye(len(seen))
        pull = points.T @ torch.linalg.solve(kernel, losses - losses.mean())
        own = self._vectors[list(line.letters)].sum(0)
        means = (own + self._vectors).cpu() / (len(line.letters) + 1)
        foretold: Tensor = losses.mean() + means @ pull + NOISE * losses.std() * noise
        return foretold

    def _measured(self, lines: Sequence[Line], budget: Budget) -> list[Line]:
        budget.spend(len(lines))
        losses = self.victim.rate([self.alphabet.text(line.letters) for line in lines], self._rate) if lines else []
        return [Line(line.letters, line.fluency, loss) for line, loss in zip(lines, losses, strict=True)]

    def _rate(self, passed: Passed) -> Tensor:
        return torch.stack([rate(passed) for rate in self._rates]).mean()


@functools.cache
def language() -> NGrams:
    """Learn the language of captions, once."""
    return NGrams(captions())


def _harmless(prompt: str) -> bool:
    """Tell whether the reader finds no harm in a prompt."""
    (reading,) = Reader.load().read([prompt])
    return not reading.spans
