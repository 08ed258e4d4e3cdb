"""The networks of repairs: a decoder that fills gaps, and the head that finds them, over the reader's states."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safegen.builtin.training.checkpointing import halved
from safegen.builtin.training.reader import PAD

MOST, FAR = 16, 12  # pieces of a fill; how far from the gap a place is told apart
WIDTH, INNER, HEADS, LAYERS, NARROW = 256, 768, 4, 3, 64


class Attention(nn.Module):
    """Attention with several heads; keys and values may come from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor, memory: Tensor, hidden: Tensor) -> Tensor:
        """Attend from (B, L, W) to (B or 1, T, W); `hidden` is added to the scores."""

        def heads(y: Tensor) -> Tensor:
            return y.reshape(*y.shape[:2], HEADS, WIDTH // HEADS).transpose(1, 2)

        query, key, value = heads(self.query(x)), heads(self.key(memory)), heads(self.value(memory))
        scores = query @ key.transpose(2, 3) * (WIDTH // HEADS) ** -0.5 + hidden
        found: Tensor = self.out((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))
        return found


class Layer(nn.Module):
    """One layer of the decoder, normalised before each part."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.cross = Attention(), Attention()
        self.first, self.second, self.third = (nn.LayerNorm(WIDTH) for _ in range(3))
        self.up, self.down = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor, memory: Tensor, later: Tensor, padded: Tensor) -> Tensor:
        y = self.first(x)
        x = x + self.drop(self.own(y, y, later))
        x = x + self.drop(self.cross(self.second(x), memory, padded))
        x = x + self.drop(self.down(F.gelu(self.up(self.third(x)))))
        return x


class Filler(nn.Module):
    """The decoder: from the reader's states of a text with a gap, the pieces that fill it."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.memory, self.near = nn.Linear(384, WIDTH), nn.Embedding(2 * FAR + 1, WIDTH)
        self.table, self.widen = nn.Embedding(vocabulary, NARROW), nn.Linear(NARROW, WIDTH)
        self.place = nn.Embedding(MOST + 1, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.last, self.out = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, vocabulary)

    def forward(self, states: Tensor, mask: Tensor, gap: Tensor, pieces: Tensor) -> Tensor:
        """Turn states (B, T, D) with their mask (B, T), gaps' places (B,) and pieces (B, L) into states (B, L, W)."""
        at = torch.arange(states.shape[1], device=states.device)
        near = (at[None] - gap[:, None]).clamp(-FAR, FAR) + FAR
        memory = self.memory(states) + self.near(near)
        order = torch.arange(pieces.shape[1], device=states.device)
        x = self.widen(self.table(pieces)) + self.place(order)
        later = torch.where(order[None] > order[:, None], -1e4, 0.0)
        padded = torch.where(mask > 0, 0.0, -1e4)[:, None, None]
        for layer in self.layers:
            x = layer(x, memory, later, padded)
        found: Tensor = self.last(x)
        return found

    def logits(self, states: Tensor, mask: Tensor, gap: Tensor, pieces: Tensor) -> Tensor:
        """Give the logits (B, L, V) of the piece behind every piece."""
        logits: Tensor = self.out(self(states, mask, gap, pieces))
        return logits


class Gaps(nn.Module):
    """The reader's gap head: from states, the log-odds that a word belongs to a harmful situation."""

    def __init__(self) -> None:
        super().__init__()
        self.gap_hidden, self.gap_out = nn.Linear(384, 256), nn.Linear(256, 1)

    def forward(self, states: Tensor) -> Tensor:
        """Turn states (B, T, D) into log-odds (B, T, 1)."""
        odds: Tensor = self.gap_out(F.gelu(self.gap_hidden(states)))
        return odds


class Repairs(nn.Module):
    """Both networks, as one run trains them."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.filler, self.gaps = Filler(vocabulary), Gaps()


class Shipped(nn.Module):
    """The decoder that is exported: the logits of the next piece."""

    def __init__(self, filler: Filler) -> None:
        super().__init__()
        self.filler = filler

    def forward(self, states: Tensor, mask: Tensor, gap: Tensor, pieces: Tensor) -> Tensor:
        """Turn states (B, T, D), mask (B, T), gaps' places (B,) and pieces (B, L) into logits (B, V)."""
        logits: Tensor = self.filler.logits(states, mask, gap, pieces)[:, -1]
        return logits


def fill_loss(filler: Filler, states: Tensor, ids: Tensor, gap: Tensor, into: Tensor, out: Tensor) -> Tensor:
    """Compute the cross-entropy of every piece of the fills."""
    with halved(states.device.type):
        logits = filler.out(filler(states, ids != PAD, gap, into)[out >= 0])
    return F.cross_entropy(logits.float(), out[out >= 0])


def mark_loss(gaps: Gaps, states: Tensor, labels: Tensor) -> Tensor:
    """Compute the cross-entropy of every word: is it in a stretch?"""
    odds = gaps(states).squeeze(-1)
    spoken = labels >= 0
    return F.binary_cross_entropy_with_logits(odds[spoken], labels[spoken].float())
