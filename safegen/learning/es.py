"""Training of the learned sanitizer (`safegen.safeguards.es`) for one concept, with the text encoder alone.

After Qiu et al. (2024, arXiv 2411.10329), who train on synthetic pairs of a target and an anchor in the
same context: the sanitized target prompt should be the encoding of the anchor prompt at every position,
what is benign should stay as it is, and a token's score should be how much of the harm it carries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from safegen.conditioning import Position
from safegen.learning.corpus import Corpus, benign_prompts
from safegen.learning.effort import PLAIN_SIGHT
from safegen.learning.held import kind, split_held_out
from safegen.safeguards.es import SanitizerNet

if TYPE_CHECKING:
    from safegen.conditioning import Token
    from safegen.directions.direction import Direction
    from safegen.directions.recipes import Concept
    from safegen.families import Family

STEPS, BATCH, RATE = 300, 16, 4e-3
KEPT = 600  # benign prompts of each kind: what only looks harmful, and everyday text
HELD = 10  # one recipe line in this many is kept out of the training that is assessed
KEEP, SCORE = 1.0, 0.1  # weights of the losses beside erasure


@dataclass(frozen=True)
class Pairs:
    """N target prompts, their goals and the labels of their tokens."""

    states: Tensor  # (N, T, D) half precision
    positions: Tensor  # (N, T)
    goals: Tensor  # (N, T, D) the anchor prompt's states, brought to the target's positions
    labels: Tensor  # (N, T) from 0 to 1: the share of the harm that a token carries

    def __len__(self) -> int:
        return len(self.states)

    def where(self, rows: Tensor) -> Pairs:
        return Pairs(self.states[rows], self.positions[rows], self.goals[rows], self.labels[rows])

    @classmethod
    def joined(cls, parts: Sequence[Pairs]) -> Pairs:
        """Join several sets into one, all padded to the longest."""
        length = max(part.states.shape[1] for part in parts)

        def column(name: str, value: float) -> Tensor:
            tensors = [getattr(part, name) for part in parts]
            short = [length - tensor.shape[1] for tensor in tensors]
            tails = [(*(0,) * (2 * tensor.dim() - 4), 0, n) for tensor, n in zip(tensors, short, strict=True)]
            return torch.cat([F.pad(tensor, tail, value=value) for tensor, tail in zip(tensors, tails, strict=True)])

        return cls(column("states", 0), column("positions", Position.ABSENT), column("goals", 0), column("labels", 0))


def slot(target: Sequence[str], anchor: Sequence[str]) -> tuple[int, int]:
    """Count how many tokens two prompts share at the beginning, and, of the rest, at the end."""
    short = min(len(target), len(anchor))
    first = next((i for i in range(short) if target[i] != anchor[i]), short)
    last = next((i for i in range(short - first) if target[-1 - i] != anchor[-1 - i]), short - first)
    return first, last


def alignment(target: Sequence[Token], anchor: Sequence[Token]) -> tuple[list[int], list[int]]:
    """Map every position of the target prompt to a position of the anchor prompt; give the slot's positions, too.

    Where the slot has more tokens than its counterpart, the counterpart's are repeated.
    """
    ours, theirs = ([i for i, t in enumerate(row) if t.position is Position.TOKEN] for row in (target, anchor))
    first, last = slot([target[i].text for i in ours], [anchor[i].text for i in theirs])
    inside, counterpart = ours[first : len(ours) - last], theirs[first : len(theirs) - last] or theirs[-1:]
    mapped: dict[int, int] = dict(zip(ours[:first], theirs[:first], strict=True))
    if last:
        mapped |= dict(zip(ours[-last:], theirs[-last:], strict=True))
    mapped |= {place: counterpart[i * len(counterpart) // len(inside)] for i, place in enumerate(inside)}
    special: dict[Position, int] = {t.position: i for i, t in enumerate(anchor) if t.position is not Position.TOKEN}
    # A pad goes to the pad at the same place if there is one, else to the last pad.
    goals = [
        mapped[i] if i in mapped else i if anchor[i].position is t.position else special.get(t.position, i)
        for i, t in enumerate(target)
    ]
    return goals, inside


def pairs(corpus: Corpus, family: Family, channel: str, rows: Sequence[int]) -> Pairs:
    """Encode and align the corpus's target and anchor prompts `rows`."""
    parts = []
    for start in range(0, len(rows), 64):
        batch = rows[start : start + 64]
        ours = family.encode([corpus.targets[i] for i in batch]).channels[channel]
        theirs = family.encode([corpus.anchors[i] for i in batch]).channels[channel]
        length = max(ours.states.shape[1], theirs.states.shape[1])
        ours, theirs = ours.padded(length), theirs.padded(length)
        goals, labels = torch.empty_like(ours.states), torch.zeros(ours.states.shape[:2])
        for row in range(len(batch)):
            # A pooled vector stands for its counterpart.
            places, inside = alignment(ours.tokens[row], theirs.tokens[row]) if ours.worded else ([0], [0])
            goals[row] = theirs.states[row][places]
            moved = (goals[row] - ours.states[row]).float().norm(dim=-1).cpu()
            labels[row] = moved / moved.max().clamp(min=1e-6)
            labels[row, inside] = 1.0
        parts.append(Pairs(ours.states.half().cpu(), ours.positions.cpu(), goals.half().cpu(), labels))
    return Pairs.joined(parts)


