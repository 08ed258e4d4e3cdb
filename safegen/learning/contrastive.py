"""Learning a direction file from a recipe, with the text encoder alone.

After whitening by benign covariance (Li et al. 2025 and LEACE, arXiv 2306.03819, give the theory of
such linear edits):

* a *classifier* (`gate` in the file, see `heads.py`) over the mean states of position classes. It separates
  prompts that hold a target from prompts that hold its safe counterpart, the benign phrases of every recipe,
  or everyday text;
* a *verifier* (`check`) of the same form on other classes, which has the last word on a repaired prompt;
* a *token probe* (`own`) for single positions, taught on the words in which target and counterpart differ;
* a *basis*: the leading directions of target minus counterpart, with the range that benign states
  keep to along each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from safegen.conditioning import Position
from safegen.directions.direction import BINS, HEADS, Direction, round_tensor
from safegen.learning import heads
from safegen.learning.adversarial import Salads
from safegen.learning.corpus import Corpus
from safegen.learning.dataset import Material
from safegen.learning.effort import Effort
from safegen.learning.encoded import Encoded
from safegen.learning.features import background
from safegen.learning.held import kind, split_held_out
from safegen.learning.linear import STILL, basis, discriminant
from safegen.progress import SILENT, Progress
from safegen.scoring.probes import Probes

if TYPE_CHECKING:
    from safegen.directions.recipes import Concept
    from safegen.families import Family
    from safegen.families.outputs import EncoderOutput
    from safegen.prompts.datasets import Entry

METHOD = "contrastive"
RANK = 32
HELD = 5  # one recipe line in this many is kept out of the fit that is assessed
FLAG_RATE = 8e-4  # of benign prompts, per concept: all seven together stay under half a percent
FEWEST = 20  # everyday prompts of one bin of lengths; with fewer, those of all lengths calibrate it
LEVELS = torch.linspace(0, 1, 1001)  # levels of the quantiles that a file holds
WORD_THRESHOLD = 2.5  # standard deviations over the words of everyday captions
BENIGN = "directions/benign.txt (MS-COCO captions, CC BY 4.0), directions/nouns.txt, directions/hard.txt"


def fit(material: Material, rows: Tensor) -> dict[str, Tensor]:
    """Fit heads, token probes and bases to the recipe prompts `rows` and the fitted part of everyday text."""
    targets, anchors, everyday = material.targets, material.anchors, material.everyday
    tensors = {k: v for head in HEADS for k, v in head_tensors(material, rows, head).items()}
    for position in material.positions:
        key, positive = position.name.lower(), targets.features.means[position]
        if position is Position.TOKEN:
            tensors |= word_tensors(material, rows, key)
            continue
        counterpart = anchors.features.means[position][rows]
        benign = everyday.features.means[position][: material.fitted][
            everyday.features.present[position][: material.fitted]
        ]
        tensors |= {f"{key}.{k}": v for k, v in basis(positive[rows] - counterpart, benign, RANK).items()}
        own, _ = discriminant(positive[rows], torch.cat([counterpart, benign]))
        tensors |= {f"{key}.{k}": v for k, v in own_tensors(own, benign).items()}
    return tensors


def own_tensors(own: Tensor, benign: Tensor) -> dict[str, Tensor]:
    """Give a token probe (D,), its scale and, in that scale, its quantiles over benign states (N, D)."""
    scores = benign @ own
    scale = torch.stack([scores.mean(), scores.std()])
    quantiles = ((scores - scale[0]) / scale[1]).quantile(LEVELS)
    return {"own": own, "own_scale": scale, "own_quantiles": quantiles}


def head_tensors(material: Material, rows: Tensor, head: str, members: int | None = None) -> dict[str, Tensor]:
    """Fit a head jointly over its position classes."""
    positions = [p for p in material.positions if p in HEADS[head]]
    # Prompts that only look harmful are the hardest to tell, so they count twice.
    safe = [part.joined(positions) for part in (material.hard, material.hard, material.company)]
    safe += [material.anchors.joined(positions)[rows], material.everyday.joined(positions)[: material.fitted]]
    safe += [part.joined(positions) for part in (material.safe, material.tossed) if part is not None]
    harmful = [(material.targets.joined(positions)[rows], heads.TARGETS)]
    if material.unsafe is not None:
        harmful.append((material.unsafe.joined(positions), heads.UNSAFE))
    if material.salads is not None:
        lines = torch.isin(material.salad_groups, material.groups[rows])
        harmful.append((material.salads.joined(positions)[lines], heads.SALADS))
    keys = [position.name.lower() for position in positions]
    effort, harmless = material.effort, torch.cat(safe)
    parts = []
    if effort.line < 1:
        nets = heads.train(harmful, harmless, effort.steps, members or effort.members, effort.dimensions)
        parts.append((nets, 1 - effort.line))
    if effort.line:
        parts.append((heads.solve(torch.cat([points for points, _ in harmful]), harmless), effort.line))
    return heads.split(heads.blend(parts, harmless), head, keys)


def word_tensors(material: Material, rows: Tensor, key: str) -> dict[str, Tensor]:
    """Fit the token probe and the basis of single words."""
    targets, anchors, everyday = material.targets, material.anchors, material.everyday.words
    chosen = torch.zeros(len(targets), dtype=torch.bool)
    chosen[rows] = True
    ours, theirs = chosen[targets.owners], chosen[anchors.owners]
    harmful, beside = targets.words[ours & targets.slots], targets.words[ours & ~targets.slots]
    own, _ = discriminant(harmful, torch.cat([beside, anchors.words[theirs], material.hard.words, everyday]))
    # One difference per recipe prompt: the changed words' mean against the counterpart's words.
    changed, has = targets.means_of_words(targets.slots)
    counterpart, _ = anchors.means_of_words(torch.ones_like(anchors.slots))
    tensors = {
        **own_tensors(own, everyday),
        **basis((changed - counterpart)[has & chosen], everyday, 2 * RANK),
    }
    return {f"{key}.{name}": value for name, value in tensors.items()}


def calibration(values: Tensor, bins: Tensor, head: str) -> dict[str, Tensor]:
    """Measure a head's benign scale, quantiles and thresholds for every bin of lengths.

    The wanted flag rate is lower than the sample can show, so the tail above the 95th percentile is taken
    as exponential (peaks over threshold).
    """
    scales, quantiles, lines = [], [], []
    for index in range(len(BINS) + 1):
        benign = values[bins == index]
        benign = benign if len(benign) >= FEWEST else values
        centre, spread, edge = benign.mean(), benign.std().clamp(min=STILL), benign.quantile(0.95)
        tail = benign[benign > edge] - edge
        excess = tail.mean() if len(tail) else torch.zeros(())
        line = edge + excess * torch.log(torch.tensor(0.05 / FLAG_RATE))
        scales.append(torch.stack([centre, spread]))
        quantiles.append(benign.quantile(LEVELS))
        lines.append((line - centre) / spread)
    return {
        f"{head}.scale": torch.stack(scales),
        f"{head}.quantiles": torch.stack(quantiles),
        f"{head}.thresholds": torch.stack(lines),
    }


def learn(
    concept: Concept,
    family: Family,
    effort: Effort,
    everyday: Mapping[str, Encoded] | None = None,
    pairs: Sequence[Entry] = (),
    sources: Mapping[str, str] | None = None,
    channels: Sequence[str] = (),
    progress: Progress = SILENT,
) -> dict[str, Direction]:
    """Learn one direction per channel, with the figures that it reached on held-out recipe lines.

    Args:
        concept: the recipe.
        family: the model to learn for.
        effort: how much to learn from.
        everyday: the encoded benign prompts, if concepts share them; made here when absent.
        pairs: entries of a published set of unsafe and safe prompts; only its training part, and only
            the concept's categories, are used.
        sources: for the file's record, where `pairs` come from, and the `benign` prompts that `everyday` holds
            beside the usual ones.
        channels: the channels to learn; all when empty.
        progress: told how many prompts are encoded.
    """
    everyday = everyday or background(family, effort, progress=progress)
    corpus, salads = Corpus.of(concept, effort, pairs), Salads.of(concept, family, effort)
    with progress.counting(f"{concept.name}: prompts encoded", corpus.size + salads.size) as tick:
        materials = Material.of(effort, corpus, salads, family, everyday, tick)
    names = sources or {}
    origins = [f"{names.get('pairs', '')}: {len(corpus.unsafe)} training pairs"] if corpus.unsafe else []
    calm = f"{BENIGN}, {names['benign']}" if names.get("benign") else BENIGN
    outputs = {r.channel: r for r in family.outputs if not channels or r.channel in channels}
    return {name: _learn(concept, output, materials[name], calm, origins) for name, output in outputs.items()}


def _learn(concept: Concept, output: EncoderOutput, material: Material, calm: str, origins: Sequence[str]) -> Direction:
    figures = assess(material)
    tensors = fit(material, torch.arange(len(material.groups)))
    tensors |= calibrate(material, tensors, list(HEADS))
    tensors = {k: round_tensor(k, v).float() for k, v in tensors.items()}  # as a reader of the file gets them
    bins = material.everyday.bins[material.fitted :]
    info = {
        **described(concept, output, tensors, material.effort, bins, calm),
        "sources": ["the concept's recipe", calm, *origins],
        "held_out": figures,
        "held_out_of": kind(material.groups, HELD),
    }
    return Direction(tensors, info)


def described(
    concept: Concept,
    output: EncoderOutput,
    tensors: Mapping[str, Tensor],
    effort: Effort,
    bins: Tensor,
    calm: str = BENIGN,
) -> dict[str, Any]:
    """Give a file's metadata but for its figures; `bins` (N,) are those of the prompts that calibrated it."""
    return {
        "concept": concept.name,
        "title": concept.title,
        "method": METHOD,
        "effort": effort.name,
        "encoder": output.kind,
        "output": output.layer,
        "fingerprint": output.fingerprint,
        "width": output.width,
        "recipe_sha256": concept.sha256,
        "sources": ["the concept's recipe", calm],
        "licence": "Apache-2.0",
        "word_threshold": WORD_THRESHOLD,
        "threshold": [round(v, 3) for v in tensors["gate.thresholds"].tolist()],
        "calibration": {
            "n": torch.bincount(bins, minlength=len(BINS) + 1).tolist(),
            "bins": [f"up to {BINS[0]} word tokens", f"up to {BINS[1]}", "more"],
            "source": calm,
            "false_positive_rate": FLAG_RATE,
        },
    }


