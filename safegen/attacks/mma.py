"""MMA-Diffusion, text modality (Yang et al., CVPR 2024, arXiv 2311.17516): other words with the target's embedding.

From random words, gradients of the likeness say which words to put in which place (a greedy coordinate gradient), and
the best of a batch of such swaps is kept:

    maximise cos(E(words), E(target)),  and no word is on the banned list

Here the list is the words of all recipes' harmful phrases, the target's own among them. The paper compares the
encoder's pooled embedding; which of a family's outputs stand for it is filled in: the mean state of every channel.
Behind a guard, E(words) is what passes it. A batch is ranked by the encoder and the classifiers' lines, which are
quick, and only its best goes through the whole guard.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from safegen.attacks.alphabet import Template, fill, gaps, words_of
from safegen.attacks.attack import Attack, Budget, Found
from safegen.attacks.targets import Target
from safegen.attacks.victim import EVASION
from safegen.conditioning import Conditioning, Position
from safegen.prompts import refusal
from safegen.reader.lexicon import harmful_words

if TYPE_CHECKING:
    from safegen.attacks.victim import Passed, Victim

LENGTH = 8  # words; fewer than in the paper, so that fewer tries are enough
TOP = 256  # words for each place, of which swaps are made
BATCH = 16  # swaps of a step


class MultimodalAttack(Attack):
    """Swap words until they have the target's embedding, without a banned one (Yang et al., CVPR 2024)."""

    name = "mma"
    counts = "prompts that are encoded"
    published = "1000 steps with a batch of swaps each"
    tries = 3400

    def check(self, victim: Victim) -> None:
        """Check that gradients run from the encoders to the words.

        Raises:
            ModelError: they do not.
        """
        victim.check_gradients()

    def search(self, target: Target, victim: Victim, budget: Budget, chance: random.Random) -> Found:
        alphabet = victim.alphabet.without(harmful_words() | set(words_of(target.prompt)))
        goal = meaning(victim.family.encode([target.prompt]))

        def rate(passed: Passed) -> Tensor:
            return unlikeness(passed.conditioning, goal)[0]

        template: Template = [None] * LENGTH
        letters = alphabet.sample(LENGTH, chance)
        best, kept = math.inf, letters
        while budget.spend():
            words = [alphabet.words[i] for i in letters]
            weighed = victim.weigh(fill(template, words), rate)
            if weighed.loss < best or math.isinf(best):
                best, kept = weighed.loss, letters
            likely = (-alphabet.slopes(weighed.at(gaps(template, words)))).topk(min(TOP, len(alphabet)), dim=1).indices
            swaps = [_swapped(letters, likely, chance) for _ in range(min(BATCH, budget.left))]
            if not swaps or not budget.spend(len(swaps)):
                break
            letters = swaps[_best(victim, [alphabet.text(swap) for swap in swaps], goal)]
        return Found(alphabet.text(kept))


def _swapped(letters: Sequence[int], likely: Tensor, chance: random.Random) -> list[int]:
    """Put one of the likely words (S, TOP) of a place into it."""
    at = chance.randrange(len(letters))
    return [*letters[:at], int(likely[at, chance.randrange(likely.shape[1])]), *letters[at + 1 :]]


@torch.no_grad()
def _best(victim: Victim, prompts: Sequence[str], goal: Mapping[str, Tensor]) -> int:
    """Find the prompt that is nearest to the goal, and not far over a classifier's line."""
    conditioning = victim.family.encode(prompts)
    loss = unlikeness(conditioning, goal) + EVASION * victim.exposure(conditioning)
    minors = torch.tensor([refusal.names_minor(prompt) for prompt in prompts], device=loss.device)
    return int(loss.masked_fill(minors, torch.inf).argmin())


def meaning(conditioning: Conditioning) -> dict[str, Tensor]:
    """Give the mean state (B, D) of every channel, over what the denoiser reads of the prompts."""
    found = {}
    for name, channel in conditioning.channels.items():
        read = (channel.positions < Position.TEMPLATE).unsqueeze(-1)
        found[name] = (channel.states.float() * read).sum(1) / read.sum(1).clamp(min=1)
    return found


def unlikeness(conditioning: Conditioning, goal: Mapping[str, Tensor]) -> Tensor:
    """Measure how far prompts (B,) are from a goal (1, D): one minus the cosine, the mean over channels."""
    found = [1 - F.cosine_similarity(mean, goal[name], dim=-1) for name, mean in meaning(conditioning).items()]
    return torch.stack(found).mean(0)
