"""Training of Latent Guard's network (`safegen.safeguards.latent_guard`) for one concept, with the text encoder alone.

After Liu et al. (2024, arXiv 2404.08031): of a batch of prompts and the phrases that they contain, every prompt should
be nearest to its own phrase, and every phrase to its own prompt. The safe counterpart of every prompt is one more
prompt that is nearest to none; so are benign prompts here. The threshold is the score that all but a small share of
benign prompts stay under.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from safegen.learning.corpus import Corpus, benign_prompts
from safegen.learning.effort import PLAIN_SIGHT
from safegen.learning.held import kind, split_held_out
from safegen.safeguards.latent_guard import PART, LatentSpace, read_positions
from safegen.safeguards.sentences import sentence

if TYPE_CHECKING:
    from safegen.directions.direction import Direction
    from safegen.directions.recipes import Concept
    from safegen.families import Family

STEPS, BATCH, RATE = 200, 32, 1e-3
PROMPTS = 640  # harmful ones, and as many safe counterparts
KEPT = 300  # benign prompts of each kind: what only looks harmful, and everyday text
HELD = 10  # one recipe line in this many is kept out of the training that is assessed
PASS = 0.005  # share of benign prompts over the threshold


def learn(
    concept: Concept,
    family: Family,
    directions: Mapping[str, Direction],
    tick: Callable[[int], None] | None = None,
) -> dict[str, Direction]:
    """Add a latent space to each direction, with its held-out figures.

    Args:
        concept: the recipe of `directions`.
        family: the model to learn for.
        directions: the concept's directions by channel; what they hold is kept.
        tick: told of every step.
    """
    corpus = Corpus.of(concept, PLAIN_SIGHT)
    return {channel: _learn(concept, corpus, family, channel, d, tick) for channel, d in directions.items()}


class Texts:
    """Encoded prompts: their states (N, T, D) in half precision, and which positions (N, T) are read."""

    def __init__(self, family: Family, channel: str, prompts: list[str]) -> None:
        states, read = [], []
        for start in range(0, len(prompts), 64):
            part = family.encode_words(prompts[start : start + 64]).channels[channel]
            states.append(part.states.half().cpu())
            read.append(read_positions(part).cpu())
        length = max(part.shape[1] for part in states)
        self.states = torch.cat([F.pad(part, (0, 0, 0, length - part.shape[1])) for part in states])
        self.read = torch.cat([F.pad(part, (0, length - part.shape[1])) for part in read])

    def score(self, net: LatentSpace, phrases: Tensor, rows: Tensor) -> Tensor:
        """Score some prompts against phrases (P, D)."""
        scores: Tensor = net(self.states[rows].float(), self.read[rows], phrases)
        return scores

    def highest(self, net: LatentSpace, phrases: Tensor, rows: Tensor) -> Tensor:
        """Give the highest score (N,) of each of some prompts."""
        with torch.no_grad():
            return torch.cat([self.score(net, phrases, part).amax(1) for part in torch.split(rows, 64)])


def _learn(
    concept: Concept,
    corpus: Corpus,
    family: Family,
    channel: str,
    direction: Direction,
    tick: Callable[[int], None] | None,
) -> Direction:
    calm = Texts(family, channel, [*corpus.hard_sample(KEPT), *benign_prompts()[:KEPT]])
    chosen = range(0, len(corpus.targets), 1 + len(corpus.targets) // PROMPTS)
    harmful, safe = (Texts(family, channel, [texts[i] for i in chosen]) for texts in (corpus.targets, corpus.anchors))
    phrases = sentence(family.encode_words(list(concept.targets)).channels[channel]).float().cpu()
    groups = torch.tensor([corpus.groups[i] for i in chosen])
    apart = split_held_out(groups, HELD)
    turn = torch.arange(len(calm.states)) % HELD == 0
    trial = train(harmful, safe, calm, phrases, groups, (~apart).nonzero().flatten(), (~turn).nonzero().flatten(), tick)
    figures = {
        "caught": (harmful.highest(trial, phrases, apart.nonzero().flatten()) > trial.threshold),
        "benign_caught": (calm.highest(trial, phrases, turn.nonzero().flatten()) > trial.threshold),
    }
    every, others = (torch.arange(len(part.states)) for part in (harmful, calm))
    learned = train(harmful, safe, calm, phrases, groups, every, others, tick)
    rounded = {name: round(float(share.float().mean()), 4) for name, share in figures.items()}
    return direction.extended(PART, learned.tensors(), rounded, kind(groups, HELD))


def train(
    harmful: Texts,
    safe: Texts,
    calm: Texts,
    phrases: Tensor,
    groups: Tensor,
    rows: Tensor,
    others: Tensor,
    tick: Callable[[int], None] | None = None,
) -> LatentSpace:
    """Train a network and set its threshold.

    Args:
        harmful: the prompts.
        safe: their safe counterparts.
        calm: benign prompts.
        phrases: the blacklist (P, D).
        groups: the phrase (N,) that each harmful prompt contains.
        rows: the harmful prompts that are learned from.
        others: the benign prompts that are learned from.
        tick: told of every step.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = LatentSpace(phrases.shape[1])
    read = calm.states[others][calm.read[others]].float()
    net.mean.copy_(read.mean(0))
    net.scale.copy_(read.std().reshape(1))
    chance = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE)
    for _ in range(STEPS):
        ours = rows[torch.randint(len(rows), (BATCH,), generator=chance)]
        rest = others[torch.randint(len(others), (BATCH,), generator=chance)]
        own, column = torch.unique(groups[ours], return_inverse=True)
        scores = harmful.score(net, phrases[own], ours)  # (B, P)
        apart = torch.cat([safe.score(net, phrases[own], ours), calm.score(net, phrases[own], rest)])
        # A phrase has as many right prompts as contain it, and no safe or benign one.
        among = torch.cat([scores, apart]).log_softmax(0)[: len(ours)]
        loss = F.cross_entropy(scores, column) - among.gather(1, column[:, None]).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if tick is not None:
            tick(1)
    net.eval().requires_grad_(False)
    net.threshold.copy_(calm.highest(net, phrases, others).quantile(1 - PASS).reshape(1))
    return net