def calibrate(material: Material, tensors: dict[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Calibrate the heads on the everyday prompts that the fit has not seen."""
    bins = material.everyday.bins[material.fitted :]
    parts: dict[str, Tensor] = {}
    for head in names:
        parts |= calibration(material.values(material.everyday, tensors, head)[material.fitted :], bins, head)
    return parts


def assess(material: Material) -> dict[str, float]:
    """Measure how a classifier of one network does on held-out prompts, see `split_held_out`: AUC, caught, flagged.

    The AUC and `caught` count prompts with harm in plain sight; `caught_hidden` counts the others.
    """
    held = split_held_out(material.groups, HELD)
    tensors = head_tensors(material, (~held).nonzero()[:, 0], "gate", members=1)
    tensors |= calibrate(material, tensors, ["gate"])
    probes = Probes([Direction(tensors, {})])

    def margins(part: Encoded) -> Tensor:
        z, lines = probes.calibrated(material.values(part, tensors, "gate").unsqueeze(-1), part.bins)
        return (z - lines)[:, 0]

    harmful, benign = margins(material.targets), margins(material.everyday)[material.fitted :]
    positive, hidden = harmful[held & material.plain], harmful[held & ~material.plain]
    unheard = ~torch.isin(material.salad_groups, material.groups[~held])  # salads of lines that the fit has not seen
    salads = margins(material.salads)[unheard] if material.salads is not None and unheard.any() else None
    return {
        "auc": round(float((positive[:, None] > benign).float().mean()), 4),
        "caught": over(positive),
        **({"caught_hidden": over(hidden)} if len(hidden) else {}),
        "flagged_benign": over(benign),
        "flagged_hard": over(margins(material.hard)),
        **({"caught_salads": over(salads)} if salads is not None else {}),
    }


def over(margins: Tensor) -> float:
    """Give the share of margins at or over the line."""
    return round(float((margins >= 0).float().mean()), 5)
