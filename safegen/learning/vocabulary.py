"""The words that a text encoder knows, and what each one alone means to it: an attacker chooses from these."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from safegen.conditioning import Position
from safegen.learning.encoded import Encoded
from safegen.learning.features import encode, kept
from safegen.prompts import refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from safegen.families import Family

LEAST = 3  # letters that a word must have


@dataclass(frozen=True)
class Lexicon:
    """W words, and the unit vectors (W, D) of what they mean."""

    words: tuple[str, ...]
    meanings: Tensor

    @classmethod
    def of(cls, family: Family, words: Sequence[str]) -> Lexicon:
        """Encode words with the family's encoders; the result is kept in the cache."""
        return cls(tuple(words), _directions(kept(family, [words])))

    @functools.cached_property
    def ways(self) -> Tensor:
        """The directions of the words from the middle of all, as unit vectors (W, D)."""
        return F.normalize(self.meanings - self.meanings.mean(0), dim=1)

    def near(self, aims: Tensor, count: int, off: Tensor | None = None) -> Tensor:
        """Find words (A, at most `count`) whose way from the middle points most to `aims` (A, D), least to `off`."""
        alike = F.normalize(aims - self.meanings.mean(0), dim=1) @ self.ways.T
        if off is not None:
            alike = alike - 2 * (self.ways @ F.normalize(off, dim=0)).clamp(min=0)
        return alike.topk(min(count, len(self.words)), dim=1).indices


def meanings(family: Family, texts: Sequence[str]) -> Tensor:
    """Compute what texts mean (N, D): the mean state of their words in every channel, as unit vectors side by side."""
    return _directions(encode(family, texts))


def _directions(parts: Mapping[str, Encoded]) -> Tensor:
    found = [part.features.means for part in parts.values()]
    chosen = [means.get(Position.TOKEN, next(iter(means.values()))) for means in found]
    return torch.cat([F.normalize(mean, dim=1) for mean in chosen], dim=1)


def vocabulary(family: Family, most: int | None = None) -> list[str]:
    """List the whole words of the family's first tokenizer; with `most`, only that many of the most frequent."""
    known = (w for w in whole_words(family.outputs[0].tokenizer) if not refusal.names_minor(w))
    return list(dict.fromkeys(known))[:most]


def whole_words(tokenizer: Any) -> Iterator[str]:
    """Give the entries of a vocabulary that stand for a whole word, in its order, which is that of frequency."""
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    for suffix, prefixes in (("</w>", ()), ("", ("\u2581", "\u0120")), ("", ())):
        marked = [p for p, _ in pieces if p.endswith(suffix) and p.startswith(prefixes or "")]
        if marked:
            break
    for piece in marked:
        word = piece.removesuffix("</w>").lstrip("\u2581\u0120")
        if len(word) >= LEAST and word.isascii() and word.isalpha():
            yield word.lower()
