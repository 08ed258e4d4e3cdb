"""The network of the writer: layers that read a prompt, and a decoder that says edits of it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safegen.builtin.training import reader_ship
from safegen.builtin.training.reader import Reader
from safegen.reader.writing import LONGEST

WIDTH, HIDDEN, HEADS = 384, 1024, 6
READING, SAYING = 3, 3  # layers over the reader's lower ones, and of the decoder
DROP = 0.2
NEVER = -1e4  # log-odds of what may not be seen or said


class Attention(nn.Module):
    """Attention of many heads (Vaswani et al. 2017, arXiv 1706.03762)."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor, others: Tensor, mask: Tensor) -> Tensor:
        """Let states (B, T, D) see others (B, S, D), as far as a mask lets them: log-odds (B or 1, 1, T or 1, S)."""
        q, k, v = (self._heads(part) for part in (self.q(x), self.k(others), self.v(others)))
        shares = (q @ k.transpose(2, 3) / math.sqrt(WIDTH / HEADS) + mask).softmax(-1)
        seen: Tensor = self.o((shares @ v).transpose(1, 2).flatten(2))
        return seen

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], HEADS, WIDTH // HEADS).transpose(1, 2)


class Block(nn.Module):
    """One layer of the decoder: it sees what was said, and then the prompt."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = Attention(), Attention()
        self.n1, self.n2, self.n3 = (nn.LayerNorm(WIDTH) for _ in range(3))
        self.f1, self.f2 = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.drop = nn.Dropout(DROP)

    def forward(self, x: Tensor, memory: Tensor, causal: Tensor, unseen: Tensor) -> Tensor:
        """Turn states (B, T, D) of what was said into those of the next layer."""
        own = self.n1(x)
        x = x + self.drop(self.a(own, own, causal))
        x = x + self.drop(self.c(self.n2(x), memory, unseen))
        found: Tensor = x + self.drop(self.f2(self.drop(F.gelu(self.f1(self.n3(x))))))
        return found


class Writer(nn.Module):
    """The network.

    Args:
        reader: gives the layers that read.
        table: first vectors of the signs and words (V, D).
    """

    def __init__(self, reader: Reader, table: Tensor) -> None:
        super().__init__()
        layers = reader.encoder.encoder.layer
        self.layer = nn.ModuleList(layers[reader_ship.LOWER : reader_ship.LOWER + READING]).requires_grad_(True)
        self.mem_norm = nn.LayerNorm(WIDTH)
        self.words = nn.Embedding(len(table), WIDTH, _weight=table)
        self.pos = nn.Embedding(LONGEST, WIDTH, _weight=0.02 * torch.randn(LONGEST, WIDTH))
        self.kind = nn.Embedding(2, WIDTH, _weight=0.02 * torch.randn(2, WIDTH))
        self.word_in, self.ptr_in, self.out, self.pq, self.pk = (nn.Linear(WIDTH, WIDTH) for _ in range(5))
        self.blocks = nn.ModuleList(Block() for _ in range(SAYING))
        self.norm, self.drop = nn.LayerNorm(WIDTH), nn.Dropout(DROP)
        self.bias = nn.Parameter(torch.zeros(len(table)))

    def memory(self, lower: Tensor, mask: Tensor, members: Tensor) -> Tensor:
        """Turn lower states (B, T, D) into one vector for every word (B, N, D).

        Args:
            lower: states that the reader's lower layers have of pieces.
            mask: (B, T) 1 where there is a piece.
            members: (B, N, T) the share of each piece in each word.
        """
        states, unseen = lower, (1.0 - mask[:, None, None, :].to(lower.dtype)) * NEVER
        for layer in self.layer:
            found = layer(states, unseen)
            states = found if isinstance(found, Tensor) else found[0]
        read: Tensor = self.mem_norm(members.to(states.dtype) @ states)
        return read

    def states(self, memory: Tensor, said: Tensor, unseen: Tensor) -> Tensor:
        """Turn what was said (B, T) into the states (B, T, D) from which what comes next is told."""
        count, steps = self.words.num_embeddings, said.shape[1]
        places = (said - count).clamp(min=0).unsqueeze(2).expand(-1, -1, WIDTH)
        pointed = (said >= count).unsqueeze(2)
        listed = self.word_in(self.words(said.clamp(max=count - 1)))
        x = torch.where(pointed, self.ptr_in(memory.gather(1, places)).to(listed.dtype), listed)
        x = self.drop(x + self.pos(torch.arange(steps, device=said.device)) + self.kind(pointed[:, :, 0].long()))
        causal = torch.triu(torch.full((steps, steps), NEVER, device=said.device), 1)[None, None]
        for block in self.blocks:
            x = block(x, memory, causal, unseen)
        found: Tensor = self.norm(x)
        return found

    def forward(self, memory: Tensor, said: Tensor, there: Tensor) -> Tensor:
        """Give the log-odds (B, T, V + N) of what comes next: signs and words of the list, words of the prompt.

        Args:
            memory: (B, N, D) of the words of the prompt.
            said: (B, T) what was said so far.
            there: (B, N) 1 where there is a word.
        """
        unseen = (1.0 - there) * NEVER
        x = self.states(memory, said, unseen[:, None, None])
        places = self.pq(x) @ self.pk(memory).transpose(1, 2) / math.sqrt(WIDTH) + unseen[:, None]
        return torch.cat([(self.out(x) @ self.words.weight.T + self.bias).float(), places.float()], 2)


class Saying(nn.Module):
    """The decoder as it ships: the log-odds (B, V + N) of what comes next, all drafts being of one prompt."""

    def __init__(self, writer: Any) -> None:
        super().__init__()
        self.writer = writer
        # A layer of its own, so that the product is exported as the ones that `eight_bits` knows.
        self.listed = nn.Linear(WIDTH, len(writer.bias))
        self.listed.weight.data.copy_(writer.words.weight)
        self.listed.bias.data.copy_(writer.bias)

    def forward(self, memory: Tensor, said: Tensor) -> Tensor:
        """Turn the prompt's words (B, N, D) and what was said (B, T) into log-odds of what comes next."""
        writer = self.writer
        last = writer.states(memory, said, torch.zeros(1, 1, 1, 1))[:, -1:]
        places = writer.pq(last) @ writer.pk(memory).transpose(1, 2) / math.sqrt(WIDTH)
        return torch.cat([self.listed(writer.out(last)), places], 2)[:, 0]


class Reading(nn.Module):
    """The layers that read, as they ship."""

    def __init__(self, writer: Any) -> None:
        super().__init__()
        self.writer = writer

    def forward(self, lower: Tensor, mask: Tensor, members: Tensor) -> Tensor:
        """Read pieces, see `Writer.memory`."""
        found: Tensor = self.writer.memory(lower, mask, members)
        return found
