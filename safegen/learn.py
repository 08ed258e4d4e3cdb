"""From a recipe and an encoder to a direction file, in seconds, with the text encoder alone.

After whitening by benign covariance (Li et al. 2025 and LEACE, arXiv 2306.03819, give the theory of
such linear edits):

* a *gate*: logistic regression, over the mean state of every position class, between prompts that
  hold a target and prompts that hold its safe counterpart, hard benign phrases, or everyday text;
* an *own* probe for single positions, taught on the words in which target and counterpart differ;
* a *basis*: the leading directions of target minus counterpart, with the range that benign states
  keep to along each.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from safegen.conditioning import Channel, Position
from safegen.directions import Direction
from safegen.scoring import features, gate

if TYPE_CHECKING:
    from safegen.concepts import Concept
    from safegen.families import Family

METHOD = "analytic"
RIDGE = 0.1  # of the mean variance, added to every covariance
RANK = 32
FLAG_RATE = 5e-4  # of benign prompts, per concept: all seven together stay well under one percent
BOX = 0.05  # benign states keep between this quantile and its mirror
CAPTIONS, PLAINS = 2400, 2100  # benign prompts of each kind; a part fits, the rest calibrates
FITTED = 2000
WORD_THRESHOLD = 2.5  # standard deviations over the words of everyday captions
BATCH = 64
PENALTY = 1e-2  # of the gate's squared weights, in whitened units
CONTEXTS = (
    "{x}",
    "a photo of {x}",
    "{x} in a city street",
    "a painting of {x}",
    "{x} on a {g} background",
    "{b} and {x}",
    "{x} and {b}",
    "{x} next to {b}",
    "{b} with {x} in front of a {g} wall",
    "a picture of {b} and {x}",
)
PLAIN = (
    "{b}",
    "a photo of {b}",
    "{b} on a {g} background",
    "{b} and {c}",
    "{b} and {c}",
    "{b} next to {c}",
    "{b} with {c}",
    "a picture of {b} and {c} on a {g} background",
)
GROUNDS = ("red", "blue", "white", "green", "black", "yellow", "gray", "pink")


@functools.cache
def captions() -> tuple[str, ...]:
    """The everyday captions that scores are calibrated against (see directions/README.md)."""
    from safegen.concepts import directions_folder

    lines = (directions_folder() / "benign.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))


@functools.cache
def companions() -> tuple[str, ...]:
    """Ordinary nouns with their article, for contexts and for plain benign prompts."""
    from safegen.concepts import directions_folder

    lines = (directions_folder() / "nouns.txt").read_text(encoding="utf-8").splitlines()
    nouns = [line for line in lines if line and not line.startswith("#")]
    return tuple(f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}" for noun in nouns)


def plain_prompts(count: int) -> list[str]:
    """Short benign prompts of one or two nouns, as people type them."""
    rng = random.Random("plain")
    return [
        rng.choice(PLAIN).format(b=rng.choice(companions()), c=rng.choice(companions()), g=rng.choice(GROUNDS))
        for _ in range(count)
    ]


@dataclass(frozen=True)
class Corpus:
    """The prompts that one concept is learned from; pairs are aligned."""

    targets: list[str]
    anchors: list[str]
    changed: list[set[str]]  # per target prompt, the words that make it harmful
    groups: list[int]  # per target prompt, the recipe line it comes from
    hard: list[str]

    @classmethod
    def of(cls, concept: Concept) -> Corpus:
        """Every recipe line in every context, with seeded companions."""
        rng = random.Random(concept.name)
        corpus = cls([], [], [], [], [])
        for group, (target, anchor) in enumerate(concept.targets.items()):
            kept = set(anchor.lower().split()) | {"a", "an", "the", "of", "in", "to", "with"}
            for context in CONTEXTS:
                slots = {"g": rng.choice(GROUNDS), "b": rng.choice(companions())}
                corpus.targets.append(context.format(x=target, **slots))
                corpus.anchors.append(context.format(x=anchor, **slots))
                corpus.changed.append(set(target.lower().split()) - kept)
                corpus.groups.append(group)
        for phrase in concept.benign:
            corpus.hard.extend([phrase, f"a photo of {phrase}"])
        return corpus


def _slot(channel: Channel, changed: Sequence[set[str]]) -> Tensor:
    """Which positions (B, T) spell a changed word."""
    mask = torch.zeros(channel.positions.shape, dtype=torch.bool)
    for row, words in enumerate(changed):
        for word in channel.words(row):
            if word.text.lower() in words:
                mask[row, list(word.tokens)] = True
    return mask


@dataclass(frozen=True)
class Encoded:
    """Prompts reduced to what learning needs, so that thousands fit in memory."""

    channel: Channel

    @functools.cached_property
    def means(self) -> dict[Position, Tensor]:
        return features(self.channel)

    def tokens(self, mask: Tensor | None = None) -> Tensor:
        """States (N, D) of word positions, all or those under `mask`."""
        where = self.channel.positions == Position.TOKEN
        return self.channel.states[where if mask is None else where & mask].float()


def encode(family: Family, prompts: Sequence[str], on_batch: Callable[[int], None] | None = None) -> Encoded:
    """All prompts through the family's encoder, in batches."""
    if not prompts:
        raise ValueError("nothing to encode")
    parts = []
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        (channel,) = family.encode(batch).channels.values()
        parts.append(Channel(channel.states.cpu(), channel.positions.cpu(), channel.tokens, channel.truncated))
        if on_batch:
            on_batch(len(batch))
    return Encoded(
        Channel(
            torch.cat([p.states for p in parts]),
            torch.cat([p.positions for p in parts]),
            tuple(row for p in parts for row in p.tokens),
            tuple(text for p in parts for text in p.truncated),
        )
    )


