"""Directions carried over from the embedded encoder to any other, by maps that are fitted on benign text alone.

Two encoders that read the same text make states of it that are near linear maps of each other. So what was learned
with much text and time in the space of one need not be learned again in the space of the other: a ridged map from the
new encoder's states to the embedded one's, fitted on everyday prompts that both have read, is composed with the linear
part of every head, token probe and basis there. What is composed is calibrated as ever, on everyday prompts that the
map has not seen. The idea is from cross-model safety steering (2026, arXiv 2606.05290), which carries one direction of
a language model; maps for every class of positions, heads with a hidden layer and clamp bases are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safegen.conditioning import Position
from safegen.directions.direction import HEADS, Direction, round_tensor
from safegen.directions.recipes import Concept
from safegen.errors import DirectionError
from safegen.learning import contrastive, heads
from safegen.learning.corpus import Corpus, benign_prompts
from safegen.learning.effort import ANALYTIC, TRANSPORTED, Effort
from safegen.learning.encoded import Encoded
from safegen.learning.features import encode
from safegen.learning.linear import Affine, clamped, varies, whitening
from safegen.progress import SILENT, Progress
from safegen.scoring.probes import Probes

if TYPE_CHECKING:
    from safegen.families import Family

METHOD = "transported"
RIDGE = 3.0  # strong: a map that follows every prompt it has seen takes harm for noise
ASSESSED = 20  # harmful prompts of a recipe on which a carried direction is tried, at most
FEWEST = 50  # words that both encoders have read, at least
OF = "recipe lines, none of which the map has seen"
# Where the source has no such class, its nearest.
NEAREST = {
    Position.START: (Position.START, Position.END, Position.TOKEN),
    Position.TOKEN: (Position.TOKEN,),
    Position.END: (Position.END, Position.TOKEN),
    Position.PAD: (Position.PAD, Position.END, Position.TOKEN),
    Position.POOLED: (Position.POOLED, Position.END, Position.TOKEN),
}


class NotCarried(DirectionError):
    """The two encoders have too little in common for a map."""


class Carrier:
    """Carries directions from the source's channel to one channel of a family; every map is fitted once.

    Args:
        everyday: benign prompts as the family reads them.
        source: the first of them as the source reads them; the maps are fitted to these.
    """

    def __init__(self, everyday: Encoded, source: Encoded) -> None:
        self.seen, self.calm, self.source = everyday.part(0, len(source)), everyday.part(len(source)), source
        self.positions = [p for p, mean in everyday.features.means.items() if varies(mean)]
        self._maps: dict[tuple[Position, ...], Affine] = {}
        self._spreads: dict[Position, tuple[Tensor, Tensor, Tensor]] = {}

    def carry(self, direction: Direction) -> dict[str, Tensor]:
        """Compose the source's tensors with the maps, and calibrate them."""
        tensors = {k: v for head in HEADS for k, v in self._head(direction, head).items()}
        for position in self.positions:
            tensors |= self._class(direction, position)
        probes = Probes([Direction(tensors, {})])
        for head in HEADS:
            values = probes.raw(self.calm.features, head)[:, 0]
            tensors |= contrastive.calibration(values, self.calm.bins, head)
        return {k: round_tensor(k, v).float() for k, v in tensors.items()}

    def _head(self, direction: Direction, head: str) -> dict[str, Tensor]:
        """Map the means of our classes, side by side, to those of the source's, and fold that into the head."""
        ours = [p for p in self.positions if p in HEADS[head]]
        theirs = [p for p in HEADS[head] if f"{p.name.lower()}.{head}" in direction.tensors]
        if not ours:
            raise NotCarried("no states of this encoder vary from prompt to prompt", "Take --effort brief.")
        weight = torch.cat([direction.tensors[f"{p.name.lower()}.{head}"] for p in theirs], dim=1)
        centre = torch.cat([direction.tensors[f"{p.name.lower()}.{head}_centre"] for p in theirs])
        if (key := (*ours, *theirs)) not in self._maps:
            self._maps[key] = Affine.fit(_whole(self.seen, ours), _whole(self.source, theirs), RIDGE)
        found = self._maps[key]
        folded = {"weight": weight @ found.weight.T, "centre": found.centre, "out": direction.tensors[f"{head}.out"]}
        folded["bias"] = direction.tensors[f"{head}.bias"] + weight @ (found.offset - centre)
        return heads.split(folded, head, [p.name.lower() for p in ours])

    def _class(self, direction: Direction, position: Position) -> dict[str, Tensor]:
        """Carry the token probe and the basis of one class of positions."""
        named = (p for p in NEAREST[position] if f"{p.name.lower()}.own" in direction.tensors)
        if (nearest := next(named, None)) is None:
            return {}
        found, benign = self._map(position, nearest), self.calm.states(position)
        if position not in self._spreads:
            self._spreads[position] = whitening(benign)
        spread, key = self._spreads[position], nearest.name.lower()
        # What the source's coordinates are of our whitened states, as orthonormal directions.
        rows = direction.tensors[f"{key}.basis"] @ found.weight.T @ spread[2]
        tensors = {
            **contrastive.own_tensors(found.weight @ direction.tensors[f"{key}.own"], benign),
            **clamped(torch.linalg.qr(rows.T)[0].T, benign, spread),
        }
        return {f"{position.name.lower()}.{name}": value for name, value in tensors.items()}

    def _map(self, position: Position, nearest: Position) -> Affine:
        """Fit the map of one class: of single words where both have words, else of means."""
        if (position, nearest) not in self._maps:
            words = position is nearest is Position.TOKEN
            means = (_whole(self.seen, [position]), _whole(self.source, [nearest]))
            states = self.seen.words_beside(self.source) if words else means
            if len(states[0]) < FEWEST:
                raise NotCarried("this encoder reads too few words of everyday prompts", "Take --effort brief.")
            self._maps[position, nearest] = Affine.fit(*states, RIDGE)
        return self._maps[position, nearest]


