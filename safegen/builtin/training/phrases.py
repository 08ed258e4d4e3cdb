"""Phrases in captions, and how far the text encoder is from what they mean; see `meanings`."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safegen.builtin import world
from safegen.builtin.training.meanings import Meanings

NAMES = 0.4  # share of phrases that name a thing of the world
VECTOR, ALIKE = 768, 4.0  # width of the teacher's vectors, and the weight of their cosine
PAIRED = 0.25  # share of captions with two phrases
SHORT = (*4 * ("{bare}",), *8 * ("{a}",))  # beside the captions of the world
TOKENS, DRAWN = 2_048, 1_024  # tokens of a batch, pads included; captions that those of like length are chosen from


class Naming(nn.Module):
    """The maps through which the encoder learns meanings; they are thrown away afterwards."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.word, self.end, self.pad = (nn.Linear(width, VECTOR + count) for _ in range(3))

    def forward(self, place: nn.Linear, states: Tensor, vectors: Tensor, senses: Tensor) -> Tensor:
        """Measure how far states (M, D) at one kind of place are from vectors (M, 768) and senses (M, T)."""
        found, odds = place(states).tensor_split([VECTOR], dim=-1)
        apart = 1 - F.cosine_similarity(found, vectors, dim=-1).mean()
        told = senses.sum(-1, keepdim=True)
        wrong = -(senses / told.clamp(min=1e-6) * odds.log_softmax(-1)).sum(-1)
        loss: Tensor = ALIKE * apart + (wrong * (told[:, 0] > 0.5)).mean()
        return loss


@dataclass(frozen=True)
class Caption:
    """A caption, the rows of the phrases in it, and the character where each of them ends."""

    text: str
    rows: list[int]
    stops: list[int]

    @classmethod
    def draw(cls, meanings: Meanings, rng: random.Random) -> Caption:
        """Put one phrase or two into a caption."""
        pair, total = rng.random() < PAIRED, len(meanings.texts)
        kinds = [rng.random() < NAMES for _ in range(1 + pair)]
        rows = [rng.randrange(meanings.named) if name else rng.randrange(meanings.named, total) for name in kinds]
        phrases = [meanings.texts[row] for row in rows]
        form = rng.choice(world.PAIR_CAPTIONS if pair else (*SHORT, *world.SINGLE_CAPTIONS))
        first, last = world.with_article(phrases[0]), world.with_article(phrases[-1])
        text = form.format(bare=phrases[0], a=first, b=last, g=rng.choice(list(world.grounds())))
        return cls(text, rows, [text.rindex(phrase) + len(phrase) for phrase in phrases])


def batch(meanings: Meanings, tokenizer: Any, rng: random.Random) -> list[Caption]:
    """Draw captions of like length, so that few pads are read."""
    some = [Caption.draw(meanings, rng) for _ in range(DRAWN)]
    lengths = [len(ids) for ids in tokenizer([caption.text for caption in some]).input_ids]
    order = sorted(range(DRAWN), key=lengths.__getitem__)
    last = rng.randrange(DRAWN)
    first = max(0, last + 1 - TOKENS // (lengths[order[last]] + 1))
    return [some[i] for i in order[first : last + 1]]


def loss_of(encoder: nn.Module, naming: Naming, meanings: Meanings, tokenizer: Any, step: int) -> Tensor:
    """Measure what the encoder makes of captions with one or two phrases.

    Args:
        encoder: turns tokens (B, T) into states (B, T, D).
        naming: the maps to the teacher.
        meanings: what to learn.
        tokenizer: the encoder's.
        step: seeds the draw.
    """
    captions = batch(meanings, tokenizer, random.Random(f"meanings {step}"))
    rows = [row for caption in captions for row in caption.rows]
    owners = torch.tensor([i for i, caption in enumerate(captions) for _ in caption.rows])
    stops = torch.tensor([stop for caption in captions for stop in caption.stops])
    told = tokenizer(
        [caption.text for caption in captions],
        padding=True,
        truncation=True,
        return_tensors="pt",
        return_offsets_mapping=True,
    )
    closes = told.offset_mapping[owners, :, 1] >= stops.unsqueeze(-1)
    states = encoder(F.pad(told.input_ids, (0, 1), value=tokenizer.eos_token_id))  # a pad behind every caption
    vectors, senses = (part[rows].float().to(states.device) for part in (meanings.vectors, meanings.senses))
    shares = F.one_hot(owners).float().T.to(states.device)
    shares = shares / shares.sum(1, keepdim=True)
    whole, every = (F.normalize(shares @ vectors, dim=-1), shares @ senses), torch.arange(len(captions))
    loss: Tensor = naming(naming.word, states[owners, closes.int().argmax(1)], vectors, senses)
    loss += naming(naming.end, states[every, told.attention_mask.sum(1) - 1], *whole)
    loss += naming(naming.pad, states[every, -1], *whole)
    return loss