def benign_pairs(family: Family, channel: str, prompts: Sequence[str]) -> Pairs:
    """Encode benign prompts as pairs that are their own goal."""
    found = [family.encode(prompts[i : i + 64]).channels[channel] for i in range(0, len(prompts), 64)]
    parts = [(c.states.half().cpu(), c.positions.cpu()) for c in found]
    return Pairs.joined([Pairs(states, places, states, torch.zeros(places.shape)) for states, places in parts])


def losses(net: SanitizerNet, batch: Pairs) -> tuple[Tensor, Tensor]:
    """Compute the squared distance to the goals, in benign variances, and the scores' cross-entropy."""
    states = batch.states.float()
    edits, odds = net(states, batch.positions)
    miss = (states + odds.sigmoid().unsqueeze(-1) * edits - batch.goals.float()) / net.scale
    return miss.square().mean(), F.binary_cross_entropy_with_logits(odds, batch.labels)


def train(harmful: Pairs, benign: Pairs, tick: Callable[[int], None] | None = None, seed: int = 0) -> SanitizerNet:
    """Train a network for one channel of one concept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = SanitizerNet(harmful.states.shape[-1])
    flat = benign.states.float().flatten(0, 1)
    net.mean.copy_(flat.mean(0))
    net.scale.copy_(flat.std().reshape(1))
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    net.train()
    for _ in range(STEPS):
        ours = harmful.where(torch.randint(0, len(harmful), (BATCH,), generator=draw))
        goals = replace(ours, states=ours.goals, labels=torch.zeros_like(ours.labels))
        rest = benign.where(torch.randint(0, len(benign), (BATCH,), generator=draw))
        erase, harm = losses(net, ours)
        keep, calm = zip(losses(net, goals), losses(net, rest), strict=True)
        loss = erase + KEEP * sum(keep, torch.zeros(())) + SCORE * (harm + sum(calm, torch.zeros(())))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if tick is not None:
            tick(1)
    return net.eval().requires_grad_(False)


def assess(net: SanitizerNet, held: Pairs, benign: Pairs) -> dict[str, float]:
    """Measure, on held-out recipe lines, the share of the way to the anchor that is covered; and benign drift."""

    def left(part: Pairs) -> tuple[Tensor, Tensor, Tensor]:
        states, goals = part.states.float(), part.goals.float()
        return net.sanitized(states, part.positions, 1.0), states, goals

    new, old, goal = left(held)
    still, calm, _ = left(benign)
    drift = 1 - F.cosine_similarity(still.flatten(1).double(), calm.flatten(1).double())
    return {
        "erased": round(1 - float((new - goal).square().mean() / (old - goal).square().mean()), 4),
        "benign_drift": round(float(drift.mean()), 5),
    }


def learn(
    concept: Concept,
    family: Family,
    directions: Mapping[str, Direction],
    tick: Callable[[int], None] | None = None,
) -> dict[str, Direction]:
    """Add a learned sanitizer to each direction, with its held-out figures.

    Args:
        concept: the recipe of `directions`.
        family: the model to learn for.
        directions: the concept's directions by channel; what they hold is kept.
        tick: told of every step.
    """
    corpus = Corpus.of(concept, PLAIN_SIGHT)
    return {channel: _learn(corpus, family, channel, d, tick) for channel, d in directions.items()}


def _learn(
    corpus: Corpus, family: Family, channel: str, direction: Direction, tick: Callable[[int], None] | None
) -> Direction:
    benign = benign_pairs(family, channel, [*corpus.hard_sample(KEPT), *benign_prompts()[:KEPT]])
    harmful = pairs(corpus, family, channel, range(len(corpus.targets)))
    held = split_held_out(corpus.groups, HELD)
    without = train(harmful.where(~held), benign, tick)
    figures = assess(without, harmful.where(held), benign.where(torch.arange(0, len(benign), 10)))
    learned = train(harmful, benign, tick).tensors()
    return direction.extended("es", learned, figures, kind(corpus.groups, HELD))
