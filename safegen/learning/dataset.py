"""What one fit sees of a concept through one channel: harmful prompts, their counterparts, and harmless ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safegen.conditioning import Position
from safegen.directions.direction import Direction
from safegen.learning.adversarial import Salads
from safegen.learning.corpus import Corpus
from safegen.learning.effort import Effort
from safegen.learning.encoded import Encoded
from safegen.learning.features import encode, kept
from safegen.learning.linear import varies
from safegen.progress import Tick
from safegen.scoring.probes import Probes

if TYPE_CHECKING:
    from safegen.families import Family


@dataclass(frozen=True)
class Material:
    """Everything that one fit sees, through one channel."""

    effort: Effort
    groups: Tensor  # (N,) the recipe line of every target
    plain: Tensor  # (N,) whether its harm is in plain sight
    targets: Encoded
    anchors: Encoded
    hard: Encoded
    company: Encoded
    everyday: Encoded
    salad_groups: Tensor  # (S,) the recipe line of every harmful salad
    salads: Encoded | None = None
    tossed: Encoded | None = None  # harmless salads
    unsafe: Encoded | None = None
    safe: Encoded | None = None

    @classmethod
    def of(
        cls,
        effort: Effort,
        corpus: Corpus,
        salads: Salads,
        family: Family,
        everyday: Mapping[str, Encoded],
        tick: Tick | None = None,
    ) -> dict[str, Material]:
        """Encode every prompt once; gives the material by channel."""
        groups, plain, lines = (torch.tensor(some) for some in (corpus.groups, corpus.plain, salads.groups))
        pads = effort.pads
        targets, anchors = (
            encode(family, prompts, changed, pads, tick)
            for prompts, changed in ((corpus.targets, corpus.changed), (corpus.anchors, ()))
        )
        benign = kept(family, corpus.harder, pads, tick)
        company = kept(family, [part for part in (corpus.company, salads.plain) if part], pads, tick)
        others = (salads.harmful, salads.harmless, corpus.unsafe, corpus.safe)
        more = [encode(family, prompts, (), pads, tick) if prompts else {} for prompts in others]
        return {
            c: cls(
                *(effort, groups, plain, targets[c], anchors[c], benign[c], company[c], everyday[c], lines),
                *(part.get(c) for part in more),
            )
            for c in targets
        }

    @property
    def fitted(self) -> int:
        """The number of everyday prompts that the fit sees; the rest calibrate."""
        return self.effort.fitted

    @property
    def positions(self) -> list[Position]:
        """The classes that vary: a causal encoder's first state is the same for every prompt."""
        means = self.everyday.features.means
        return [p for p in self.targets.positions if p in means and varies(means[p])]

    def values(self, part: Encoded, tensors: dict[str, Tensor], head: str) -> Tensor:
        """Compute a head's uncalibrated values (N,) on one part."""
        return Probes([Direction(tensors, {})]).raw(part.features, head)[:, 0]
