"""The prompt reader: a small sentence encoder taught to mark trigger words.

It begins as all-MiniLM-L6-v2 with its word table and lowest layers frozen. So a word that is in no lesson keeps its
meaning relative to the words of the lessons. Every word gets log-odds per concept; a window is as harmful as its
worst words.
"""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from safegen.builtin.training import former, reader_ship
from safegen.builtin.training.checkpointing import Progress, device, halved
from safegen.builtin.training.hand_repairs import repaired
from safegen.builtin.training.mined import nearly_flagged, nearly_missed
from safegen.builtin.training.reader_texts import Sample, lessons
from safegen.directions import recipes
from safegen.reader.model import WEIGHTS
from safegen.reader.reader import Reader as ShippedReader

TOKENS, POOL = 1_800, 24  # tokens of a batch; samples of like length come from a stock of six times `POOL`
FREE = 1e-3  # learning rate of the heads; the encoder's layers get a share of it, see `groups`
MARKED = 2.0  # weight of a marked word
# Where a shipped reader is taught on: the weight of what a repair takes out, and that of how far states are from what
# they were, since lessons are few beside all that it has read.
GAPS, KEEP = 2.0, 2.0
NEAR_SHARE = 1.5  # how often harmless text is one that the shipped reader nearly flags, as in `reader_texts.SHARES`
OTHER = 0.15  # weight of a harmful word's being harmless under other concepts
CLS, SEP, PAD = 101, 102, 0


