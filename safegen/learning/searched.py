"""Searched salads: what an attacker's search through the encoder finds in place of a recipe's lines.

Salads that are tossed (`adversarial.py`) lie anywhere near a line. Who knows the classifier searches for those below
its threshold. So a classifier learns in rounds, each time from what passed it so far (adversarial training, Madry et
al. 2018, arXiv 1706.06083). The search is a greedy coordinate gradient (Zou et al. 2023, arXiv 2307.15043): gradients
say which words would bring a prompt nearer to its aim, and away from the classifier; the best of a few swaps is kept.
Words of the recipes' harmful phrases are barred, as in MMA-Diffusion (Yang et al. 2024, arXiv 2311.17516), because the
reader knows them. Salads found for harmless aims, in the same way, keep a classifier from taking a search for harm.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from safegen.conditioning import Conditioning, Position
from safegen.errors import ModelError
from safegen.families import gradients
from safegen.learning.alphabet import Alphabet, Template, gaps, words_of
from safegen.prompts import refusal
from safegen.reader.lexicon import harmful_words
from safegen.scoring.probes import features

if TYPE_CHECKING:
    from safegen.families import Family
    from safegen.progress import Tick

Exposure = Callable[[Conditioning], Tensor]  # how far prompts (B,) are over what they should stay under

BATCH, SWAPS, TOP = 64, 16, 256  # aims at a time; swaps of a step; words for each place, of which swaps are made
KEPT = (0.3, 1.0)  # shares of the steps after which the best so far is kept
COST = 0.1  # of one unit of exposure, where 1 is how unlike two prompts are that have nothing in common
READ = (Position.TOKEN, Position.END, Position.POOLED)  # what a prompt means; pads take long and say the same


@dataclass(frozen=True)
class Catch:
    """What was found: salads with the number of the aim of each, and how like their aims the best ones are."""

    salads: list[str]
    aims: list[int]
    likeness: float

    def __len__(self) -> int:
        return len(self.salads)


class Search:
    """A search through a model's encoders.

    Args:
        family: the model.
        steps: of each search.
    """

    def __init__(self, family: Family, steps: int) -> None:
        self.family, self.steps = family, steps

    @functools.cached_property
    def alphabet(self) -> Alphabet:
        """The words that salads are made of."""
        return Alphabet.of(self.family).without(harmful_words())

    def check(self) -> None:
        """Check that the encoders share words, and that gradients run back to these.

        Raises:
            ModelError: they share too few, or none run.
        """
        traced = gradients.trace(self.family, [self.alphabet.words[0]])
        if not all(channel.states.requires_grad for channel in traced.conditioning.channels.values()):
            raise ModelError("no gradients run from what the text encoders say back to the words")

    def find(
        self,
        aims: Sequence[str],
        length: int,
        exposure: Exposure | None = None,
        seed: int = 0,
        tick: Tick | None = None,
    ) -> Catch:
        """Find salads that mean what the aims do, without their words.

        Args:
            aims: phrases.
            length: words of a salad.
            exposure: what the search walks away from, differentiable.
            seed: of all chance.
            tick: told how many aims are done.
        """
        found, likeness = Catch([], [], 0.0), 0.0
        chance = torch.Generator().manual_seed(seed)
        for start in range(0, len(aims), BATCH):
            some = aims[start : start + BATCH]
            # A search needs no exact states, and half of the time is saved.
            with torch.autocast(self.family.device.type, torch.bfloat16):
                rows, near = self._searched(some, length, exposure, chance)
            for aim, letters in rows:
                text = self.alphabet.text(letters)
                if not refusal.names_minor(text):
                    found.salads.append(text)
                    found.aims.append(start + aim)
            likeness += near * len(some) / len(aims)
            if tick is not None:
                tick(len(some))
        return Catch(found.salads, found.aims, likeness)

    def _searched(
        self, aims: Sequence[str], length: int, exposure: Exposure | None, chance: torch.Generator
    ) -> tuple[list[tuple[int, list[int]]], float]:
        """Search for N aims; gives salads as letters with their aims, and the best ones' mean likeness."""
        with torch.no_grad():
            goals = meaning(self.family.encode_words(list(aims)))
        barred = self._barred(aims)
        letters = torch.multinomial((~barred).float(), length, replacement=True, generator=chance)
        best, losses = letters.clone(), torch.full((len(aims),), math.inf)
        likeness, found = torch.zeros(len(aims)), []
        stages = {round(share * self.steps) for share in KEPT}
        for step in range(1, self.steps + 1):
            traced = gradients.trace(self.family, self._texts(letters))
            alike, loss = _weighed(traced.conditioning, goals, exposure)
            nearer = loss.detach().cpu() < losses
            best[nearer], losses[nearer] = letters[nearer], loss.detach().cpu()[nearer]
            likeness[nearer] = alike.detach().cpu()[nearer]
            if step in stages:
                found += list(enumerate(best.tolist()))
            if step < self.steps:
                likely = self._likely(traced, loss, letters, barred)
                letters = self._swapped(letters, likely, goals, exposure, chance)
        return found, float(likeness.mean())

    def _barred(self, aims: Sequence[str]) -> Tensor:
        """Mark the words (N, V) that each aim has itself."""
        own = [set(words_of(aim)) for aim in aims]
        return torch.tensor([[word in words for word in self.alphabet.words] for words in own])

    def _texts(self, letters: Tensor) -> list[str]:
        return [self.alphabet.text(row) for row in letters.tolist()]

    def _likely(self, traced: gradients.Traced, loss: Tensor, letters: Tensor, barred: Tensor) -> Tensor:
        """Choose for every place the words (N, S, at most `TOP`) that promise to lower the loss most."""
        slopes, template = traced.gradients(loss.sum()), _open(letters.shape[1])
        rows = []
        for row, own in enumerate(letters.tolist()):
            spans = gaps(template, [self.alphabet.words[i] for i in own])
            rows.append(self.alphabet.slopes(traced.at(slopes, spans, row)).cpu())
        promise = (-torch.stack(rows)).masked_fill(barred[:, None], -math.inf)
        return promise.topk(min(TOP, len(self.alphabet)), dim=2).indices

    @torch.no_grad()
    def _swapped(
        self, letters: Tensor, likely: Tensor, goals: Tensor, exposure: Exposure | None, chance: torch.Generator
    ) -> Tensor:
        """Put one likely word into each salad (N, S): the best of a few swaps."""
        count, length = letters.shape
        at = torch.randint(0, length, (count, SWAPS), generator=chance)
        drawn = torch.randint(0, likely.shape[2], (count, SWAPS), generator=chance)
        words = likely[torch.arange(count)[:, None], at, drawn]
        swaps = letters[:, None].repeat(1, SWAPS, 1).scatter(2, at[..., None], words[..., None])
        conditioning = self.family.encode_words(self._texts(swaps.flatten(0, 1)))
        _, loss = _weighed(conditioning, goals.repeat_interleave(SWAPS, 0), exposure)
        return swaps[torch.arange(count), loss.view(count, SWAPS).argmin(1).cpu()]


def _weighed(conditioning: Conditioning, goals: Tensor, exposure: Exposure | None) -> tuple[Tensor, Tensor]:
    """Measure how like their goals prompts (B,) are, and their loss."""
    alike = F.cosine_similarity(meaning(conditioning), goals, dim=1)
    loss = 1 - alike
    return alike, loss if exposure is None else loss + COST * exposure(conditioning)


def meaning(conditioning: Conditioning) -> Tensor:
    """Compute what prompts mean (B, D): the mean state of every class in every channel, as unit vectors joined."""
    found = []
    for channel in conditioning.channels.values():
        means = features(channel).means
        found += [F.normalize(means[position], dim=1) for position in READ if position in means]
    return torch.cat(found, dim=1)


def _open(length: int) -> Template:
    return [None] * length
