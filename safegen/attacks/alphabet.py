"""The alphabet of an attack: the words that every encoder of a model reads as one token.

The papers choose from all tokens. But a row of tokens, written out and read again, may be other tokens. What is made
of these words reads back as itself, so what an attack measures is what a user would type.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from safegen.errors import ModelError
from safegen.families.gradients import encoders
from safegen.learning.vocabulary import vocabulary

if TYPE_CHECKING:
    import random

    from safegen.families import Family

LEAST = 8  # words that an attack needs
WORD = re.compile("([a-z]+)", re.IGNORECASE)


def words_of(text: str) -> list[str]:
    """Give the words of a text in lower case, without the signs between them."""
    return WORD.findall(text.lower())


@dataclass(frozen=True)
class Alphabet:
    """V words, and what each encoder looks up for them (V, D), by its first channel."""

    words: tuple[str, ...]
    vectors: Mapping[str, Tensor]

    @classmethod
    def of(cls, family: Family) -> Alphabet:
        """Collect a model's words; none speaks of minors.

        Raises:
            ModelError: the encoders' vocabularies have hardly a word in common.
        """
        words = vocabulary(family)
        outputs = encoders(family)
        ids = {channel: _single(output.tokenizer, words) for channel, output in outputs.items()}
        chosen = [i for i in range(len(words)) if all(found[i] is not None for found in ids.values())]
        if len(chosen) < LEAST:
            raise ModelError(
                f"the text encoders of this {type(family.pipe).__name__} share {len(chosen)} whole words",
                "An attack makes its prompts of such words; take one that does not: sneaky.",
            )
        vectors = {
            channel: output.encoder.get_input_embeddings().weight.detach()[[ids[channel][i] for i in chosen]].float()
            for channel, output in outputs.items()
        }
        return cls(tuple(words[i] for i in chosen), vectors)

    def without(self, banned: Collection[str]) -> Alphabet:
        """Leave out banned words."""
        return self.only([i for i, word in enumerate(self.words) if word not in banned])

    def only(self, letters: Sequence[int]) -> Alphabet:
        """Take some of the words."""
        some = list(letters)
        return Alphabet(tuple(self.words[i] for i in some), {name: table[some] for name, table in self.vectors.items()})

    def spell(self, text: str) -> list[int]:
        """Find the words of a text that are in the alphabet."""
        found = {word: i for i, word in enumerate(self.words)}
        return [found[word] for word in words_of(text) if word in found]

    def __len__(self) -> int:
        return len(self.words)

    def text(self, letters: Sequence[int]) -> str:
        """Write words out."""
        return " ".join(self.words[i] for i in letters)

    def sample(self, count: int, chance: random.Random) -> list[int]:
        """Choose words by chance."""
        return [chance.randrange(len(self)) for _ in range(count)]

    def nearest(self, points: Mapping[str, Tensor]) -> list[int]:
        """Find the words whose vectors point as S points (S, D) do, in all encoders together."""
        likeness = [F.normalize(points[k], dim=1) @ F.normalize(table, dim=1).T for k, table in self.vectors.items()]
        found: list[int] = torch.stack(likeness).sum(0).argmax(1).tolist()
        return found

    def slopes(self, gradients: Mapping[str, Tensor]) -> Tensor:
        """Compute from gradients (S, D) in S places how a loss grows (S, V) with each word there, to first order."""
        return torch.stack([gradients[name] @ table.T for name, table in self.vectors.items()]).sum(0)


Template = Sequence[str | None]  # the words of a prompt; None where an attack puts its own


def fill(template: Template, words: Sequence[str]) -> str:
    """Write a prompt out, with words in its gaps."""
    left = iter(words)
    return " ".join(next(left) if word is None else word for word in template)


def gaps(template: Template, words: Sequence[str]) -> list[tuple[int, int]]:
    """Give the spans of the words in the gaps of a prompt."""
    spans, start, left = [], 0, iter(words)
    for word in template:
        end = start + len(next(left) if word is None else word)
        if word is None:
            spans.append((start, end))
        start = end + 1
    return spans


def _single(tokenizer: Any, words: Sequence[str]) -> list[int | None]:
    """Give the only token of each word behind another, or None where it has several."""
    head = len(tokenizer("a", add_special_tokens=False)["input_ids"])
    read = tokenizer([f"a {word}" for word in words], add_special_tokens=False)["input_ids"]
    return [ids[head] if len(ids) == head + 1 else None for ids in read]