class Pieces:
    """The word pieces of words, each looked up once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.known: dict[str, list[int]] = {}

    def __call__(self, word: str) -> list[int]:
        if word not in self.known:
            self.known[word] = self.tokenizer.encode(word, add_special_tokens=False).ids[:8] or [100]
        return self.known[word]


class Reader(nn.Module):
    """An encoder with two heads on every token: for its harm, and for whether a repair takes it out.

    `train` teaches the second one, the gap head, where it goes on from a shipped reader; `repairs.py` finishes it.
    """

    def __init__(self, encoder: Any, concept_count: int) -> None:
        super().__init__()
        self.encoder: Any = encoder
        self.hidden = nn.Linear(384, 256)
        self.out = nn.Linear(256, concept_count)
        self.gap_hidden = nn.Linear(384, 256)
        self.gap_out = nn.Linear(256, 1)
        nn.init.constant_(self.out.bias, -4.0)

    def states(self, ids: Tensor) -> Tensor:
        """Turn tokens (B, T) into states (B, T, D)."""
        with halved(ids.device.type):
            states: Tensor = self.encoder(ids, attention_mask=(ids != PAD).long())[0]
        return states.float()

    def harm(self, states: Tensor) -> Tensor:
        """Turn states (B, T, D) into log-odds of harm (B, T, K)."""
        odds: Tensor = self.out(F.gelu(self.hidden(states)))
        return odds

    def gaps(self, states: Tensor) -> Tensor:
        """Turn states (B, T, D) into log-odds (B, T) that a repair takes a token out."""
        odds: Tensor = self.gap_out(F.gelu(self.gap_hidden(states)))
        return odds.squeeze(-1)


@dataclass(frozen=True)
class Batch:
    """Tokens (B, T), their labels, whether a repair takes them out (see `Sample`), and the windows' concepts (B,).

    Where there is no word the labels are -3, and `taken` is -1.
    """

    ids: Tensor
    labels: Tensor
    taken: Tensor
    whole: Tensor


def collate(samples: Sequence[Sample], pieces: Pieces) -> Batch:
    """Make a batch of some windows, on the device."""
    rows: list[list[int]] = []
    labels: list[list[int]] = []
    taken: list[list[int]] = []
    for sample in samples:
        cut = [pieces(word) for word in sample.words]
        rows.append([CLS, *(piece for some in cut for piece in some), SEP])
        for marks, of_words, none in ((labels, sample.labels, -3), (taken, sample.taken, -1)):
            each = (mark for some, mark in zip(cut, of_words, strict=True) for _ in some)
            marks.append([none, *each, none])
    whole = torch.tensor([s.concept for s in samples])
    tensors = (padded(rows, PAD), padded(labels, -3), padded(taken, -1), whole)
    return Batch(*(tensor.to(device()) for tensor in tensors))


def padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Make rows equally long."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])


def loss_of(reader: Reader, states: Tensor, labels: Tensor, whole: Tensor) -> Tensor:
    """Compute the cross-entropy of every word with a known label, and of every window by its worst words."""
    odds = reader.harm(states)
    count = odds.shape[-1]
    known = (labels >= -1).float()
    wanted = F.one_hot(labels.clamp(min=0), count).float() * (labels >= 0).unsqueeze(-1)
    weight = torch.where((labels >= 0).unsqueeze(-1), torch.where(wanted > 0, MARKED, OTHER), 1.0)
    each = F.binary_cross_entropy_with_logits(odds, wanted, reduction="none") * weight * known.unsqueeze(-1)
    spoken = labels > -3
    # A window's log-odds are the mean of its words' log-odds, weighted towards the highest.
    masked = odds.masked_fill(~spoken.unsqueeze(-1), -30.0)
    pooled = (masked.softmax(1) * masked).sum(1)
    target = F.one_hot(whole.clamp(min=0), count).float() * (whole >= 0).unsqueeze(-1)
    weight = torch.where((whole >= 0).unsqueeze(-1) & (target == 0), OTHER, 1.0)
    worst = F.binary_cross_entropy_with_logits(pooled, target, reduction="none") * weight
    return each.sum() / known.sum().clamp(min=1) * 4 + worst.sum(-1).mean()


def gap_loss(reader: Reader, states: Tensor, taken: Tensor) -> Tensor:
    """Compute the cross-entropy of every word of which it is known whether a repair takes it out."""
    known = (taken >= 0).float()
    odds = reader.gaps(states)
    each = F.binary_cross_entropy_with_logits(odds, taken.clamp(min=0).float(), reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def drift(former: Reader, ids: Tensor, states: Tensor) -> Tensor:
    """Measure how far the states of tokens (B, T, D) are from the former ones."""
    with torch.no_grad():
        before = former.states(ids)
    spoken = ids != PAD
    loss: Tensor = F.mse_loss(states[spoken], before[spoken]) / before[spoken].var()
    return loss


def encoder() -> tuple[Any, Tokenizer]:
    """Load all-MiniLM-L6-v2 as the former edition has it, with its word table and lowest layers frozen."""
    from transformers import BertModel

    found = BertModel.from_pretrained(former.part("text_encoder"), add_pooling_layer=False, dtype=torch.float32)
    found.config._attn_implementation = "eager"  # the fused attention's bf16 backward is slow on the CPU
    for frozen in (found.embeddings, *found.encoder.layer[: reader_ship.LOWER]):
        frozen.requires_grad_(False)
    tokenizer = Tokenizer.from_file(str(former.part("tokenizer") / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return found, tokenizer


def groups(reader: Reader) -> list[dict[str, Any]]:
    """Give parameters with their share of the learning rate: the lower a layer, the smaller its share."""
    found = [{"params": [p for n, p in reader.named_parameters() if not n.startswith("encoder.")], "share": 1.0}]
    for depth, layer in enumerate(reversed(reader.encoder.encoder.layer)):
        found.append({"params": list(layer.parameters()), "share": 0.12 * 0.8**depth})
    return found


def batch(draw: Callable[[random.Random], Sequence[Sample]], step: int, waiting: list[Sample]) -> list[Sample]:
    """Draw windows of like length, as many as `TOKENS` allow; the others wait for the next batch."""
    rng = random.Random(step)
    while len(waiting) < 6 * POOL:
        waiting += draw(rng)
    pivot = len(rng.choice(waiting).words)
    waiting.sort(key=lambda sample: abs(len(sample.words) - pivot))
    longest, count = 1, 0
    while count < len(waiting):
        longest = max(longest, len(waiting[count].words))
        if (count + 1) * (longest * 1.25 + 2) > TOKENS:
            break
        count += 1
    count = min(count, len(waiting) - POOL)
    some = waiting[:count]
    del waiting[:count]
    return some


def train(folder: Path, steps: int, minutes: float) -> None:
    """Train, or go on training, under `folder`.

    ``SAFEGEN_DATA`` names the folder of the prompt sets, ``SAFEGEN_WORDNET`` that of WordNet; both may be missing. With
    ``SAFEGEN_START=shipped`` training begins with the shipped reader instead of the sentence encoder. It then also
    learns from repairs by hand, and more often from what the shipped reader nearly misses or nearly flags.
    """
    torch.manual_seed(0)
    named = (os.environ.get(f"SAFEGEN_{name}") for name in ("DATA", "WORDNET"))
    data, wordnet = (Path(value) if value else None for value in named)
    goes_on = os.environ.get("SAFEGEN_START") == "shipped"
    taught = lessons(data, wordnet, repaired() if goes_on else ())
    if goes_on:
        shipped = ShippedReader.load()
        taught.missed = nearly_missed(taught.repaired, shipped)
        if near := nearly_flagged(taught.harmless, shipped):
            taught.harmless.append((NEAR_SHARE, near))
    base, tokenizer = encoder()
    pieces = Pieces(tokenizer)
    reader = Reader(base, len(recipes.known()))
    if goes_on:
        reader.load_state_dict(reader_ship.weights(WEIGHTS / "reader.onnx"), strict=False)
    before = copy.deepcopy(reader).eval().requires_grad_(False).to(device()) if goes_on else None
    reader.to(device())
    run = Progress(reader, folder, steps, peak_lr=FREE, minutes=minutes, decay=0.998, groups=groups(reader))
    harmless = [len(some) for _, some in taught.harmless]
    print(f"reader from step {run.step}; {[len(h) for h in taught.harmful]} marked, {len(taught.unmarked)} unmarked,"
          f" {len(taught.repaired)} repaired, {len(taught.missed)} of them nearly missed,"
          f" {harmless} harmless lines", flush=True)  # fmt: skip
    total = 0.0
    reader.train()  # turns dropout on, which a loaded encoder leaves off: else lessons are learned by heart
    waiting: list[Sample] = []
    for step in run:
        some = collate(batch(taught.sample, step, waiting), pieces)
        states = reader.states(some.ids)
        loss = loss_of(reader, states, some.labels, some.whole)
        total += loss.item()
        if before is not None:
            loss = loss + GAPS * gap_loss(reader, states, some.taken) + KEEP * drift(before, some.ids, states)
        run.update(loss)
        if step % 100 == 99:
            print(f"reader {step + 1} loss {total / 100:.4f}", flush=True)
            total = 0.0
    reader_ship.ship(run.average, folder, wordnet)
