"""What one fit sees of a concept through one channel: harmful prompts, their counterparts, and harmless ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from safegen.conditioning import Position
from safegen.directions.direction import Direction
from safegen.learning.adversarial import Salads
from safegen.learning.corpus import Corpus
from safegen.learning.effort import Effort
from safegen.learning.encoded import Encoded, joined
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
    searched_groups: Tensor | None = None  # (F,) the recipe line of every salad that a search has found
    searched: Encoded | None = None
    soothed: Encoded | None = None  # salads that a search has found for harmless aims

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
        others = {"salads": salads.harmful, "tossed": salads.harmless, "unsafe": corpus.unsafe, "safe": corpus.safe}
        more = {name: encode(family, prompts, (), pads, tick) for name, prompts in others.items() if prompts}

        def parts(channel: str) -> dict[str, Any]:
            return {name: part[channel] for name, part in more.items()}

        return {
            c: cls(
                *(effort, groups, plain, targets[c], anchors[c], benign[c], company[c], everyday[c], lines),
                **parts(c),
            )
            for c in targets
        }

    def extended(self, groups: Sequence[int], searched: Encoded, soothed: Encoded | None) -> Material:
        """Add what searches have found: for harmful lines, with the line of each, and for harmless aims."""
        lines = torch.tensor(groups)
        if self.searched is not None and self.searched_groups is not None:
            lines, searched = torch.cat([self.searched_groups, lines]), joined([self.searched, searched])
        calm = [part for part in (self.soothed, soothed) if part is not None]
        return replace(self, searched_groups=lines, searched=searched, soothed=joined(calm) if calm else None)

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