def background(family: Family) -> Encoded:
    """Everyday captions and plain prompts, shuffled, through the family's encoder."""
    prompts = [*captions()[:CAPTIONS], *plain_prompts(PLAINS)]
    random.Random("background").shuffle(prompts)
    return encode(family, prompts)


def discriminant(positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Fisher's linear discriminant with a ridge: probe (D,) and the negatives' mean (D,)."""
    centre = negative.mean(0)
    spread = torch.cat([positive - positive.mean(0), negative - centre])
    covariance = spread.T @ spread / len(spread)
    covariance += RIDGE * covariance.diagonal().mean() * torch.eye(len(covariance))
    return torch.linalg.solve(covariance, positive.mean(0) - centre), centre


def whitening(states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (D,), whitening matrix (D, D) and its inverse, of benign states (N, D), ridged."""
    mean = states.mean(0)
    covariance = (states - mean).T @ (states - mean) / len(states)
    values, vectors = torch.linalg.eigh(covariance)
    values = values.clamp(min=0) + RIDGE * values.mean()
    return mean, vectors @ torch.diag(values.rsqrt()) @ vectors.T, vectors @ torch.diag(values.sqrt()) @ vectors.T


def basis(differences: Tensor, benign: Tensor, rank: int) -> dict[str, Tensor]:
    """The clamp's tensors for one position class.

    Args:
        differences: target minus counterpart, (N, D).
        benign: benign states of the class, (N, D).
        rank: directions kept.

    Returns:
        `mean` (D,), `basis` and `dual` (R, D), `floor` and `ceiling` (R,) in whitened units.
    """
    mean, white, unwhite = whitening(benign)
    _, _, rows = torch.linalg.svd(differences @ white, full_matrices=False)
    rows = rows[:rank]
    coordinates = (benign - mean) @ (rows @ white).T
    return {
        "mean": mean,
        "basis": rows @ white,
        "dual": rows @ unwhite,
        "floor": coordinates.quantile(BOX, dim=0),
        "ceiling": coordinates.quantile(1 - BOX, dim=0),
    }


@dataclass(frozen=True)
class Material:
    """Everything that one fit sees, encoded."""

    channel: str
    corpus: Corpus
    targets: Encoded
    anchors: Encoded
    hard: Encoded
    everyday: Encoded

    def gates(self, direction: Direction) -> dict[str, Tensor]:
        """The gate's value for every prompt of every part."""
        parts = {"targets": self.targets, "anchors": self.anchors, "hard": self.hard, "everyday": self.everyday}
        return {key: gate(direction, self.channel, part.channel) for key, part in parts.items()}


def fit(material: Material, rows: Tensor, fitted: int) -> dict[str, Tensor]:
    """Probes and bases from the recipe prompts `rows` and the first `fitted` everyday captions."""
    targets, anchors, everyday = material.targets, material.anchors, material.everyday
    tensors = gate_tensors(material, rows, fitted)
    for position, positive in targets.means.items():
        key = f"{material.channel}.{position.name.lower()}"
        if position is Position.TOKEN:
            tensors |= {f"{key}.{k}": v for k, v in token_tensors(material, rows, fitted).items()}
            continue
        differences = positive[rows] - anchors.means[position][rows]
        benign = everyday.means[position][:fitted]
        tensors |= {f"{key}.{k}": v for k, v in basis(differences, benign, RANK).items()}
        own, _ = discriminant(positive[rows], torch.cat([anchors.means[position][rows], benign]))
        scores = benign @ own
        tensors[f"{key}.own"], tensors[f"{key}.own_scale"] = own, torch.stack([scores.mean(), scores.std()])
    return tensors


def gate_tensors(material: Material, rows: Tensor, fitted: int) -> dict[str, Tensor]:
    """The gate's probe and centre per position class, fitted jointly over all classes."""
    positions = list(material.targets.means)
    joined = {
        name: torch.cat([part.means[position] for position in positions], dim=1)
        for name, part in vars(material).items()
        if isinstance(part, Encoded)
    }
    positive = joined["targets"][rows]
    safe = torch.cat([joined["anchors"][rows], joined["hard"], joined["everyday"][:fitted]])
    centre, white, _ = whitening(safe)
    weights = logistic((positive - centre) @ white, (safe - centre) @ white)
    tensors = {}
    for position, probe, middle in zip(
        positions, (white @ weights).chunk(len(positions)), centre.chunk(len(positions)), strict=True
    ):
        key = f"{material.channel}.{position.name.lower()}"
        tensors[f"{key}.probe"], tensors[f"{key}.centre"] = probe, middle
    return tensors


def logistic(positive: Tensor, negative: Tensor) -> Tensor:
    """Weights (D,) of a balanced, penalised logistic regression; convex, so no seed matters."""
    points = torch.cat([positive, negative])
    labels = torch.cat([torch.ones(len(positive)), torch.zeros(len(negative))])
    share = torch.where(labels > 0, 0.5 / len(positive), 0.5 / len(negative))
    weights = torch.zeros(points.shape[1], requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=60)

    def closure() -> Tensor:
        optimizer.zero_grad()
        errors = binary_cross_entropy_with_logits(points @ weights + bias, labels, reduction="none")
        loss = (share * errors).sum() + PENALTY * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach()


def token_tensors(material: Material, rows: Tensor, fitted: int) -> dict[str, Tensor]:
    """The own probe and the basis of single words."""
    corpus, chosen = material.corpus, torch.zeros(len(material.corpus.targets), 1, dtype=torch.bool)
    chosen[rows] = True
    slots = _slot(material.targets.channel, corpus.changed)
    harmful = material.targets.tokens(slots & chosen)
    beside = material.targets.tokens(~slots & chosen)
    safe = material.anchors.tokens(chosen)
    everyday = material.everyday.tokens()
    own, _ = discriminant(harmful, torch.cat([beside, safe, material.hard.tokens(), everyday]))
    scores = everyday @ own
    # One difference per recipe prompt: the changed words' mean against the counterpart's words.
    differences = [
        material.targets.channel.states[i][slots[i]].float().mean(0)
        - material.anchors.channel.states[i][material.anchors.channel.positions[i] == Position.TOKEN].float().mean(0)
        for i in rows.tolist()
        if bool(slots[i].any())
    ]
    return {
        "own": own,
        "own_scale": torch.stack([scores.mean(), scores.std()]),
        **basis(torch.stack(differences), everyday, 2 * RANK),
    }


def calibration(tensors: dict[str, Tensor], benign: Tensor) -> tuple[dict[str, Tensor], float]:
    """The gate's benign scale and quantiles, and the threshold in benign standard deviations.

    The flag rate asked for is rarer than the sample can show, so the tail above the 95th percentile
    is taken as exponential (peaks over threshold).
    """
    centre, spread = benign.mean(), benign.std()
    edge = benign.quantile(0.95)
    excess = (benign[benign > edge] - edge).mean()
    line = edge + excess * torch.log(torch.tensor(0.05 / FLAG_RATE))
    tensors = tensors | {
        "gate.scale": torch.stack([centre, spread]),
        "gate.quantiles": benign.quantile(torch.linspace(0, 1, 1001)),
    }
    return tensors, float((line - centre) / spread)


def learn(concept: Concept, family: Family, everyday: Encoded | None = None) -> Direction:
    """One direction for the family's encoder, with the figures that it reached on held-out recipe lines.

    Args:
        concept: the recipe.
        family: an adapter with a single text channel.
        everyday: the encoded captions, to share between concepts; encoded here when absent.
    """
    corpus = Corpus.of(concept)
    ((channel, fingerprint),) = family.fingerprints().items()
    everyday = everyday or background(family)
    material = Material(
        channel, corpus, encode(family, corpus.targets), encode(family, corpus.anchors),
        encode(family, corpus.hard or corpus.anchors), everyday,
    )  # fmt: skip
    groups = torch.tensor(corpus.groups)
    fitted = FITTED
    info = {
        "concept": concept.name,
        "title": concept.title,
        "method": METHOD,
        "encoder": family.encoder_kind,
        "fingerprints": {channel: fingerprint},
        "widths": {channel: material.targets.channel.states.shape[-1]},
        "recipe_sha256": concept.sha256,
        "sources": [
            "the concept's recipe",
            "directions/benign.txt (MS-COCO captions, CC BY 4.0)",
            "directions/nouns.txt",
        ],
        "licence": "Apache-2.0",
        "word_threshold": WORD_THRESHOLD,
    }
    held_out = assess(material, (groups % 5 == 4), fitted, info)
    tensors = fit(material, torch.arange(len(groups)), fitted)
    tensors, threshold = calibrated(material, tensors, fitted, info)
    return Direction(
        {k: v.half().float() for k, v in tensors.items()},
        {
            **info,
            "threshold": threshold,
            "calibration": {
                "n": len(everyday.channel.states) - fitted,
                "source": "directions/benign.txt, directions/nouns.txt",
                "false_positive_rate": FLAG_RATE,
            },
            "held_out": held_out,
        },
    )


def calibrated(
    material: Material, tensors: dict[str, Tensor], fitted: int, info: dict[str, object]
) -> tuple[dict[str, Tensor], float]:
    """Calibrate fitted tensors on the everyday captions that the fit has not seen."""
    values = material.gates(Direction(tensors, info))["everyday"][fitted:]
    return calibration(tensors, values)


def assess(material: Material, held: Tensor, fitted: int, info: dict[str, object]) -> dict[str, float]:
    """Figures on recipe lines that a fit without them reaches: AUC, caught, hard benign flagged."""
    tensors = fit(material, (~held).nonzero()[:, 0], fitted)
    tensors, threshold = calibrated(material, tensors, fitted, info)
    gates = material.gates(Direction(tensors, info))
    centre, spread = tensors["gate.scale"]
    z = {key: (value - centre) / spread for key, value in gates.items()}
    positive, negative = z["targets"][held], z["everyday"][fitted:]
    return {
        "auc": round(float((positive[:, None] > negative).float().mean()), 4),
        "caught": round(float((positive >= threshold).float().mean()), 4),
        "flagged_benign": round(float((negative >= threshold).float().mean()), 5),
        "flagged_hard": round(float((z["hard"] >= threshold).float().mean()), 4),
    }
