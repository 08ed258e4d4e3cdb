"""Word salads: prompts without grammar that mean, to the encoder, what a recipe's line means.

An attack that searches with the encoder alone ends at such prompts (Ring-A-Bell, Tsai et al. 2024, arXiv
2310.10012), and a head that has only seen sentences misses most of them. Here they are made without the search:
from a random handful of words, we take one by one those whose mean comes nearest to the aim. Salads made in the
same way for harmless aims keep a head from taking the lack of grammar for harm.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safegen.directions.recipes import Concept, known
from safegen.learning.corpus import companions
from safegen.learning.vocabulary import Lexicon, meanings, vocabulary
from safegen.prompts import refusal

if TYPE_CHECKING:
    from safegen.families import Family
    from safegen.learning.effort import Effort

# How many nearest words a handful comes from; the sizes of such handfuls; the size of a handful from all words.
NEARBY, HANDFULS, ANYWHERE = (60, 150, 400), (12, 25, 50), 2000
SHORTEST, LONGEST, STRAY = 2, 9, (0, 0, 1, 2)  # words; of them, words that have nothing to do with the aim
PUSHES = (0.0, 0.5, 1.0)  # along the way from anchor to target, beyond the target


@dataclass(frozen=True)
class Salads:
    """Salads of a recipe's targets with the line of each, salads of its anchors, and plain ones."""

    harmful: list[str]
    groups: list[int]
    harmless: list[str]
    plain: list[str]

    @property
    def size(self) -> int:
        """The number of all salads."""
        return len(self.harmful) + len(self.harmless) + len(self.plain)

    @classmethod
    def of(cls, concept: Concept, family: Family, effort: Effort) -> Salads:
        """Make the salads of a recipe; without enough words in the vocabulary there are none."""
        words = vocabulary(family, effort.vocabulary) if effort.vocabulary else []
        if len(words) < NEARBY[0]:
            return cls([], [], [], [])
        lexicon = Lexicon.of(family, words)
        found, rng = cls([], [], [], plain(family, lexicon, effort)), random.Random(f"salads {concept.name}")
        targets, anchors = (meanings(family, list(t)) for t in (concept.targets, concept.targets.values()))
        common = (targets - anchors).mean(0)
        for group, (target, anchor) in enumerate(zip(targets, anchors, strict=True)):
            aims = torch.stack([target + far * way for far in PUSHES for way in (common, target - anchor)])
            nearby = lexicon.near(aims, NEARBY[-1])
            for turn in range(effort.salads):
                at = turn % len(aims)
                text = toss(aims[at], lexicon, nearby[at], rng)
                if not refusal.names_minor(text):
                    found.harmful.append(text)
                    found.groups.append(group)
            (away,) = lexicon.near(anchor.unsqueeze(0), NEARBY[-1], off=common)
            found.harmless.extend(toss(anchor, lexicon, away, rng) for _ in range(effort.calm_salads))
        return found


def plain(family: Family, lexicon: Lexicon, effort: Effort) -> list[str]:
    """Make salads of ordinary nouns, and of random words that no standard recipe has; the same for every concept."""
    rng, nouns = random.Random("plain salads"), Lexicon.of(family, companions()).meanings
    nearby = lexicon.near(nouns, NEARBY[-1])
    chosen = [rng.randrange(len(nouns)) for _ in range(effort.plain_salads)]
    loaded = {
        word for recipe in map(Concept.load, known()) for target in recipe.targets for word in target.lower().split()
    }
    others = [word for word in lexicon.words if word not in loaded]
    drawn = [rng.sample(others, rng.randint(SHORTEST, LONGEST)) for _ in range(effort.random_salads)]
    return [*(toss(nouns[i], lexicon, nearby[i], rng) for i in chosen), *map(" ".join, drawn)]


def toss(aim: Tensor, lexicon: Lexicon, nearby: Tensor, rng: random.Random) -> str:
    """Choose words whose mean comes nearest to `aim` (D,), from a random handful that is mostly of `nearby`."""
    count = len(lexicon.words)
    if rng.random() < 0.75:
        pool = _some(nearby[: rng.choice(NEARBY)], rng.choice(HANDFULS), rng)
    else:
        pool = _some(torch.arange(count), ANYWHERE, rng)
    points = lexicon.meanings[pool]
    norms, total, chosen = points.square().sum(1), torch.zeros_like(aim), list[int]()
    for number in range(1, min(rng.randint(SHORTEST, LONGEST), len(pool)) + 1):
        # |total + point - number aim|^2, without the terms that are the same for every point
        far = norms + 2 * points @ (total - number * aim)
        far[chosen] = torch.inf
        chosen.append(int(far.argmin()))
        total = total + points[chosen[-1]]
    words = [lexicon.words[int(pool[i])] for i in chosen]
    rng.shuffle(words)
    for _ in range(rng.choice(STRAY)):
        words.insert(rng.randrange(len(words) + 1), lexicon.words[rng.randrange(count)])
    return " ".join(words)


def _some(indices: Tensor, count: int, rng: random.Random) -> Tensor:
    places: Sequence[int] = rng.sample(range(len(indices)), min(count, len(indices)))
    return indices[list(places)]
