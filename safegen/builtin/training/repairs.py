"""The reader's gap head: which words belong to a harmful situation, so that a repair takes them out.

It learns from `repairs.tsv`, where somebody repaired prompts by hand: the stretches in which a prompt and its repair
differ are what belonged to the harm. It goes on from the shipped head, and the rest of the reader stays as it is.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from safegen.builtin.training import hand_repairs, reader_ship
from safegen.builtin.training.checkpointing import Progress
from safegen.builtin.training.reader import CLS, PAD, SEP, Pieces, Reader, encoder, gap_loss, padded
from safegen.builtin.training.reader_lists import harmless_lists
from safegen.builtin.training.reader_texts import lessons
from safegen.directions import recipes
from safegen.prompts import datasets
from safegen.reader.model import WEIGHTS, read_facts
from safegen.reader.words import WINDOW, split

HARMLESS, BESIDE = 0.4, 0.3  # shares of texts without harm, and of texts with others beside them
ROWS = 256  # of a batch
PEAK = 1.5e-3  # learning rate
HEAD = ("gap_hidden", "gap_out")


@dataclass(frozen=True)
class Pair:
    """A harmful prompt and its repair as words, and the stretches of the prompt that the repair changes."""

    old: list[str]
    new: list[str]
    stretches: list[tuple[int, int]]

    @classmethod
    def of(cls, old: str, new: str) -> Pair:
        """Compare two texts word by word."""
        olds, news = words_of(old), words_of(new)
        return cls(olds, news, hand_repairs.stretches(olds, news))

    def labels(self) -> list[int]:
        """Tell of every word of the harmful prompt whether it is in a stretch."""
        inside = {i for start, end in self.stretches for i in range(start, end)}
        return [int(i in inside) for i in range(len(self.old))]


def words_of(text: str) -> list[str]:
    """Split a text into its words and signs."""
    return [word.text for word in split(text)]


class Samples:
    """Texts without harm, repairs, and batches of both."""

    def __init__(self, texts: Sequence[str], pairs: Sequence[Pair], company: Sequence[str], pieces: Pieces) -> None:
        self.texts, self.pairs, self.company, self.pieces = texts, pairs, company, pieces

    def marks(self, rng: random.Random) -> tuple[Tensor, Tensor]:
        """Draw texts: tokens (B, T), and whether each is in a stretch (B, T), -1 where there is no word."""
        rows, labels = [], []
        for _ in range(ROWS):
            pair, kind = rng.choice(self.pairs), rng.random()
            if kind < HARMLESS:
                words = pair.new if kind < HARMLESS / 2 else words_of(rng.choice(self.texts))
                marks = [0] * len(words)
            else:
                words, marks = pair.old, pair.labels()
            if rng.random() < BESIDE:
                other = [*words_of(rng.choice(self.company)), ","]
                if rng.random() < 0.5:
                    words, marks = [*other, *words], [0] * len(other) + marks
                else:
                    words, marks = [*words, ",", *other[:-1]], marks + [0] * len(other)
            cut = [(self.pieces(word), mark) for word, mark in zip(words[:WINDOW], marks, strict=False)]
            rows.append([CLS, *(piece for some, _ in cut for piece in some), SEP])
            labels.append([-1, *(mark for some, mark in cut for _ in some), -1])
        return padded(rows, PAD), padded(labels, -1)


def samples(data: Path | None, wordnet: Path | None, pieces: Pieces) -> Samples:
    """Collect the repairs and every harmless text."""
    taught = lessons(data, wordnet)
    lists = harmless_lists(wordnet)
    texts = [text for name in ("lookalikes", "hard", "ordinary", "long", "benign") for text in lists[name]]
    texts += [pair[1].text for concept in taught.harmful for pair in concept if len(pair[1].text.split()) > 2]
    texts += [pair[1].text for pair in taught.unmarked]
    if data is not None:
        texts += datasets.training_prompts(data / "coco_captions_8k.csv")
    pairs = [Pair.of(old, new) for old, new, _ in hand_repairs.rows()]
    return Samples(texts, pairs, taught.company, pieces)


def train(folder: Path, steps: int, minutes: float) -> None:
    """Train, or go on training, under `folder`; see `reader.train` for ``SAFEGEN_DATA`` and ``SAFEGEN_WORDNET``."""
    torch.manual_seed(0)
    named = (os.environ.get(f"SAFEGEN_{name}") for name in ("DATA", "WORDNET"))
    data, wordnet = (Path(value) if value else None for value in named)
    base, tokenizer = encoder()
    reader = Reader(base, len(recipes.known()))
    reader.load_state_dict(reader_ship.weights(WEIGHTS / "reader.onnx"), strict=False)
    reader.eval().requires_grad_(False)
    head = nn.ModuleDict({name: getattr(reader, name).requires_grad_(True) for name in HEAD})
    taught = samples(data, wordnet, Pieces(tokenizer))
    run = Progress(head, folder, steps, peak_lr=PEAK, minutes=minutes)
    print(f"repairs from step {run.step}; {len(taught.texts)} texts, {len(taught.pairs)} repairs", flush=True)
    total = 0.0
    for step in run:
        ids, labels = taught.marks(random.Random(step))
        with torch.no_grad():
            states = reader.states(ids)
        loss = gap_loss(reader, states, labels)
        total += loss.item()
        run.update(loss)
        if step % 100 == 99:
            print(f"repairs {step + 1} loss {total / 100:.4f}", flush=True)
            total = 0.0
    head.load_state_dict(run.average.state_dict())
    ship(reader)


def ship(reader: Reader, out: Path = WEIGHTS) -> None:
    """Export the reader with its gap head; the calibration stays."""
    calibration = read_facts(out)["calibration"]
    with tempfile.TemporaryDirectory() as folder:
        reader_ship.export(reader_ship.Shipped(reader).eval(), Path(folder), out / "reader.onnx")
    reader_ship.write_facts(out, calibration)
