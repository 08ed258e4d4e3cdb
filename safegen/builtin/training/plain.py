"""Further lessons for the text encoder that ships: plain English, without losing what it knew.

It learns `meanings`. Beside them it reads everything that it was once taught with, and a linear map of its states must
still give the states that it had there before: so whatever could be read off those, harm above all, still can be.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel

from safegen.builtin import world
from safegen.builtin.training import causal, phrases
from safegen.builtin.training.causal_data import texts
from safegen.builtin.training.checkpointing import Progress, device, halved
from safegen.builtin.training.meanings import Meanings

TOKENS, DRAWN = 768, 256  # tokens of a batch, pads included; texts that a batch of like length is chosen from
FULL = 8  # one batch in this many has pads up to the window's end
PEAK = 1e-3  # learning rate
KEEP = 4.0  # weight of the former states


class Pupil(nn.Module):
    """The encoder with the maps through which it is taught; they are thrown away afterwards."""

    def __init__(self, encoder: CLIPTextModel) -> None:
        super().__init__()
        self.encoder = encoder
        encoder.set_attn_implementation("eager")  # the fused attention's bf16 backward is slow on the CPU
        self.naming = phrases.Naming(causal.WIDTH, len(world.things()))
        self.word, self.end, self.pad = (nn.Linear(causal.WIDTH, causal.WIDTH) for _ in range(3))
        for former in (self.word, self.end, self.pad):
            nn.init.eye_(former.weight)
            nn.init.zeros_(former.bias)

    def forward(self, ids: Tensor) -> Tensor:
        """Turn tokens (B, T) into states (B, T, D)."""
        with halved(self.encoder.device.type):
            states: Tensor = self.encoder(ids.to(self.encoder.device))[0]
        return states.float()


def batch(tokens: list[list[int]], rng: random.Random, pad: int) -> Tensor:
    """Draw some texts of like length, filled up with pads, at least one each unless the window is full: (B, T)."""
    some = sorted((tokens[rng.randrange(len(tokens))] for _ in range(DRAWN)), key=len)
    start = rng.randrange(DRAWN)
    length = len(some[start]) + rng.randint(1, 3) if rng.random() * FULL >= 1 else causal.WINDOW
    rows = some[max(0, start + 1 - max(1, TOKENS // length)) : start + 1]
    length = min(length, causal.WINDOW)
    return torch.tensor([row[:length] + [pad] * (length - len(row)) for row in rows])


def forgotten(pupil: Pupil, former: CLIPTextModel, ids: Tensor, end: int) -> Tensor:
    """Measure how far maps of the states of tokens (B, T) are from the former states."""
    with torch.no_grad(), halved(ids.device.type):
        before = former(ids.to(former.device))[0].float()
    states = pupil(ids)
    at, last = torch.arange(ids.shape[1], device=ids.device).expand_as(ids), (ids == end).int().argmax(1, keepdim=True)
    loss = torch.zeros((), device=ids.device)
    for told, places in ((pupil.word, at < last), (pupil.end, at == last), (pupil.pad, at > last)):
        found, wanted = told(states[places]), before[places]
        loss += F.mse_loss(found, wanted) / wanted.var() + 1 - F.cosine_similarity(found, wanted, dim=-1).mean()
    return loss


def train(folder: Path, steps: int, minutes: float) -> None:
    """Train, or go on training, under `folder`; ``SAFEGEN_DATA`` names the folder of the prompt sets."""
    if not (data := os.environ.get("SAFEGEN_DATA")):
        raise SystemExit("set SAFEGEN_DATA to the folder of the prompt sets")
    english = Meanings.kept(folder)
    tokenizer, former = causal.load()
    read = texts(Path(data), [text for text in english.texts if text.isalpha()])
    tokens = tokenizer(read, truncation=True).input_ids
    torch.manual_seed(0)
    pupil = Pupil(causal.load()[1].requires_grad_(True)).to(device())
    former = former.to(device())
    run = Progress(pupil, folder, steps, peak_lr=PEAK, minutes=minutes, decay=0.998)
    print(f"plain from step {run.step}, {len(tokens)} texts, {len(english.texts)} phrases", flush=True)
    kept = named = 0.0
    for step in run:
        ids = batch(tokens, random.Random(step), tokenizer.pad_token_id).to(device())
        lost = forgotten(pupil, former, ids, tokenizer.eos_token_id)
        told = phrases.loss_of(pupil, pupil.naming, english, tokenizer, step)
        run.update(KEEP * lost + told)
        kept, named = kept + lost.item() / 50, named + told.item() / 50
        if step % 50 == 49:
            print(f"plain {step + 1} loss {named:.4f} forgotten {kept:.4f}", flush=True)
            kept = named = 0.0
    run.average.encoder.half().save_pretrained(folder / "model")