def _whole(part: Encoded, positions: Sequence[Position]) -> Tensor:
    """Give means side by side; a class that a prompt lacks is that of the others, as a head counts it."""
    filled = []
    for position in positions:
        means, has = part.features.means[position], part.features.present[position]
        filled.append(torch.where(has.unsqueeze(1), means, means[has].mean(0)))
    return torch.cat(filled, dim=1)


class Transport:
    """Carries concepts from a source to a family; prompts are encoded once for all of them.

    Args:
        family: the model to carry to.
        source: the model whose directions are carried, one with a single channel.
        effort: how many everyday prompts to encode.
        progress: told how many of them are encoded.
    """

    def __init__(
        self, family: Family, source: Family, effort: Effort = TRANSPORTED, progress: Progress = SILENT
    ) -> None:
        self.family, self.effort, self.progress = family, effort, progress
        prompts, fitted = benign_prompts(effort), effort.fitted
        with progress.counting("benign prompts encoded", len(prompts) + fitted) as tick:
            everyday = encode(family, prompts, pads=effort.pads, tick=tick)
            (seen,) = encode(source, prompts[:fitted], pads=effort.pads, tick=tick).values()
        self.carriers = {channel: Carrier(part, seen) for channel, part in everyday.items()}

    def learn(self, concept: Concept, direction: Direction, channels: Sequence[str] = ()) -> dict[str, Direction]:
        """Carry the source's direction of a concept to every channel, and try it on prompts of the recipe."""
        targets = Corpus.of(concept, ANALYTIC).targets
        chosen = targets[:: -(-len(targets) // ASSESSED)]
        with self.progress.counting(f"{concept.name}: prompts encoded", len(chosen)) as tick:
            harmful = encode(self.family, chosen, pads=self.effort.pads, tick=tick)
        found = {}
        for output in self.family.outputs:
            if channels and output.channel not in channels:
                continue
            carrier = self.carriers[output.channel]
            tensors = carrier.carry(direction)
            figures = assess(tensors, harmful[output.channel], carrier.calm)
            info = contrastive.described(concept, output, tensors, self.effort, carrier.calm.bins)
            came = {"method": METHOD, "carried_from": f"{direction.stem}, {direction.info['effort']}"}
            found[output.channel] = Direction(tensors, {**info, **came, "held_out": figures, "held_out_of": OF})
        return found


def assess(tensors: dict[str, Tensor], harmful: Encoded, calm: Encoded) -> dict[str, float]:
    """Measure how a carried classifier tells a recipe's prompts from everyday ones: AUC, caught, flagged."""
    probes = Probes([Direction(tensors, {})])

    def margins(part: Encoded) -> Tensor:
        z, lines = probes.calibrated(probes.raw(part.features), part.bins)
        return (z - lines)[:, 0]

    positive, benign = margins(harmful), margins(calm)
    return {
        "auc": round(float((positive[:, None] > benign).float().mean()), 4),
        "caught": contrastive.over(positive),
        "flagged_benign": contrastive.over(benign),
    }
