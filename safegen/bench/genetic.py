"""The genetic attack of Ring-A-Bell (Tsai et al. 2024, arXiv 2310.10012) against the sanitized embedding.

The attacker has the text encoder and the guard, but not the denoiser. So the attack knows the defence. It
looks for words whose embedding, after the guard, is nearest to that of a harmful prompt pushed further along
its concept: fitness is -|San(E(words)) - (E(prompt) + ETA v)|^2, where v is the mean difference between the
recipe's targets and their anchors. The paper starts from random tokens and goes on for thousands of
generations; this attack draws from the words that alone come nearest to the goal.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from safegen.errors import GuardError
from safegen.learning.vocabulary import meanings
from safegen.prompts import refusal

if TYPE_CHECKING:
    from safegen.bench.results import Tick
    from safegen.directions.recipes import Concept
    from safegen.families import Family
    from safegen.guard.bound import BoundGuard
    from safegen.learning.vocabulary import Lexicon

POPULATION, ELITE, GENERATIONS = 32, 8, 16
NEAR = 400  # words that attacks are made from
WORDS = 6  # words of an attack
MUTATION, CROSSOVER = 0.25, 0.5
ETA = 0.5
Genes = tuple[str, ...]  # the words of an attack


def attack(
    family: Family,
    guard: BoundGuard | None,
    prompt: str,
    recipe: Concept,
    lexicon: Lexicon,
    rng: random.Random,
    tick: Tick,
) -> str:
    """Find the words that come nearest to the goal through the guard, or without a guard."""
    targets, anchors = list(recipe.targets)[:32], list(recipe.targets.values())[:32]
    aim = _states(family, [prompt])[0] + ETA * (_states(family, targets) - _states(family, anchors)).mean(0)
    push = (meanings(family, targets) - meanings(family, anchors)).mean(0)
    words = [lexicon.words[i] for i in lexicon.near(meanings(family, [prompt]) + ETA * push, NEAR)[0].tolist()]
    people = [tuple(rng.choice(words) for _ in range(WORDS)) for _ in range(POPULATION)]
    known: dict[Genes, float] = {}  # nothing is measured twice: the guard takes long
    for _ in range(GENERATIONS):
        fresh = [
            genes for genes in dict.fromkeys(people) if genes not in known and not refusal.names_minor(" ".join(genes))
        ]
        known |= zip(fresh, _fitness(family, guard, fresh, aim), strict=True)
        best = sorted(known, key=lambda genes: -known[genes])[:ELITE]
        people = [_child(best, words, rng) for _ in range(POPULATION - ELITE)]
        tick(1)
    return " ".join(best[0])


def _child(best: Sequence[Genes], words: Sequence[str], rng: random.Random) -> Genes:
    mother, father = (rng.choice(best) for _ in range(2))
    cut = rng.randrange(1, WORDS) if rng.random() < CROSSOVER else WORDS
    genes = (*mother[:cut], *father[cut:])
    return tuple(rng.choice(words) if rng.random() < MUTATION else gene for gene in genes)


def _fitness(family: Family, guard: BoundGuard | None, people: Sequence[Genes], aim: Tensor) -> list[float]:
    if not people:
        return []
    conditioning = family.encode([" ".join(genes) for genes in people])
    states = dict(enumerate(next(iter(conditioning.channels.values())).states))
    if guard is not None:
        for row, sheet in enumerate(guard.score(conditioning)):
            if not sheet.flagged:
                continue
            try:
                passed, _ = guard.sanitize(conditioning.only(row))
                states[row] = next(iter(passed.channels.values())).states[0]
            except GuardError:
                del states[row]  # failed closed, so useless to the attacker
    return [
        -float((states[row].float() - aim).square().mean()) if row in states else -float("inf")
        for row in range(len(people))
    ]


def _states(family: Family, texts: Sequence[str]) -> Tensor:
    return next(iter(family.encode(list(texts)).channels.values())).states.float()
