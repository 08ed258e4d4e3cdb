"""Encoded prompts: what learning keeps of prompts that went through an encoder, so that thousands fit in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safegen.conditioning import SCORED, Position
from safegen.scoring.probes import Features, bin_lengths

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Encoded:
    """N prompts as class means, and the M states of their words; everything rounded to half precision."""

    features: Features  # (N, D) per position class
    lengths: Tensor  # (N,) word tokens
    words: Tensor  # (M, D) the states of the words
    owners: Tensor  # (M,) the prompt that each word state belongs to
    slots: Tensor  # (M,) whether the state belongs to a word that was asked about
    spans: Tensor  # (M, 2) the characters of the word that the state belongs to

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def bins(self) -> Tensor:
        """The length bin (N,) of every prompt."""
        return bin_lengths(self.lengths)

    @property
    def positions(self) -> list[Position]:
        return list(self.features.means)

    def joined(self, positions: Sequence[Position]) -> Tensor:
        """Give the means of some classes side by side (N, classes x D)."""
        return torch.cat([self.features.means[p] for p in positions], dim=1)

    def means_of_words(self, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Average the states of each prompt's words under `mask` (M,): means (N, D), and whether there are any (N,)."""
        total = torch.zeros(len(self), self.words.shape[1]).index_add(0, self.owners[mask], self.words[mask])
        count = torch.zeros(len(self)).index_add(0, self.owners[mask], torch.ones(int(mask.sum())))
        return total / count.clamp(min=1).unsqueeze(-1), count > 0

    def states(self, position: Position) -> Tensor:
        """Give the states of words, or the means (N, D) of another class for the prompts that have it."""
        if position is Position.TOKEN:
            return self.words
        return self.features.means[position][self.features.present[position]]

    def words_beside(self, other: Encoded) -> tuple[Tensor, Tensor]:
        """Give the mean states (W, D) of words that another encoder has read in the same prompts, and its (W, E)."""
        ours, theirs = self._places(), other._places()
        both = sorted(ours.keys() & theirs.keys())
        return self._averaged([ours[key] for key in both]), other._averaged([theirs[key] for key in both])

    def _places(self) -> dict[tuple[int, ...], list[int]]:
        """Find the states of every word, by its prompt and its characters."""
        found: dict[tuple[int, ...], list[int]] = {}
        for place, (owner, span) in enumerate(zip(self.owners.tolist(), self.spans.tolist(), strict=True)):
            found.setdefault((owner, *span), []).append(place)
        return found

    def _averaged(self, places: Sequence[Sequence[int]]) -> Tensor:
        counts = torch.tensor([len(some) for some in places])
        rows = torch.arange(len(places)).repeat_interleave(counts)
        flat = self.words[[place for some in places for place in some]]
        return torch.zeros(len(places), self.words.shape[1]).index_add(0, rows, flat) / counts.unsqueeze(-1)

    def part(self, start: int, stop: int | None = None) -> Encoded:
        """Give some prompts in a row, as `[start:stop]` would."""
        rows = slice(start, len(self) if stop is None else stop)
        here = (self.owners >= rows.start) & (self.owners < rows.stop)
        features = self.features
        return Encoded(
            Features(
                {p: m[rows] for p, m in features.means.items()}, {p: m[rows] for p, m in features.present.items()}
            ),
            self.lengths[rows],
            self.words[here],
            self.owners[here] - rows.start,
            self.slots[here],
            self.spans[here],
        )

    def reordered(self, at: Tensor) -> Encoded:
        """Put prompt `at[i]` in place of prompt i; words stay where they are."""
        back = torch.empty_like(at)
        back[at] = torch.arange(len(at))
        found = self.features
        return replace(
            self,
            features=Features({p: m[at] for p, m in found.means.items()}, {p: m[at] for p, m in found.present.items()}),
            lengths=self.lengths[at],
            owners=back[self.owners],
        )

    def save(self, path: Path) -> None:
        """Write it as safetensors."""
        from safetensors.torch import save

        from safegen.files import write_atomically

        tensors = {f"mean.{p.name}": m.half() for p, m in self.features.means.items()}
        tensors |= {f"present.{p.name}": m for p, m in self.features.present.items()}
        tensors |= {"lengths": self.lengths, "words": self.words.half(), "owners": self.owners, "slots": self.slots}
        tensors |= {"spans": self.spans}
        write_atomically(path, save({k: v.contiguous() for k, v in tensors.items()}))

    @classmethod
    def load(cls, path: Path) -> Encoded:
        """Read what `save` wrote."""
        from safetensors.torch import load_file

        tensors = load_file(path)
        here = [p for p in SCORED if f"mean.{p.name}" in tensors]
        return cls(
            Features(
                {p: tensors[f"mean.{p.name}"].float() for p in here}, {p: tensors[f"present.{p.name}"] for p in here}
            ),
            tensors["lengths"],
            tensors["words"].float(),
            tensors["owners"],
            tensors["slots"],
            tensors["spans"],
        )


def joined(parts: Sequence[Encoded]) -> Encoded:
    """Join several parts into one; a class that a part lacks is absent for its prompts."""
    here = [p for p in SCORED if any(p in part.features.means for part in parts)]
    firsts = torch.tensor([0, *map(len, parts[:-1])]).cumsum(0)
    return Encoded(
        Features(
            {p: torch.cat([_or_zero(part.features.means.get(p), part) for part in parts]) for p in here},
            {p: torch.cat([_or_none(part.features.present.get(p), part) for part in parts]) for p in here},
        ),
        torch.cat([part.lengths for part in parts]),
        torch.cat([part.words for part in parts]),
        torch.cat([part.owners + first for part, first in zip(parts, firsts, strict=True)]),
        torch.cat([part.slots for part in parts]),
        torch.cat([part.spans for part in parts]),
    )


def _or_zero(means: Tensor | None, part: Encoded) -> Tensor:
    return means if means is not None else torch.zeros(len(part), part.words.shape[1])


def _or_none(present: Tensor | None, part: Encoded) -> Tensor:
    return present if present is not None else torch.zeros(len(part), dtype=torch.bool)
