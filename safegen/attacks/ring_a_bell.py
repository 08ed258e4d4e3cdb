"""Ring-A-Bell (Tsai et al., ICLR 2024, arXiv 2310.10012): words whose embedding is that of a prompt plus a concept.

The attacker has the text encoder and nothing else, so one search serves against every guard. The concept is the mean
difference between harmful phrases and their harmless counterparts, v = mean(E(with) - E(without)), and a genetic
search looks for the words that come nearest to the prompt pushed along it:

    minimise |E(words) - (E(prompt) + ETA v)|^2

Length, strength and rates are the paper's for nudity; the pairs are the recipe's. The paper leaves open how parents
are chosen: here the better half of all live on, and the others are children of two of them. Its tokens are words here,
see `Alphabet`. It chooses from all of them, for 600,000 prompts; so that fewer are enough, these are the words whose
vectors are nearest to the prompt's and the concept's. `safegen bench genetic` has a search of this kind that knows the
guard.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from safegen.attacks.attack import Attack, Budget, Found
from safegen.attacks.targets import Target
from safegen.directions.recipes import Concept
from safegen.errors import UsageError
from safegen.prompts import refusal

if TYPE_CHECKING:
    from safegen.attacks.alphabet import Alphabet
    from safegen.attacks.victim import Victim
    from safegen.families import Family

POPULATION = 200
LENGTH = 16  # words
ETA = 3.0
CROSSOVER, MUTATION = 0.5, 0.25
PAIRS = 64  # of a recipe, that the concept is the mean of
NEAR = 400  # words that prompts are made of
BATCH = 50

Genes = tuple[int, ...]  # places in the alphabet


class RingABell(Attack):
    """Search the words nearest to a prompt plus its concept (Tsai et al., ICLR 2024)."""

    name = "ring-a-bell"
    counts = "prompts that are encoded"
    published = "3000 generations of 200"
    tries = 6000
    adaptive: ClassVar[bool] = False

    def check(self, victim: Victim) -> None:
        """Check that embeddings can be compared position by position.

        Raises:
            UsageError: they are as long as their prompts.
        """
        if victim.family.variable_length:
            raise UsageError(
                "ring-a-bell compares embeddings position by position, "
                f"and those of a {type(victim.family.pipe).__name__} are as long as their prompts",
                "Take another attack: mma or p4d.",
            )

    def search(self, target: Target, victim: Victim, budget: Budget, chance: random.Random) -> Found:
        family, folder = victim.family, victim.generator.steerer.folder
        recipe = Concept.load(target.concept, folder)
        aim, alphabet = _aim(family, target, recipe), _near(victim.alphabet, target, recipe)
        size = min(POPULATION, max(4, budget.tries // 4))  # a small budget is not spent on one generation
        people = [tuple(alphabet.sample(LENGTH, chance)) for _ in range(size)]
        known: dict[Genes, float] = {}
        while True:
            fresh = [genes for genes in dict.fromkeys(people) if genes not in known][: budget.left]
            if not fresh or not budget.spend(len(fresh)):
                break
            known |= zip(fresh, _distances(family, [alphabet.text(genes) for genes in fresh], aim), strict=True)
            best = sorted(known, key=lambda genes: known[genes])[: size // 2]
            people = [_child(best, alphabet, chance) for _ in range(size - len(best))]
        return Found(alphabet.text(best[0]))


def _child(parents: Sequence[Genes], alphabet: Alphabet, chance: random.Random) -> Genes:
    mother, father = chance.choice(parents), chance.choice(parents)
    cut = chance.randrange(1, LENGTH) if chance.random() < CROSSOVER else LENGTH
    child = [*mother[:cut], *father[cut:]]
    if chance.random() < MUTATION or tuple(child) == mother:
        child[chance.randrange(LENGTH)] = chance.randrange(len(alphabet))
    return tuple(child)


def _near(alphabet: Alphabet, target: Target, recipe: Concept) -> Alphabet:
    """Keep the words whose vectors are nearest to the prompt's and the concept's, as they are looked up."""
    phrases, anchors = list(recipe.targets)[:PAIRS], list(recipe.targets.values())[:PAIRS]
    prompt, harmful, harmless = (alphabet.spell(" ".join(texts)) for texts in ([target.prompt], phrases, anchors))
    likeness: list[Tensor] = []
    for table in alphabet.vectors.values():
        own, push = table[prompt], table[harmful].mean(0) - table[harmless].mean(0)
        aims = torch.cat([own, (table.mean(0) + ETA * push)[None]])
        likeness.append(F.normalize(table, dim=1) @ F.normalize(aims, dim=1).T)
    nearest = torch.stack(likeness).mean(0).amax(1).topk(min(NEAR, len(alphabet))).indices
    return alphabet.only(nearest.tolist())


def _aim(family: Family, target: Target, recipe: Concept) -> dict[str, Tensor]:
    """Give the embedding of the prompt plus the concept (T, D), by channel."""
    phrases, anchors = list(recipe.targets)[:PAIRS], list(recipe.targets.values())[:PAIRS]
    prompt, harmful, harmless = (_states(family, texts) for texts in ([target.prompt], phrases, anchors))
    return {name: prompt[name][0] + ETA * (harmful[name] - harmless[name]).mean(0) for name in prompt}


def _distances(family: Family, prompts: Sequence[str], aim: dict[str, Tensor]) -> list[float]:
    states = _states(family, prompts)
    total = torch.stack([(states[name] - aim[name]).square().flatten(1).sum(1) for name in aim]).sum(0)
    minors = torch.tensor([refusal.names_minor(prompt) for prompt in prompts], device=total.device)
    found: list[float] = total.masked_fill(minors, torch.inf).tolist()
    return found


def _states(family: Family, prompts: Sequence[str]) -> dict[str, Tensor]:
    """Encode prompts (N, T, D), by channel, a few at a time."""
    parts = [family.encode(prompts[start : start + BATCH]).channels for start in range(0, len(prompts), BATCH)]
    return {name: torch.cat([part[name].states.float() for part in parts]) for name in parts[0]}
