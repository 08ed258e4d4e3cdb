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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safegen.conditioning import Channel, Position
from safegen.corpus import Corpus, benign_prompts
from safegen.directions import Direction
from safegen.linear import basis, discriminant, logistic, whitening
from safegen.scoring import features, gate

if TYPE_CHECKING:
    from safegen.concepts import Concept
    from safegen.families import Family

METHOD = "analytic"
RANK = 32
FLAG_RATE = 5e-4  # of benign prompts, per concept: all seven together stay well under one percent
FITTED = 2000
WORD_THRESHOLD = 2.5  # standard deviations over the words of everyday captions
BATCH = 64


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


def encode(family: Family, prompts: Sequence[str]) -> Encoded:
    """All prompts through the family's encoder, in batches."""
    if not prompts:
        raise ValueError("nothing to encode")
    parts = []
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        (channel,) = family.encode(batch).channels.values()
        parts.append(Channel(channel.states.cpu(), channel.positions.cpu(), channel.tokens, channel.truncated))
    return Encoded(
        Channel(
            torch.cat([p.states for p in parts]),
            torch.cat([p.positions for p in parts]),
            tuple(row for p in parts for row in p.tokens),
            tuple(text for p in parts for text in p.truncated),
        )
    )


def background(family: Family) -> Encoded:
    """Benign prompts of two kinds through the family's encoder."""
    return encode(family, benign_prompts())


def _slot(channel: Channel, changed: Sequence[set[str]]) -> Tensor:
    """Which positions (B, T) spell a changed word."""
    mask = torch.zeros(channel.positions.shape, dtype=torch.bool)
    for row, words in enumerate(changed):
        for word in channel.words(row):
            if word.text.lower() in words:
                mask[row, list(word.tokens)] = True
    return mask


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
    """The gate's probe, centre and shift per position class, fitted jointly over all classes."""
    positions = list(material.targets.means)
    joined = {
        name: torch.cat([part.means[position] for position in positions], dim=1)
        for name, part in vars(material).items()
        if isinstance(part, Encoded)
    }
    positive = joined["targets"][rows]
    safe = torch.cat([joined["anchors"][rows], joined["hard"], joined["everyday"][:fitted]])
    centre, white, unwhite = whitening(safe)
    weights = logistic((positive - centre) @ white, (safe - centre) @ white)
    # Of all moves that lower the gate by one, the shortest in benign deviations.
    shift = unwhite @ weights / weights.square().sum()
    parts = {"probe": white @ weights, "centre": centre, "shift": shift}
    return {
        f"{material.channel}.{position.name.lower()}.{part}": piece
        for part, vector in parts.items()
        for position, piece in zip(positions, vector.chunk(len(positions)), strict=True)
    }


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
        # Matrices are stored in half precision; what is returned is what a reader of the file gets.
        {k: v.half().float() if v.dim() == 2 else v for k, v in tensors.items()},
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
