"""The network that fills gaps in prompts: a small decoder over the reader's states.

A repair takes a harmful situation out of a prompt and asks what harmless words could stand in the gap. The decoder
sees the prompt with `[MASK]` in the gap, never the harm that was there, and has only ever seen harmless text. It learns
from gaps cut at random into harmless text (after Donahue et al. 2020, who teach language models to fill in the blanks)
and from `repairs.tsv`, where somebody repaired prompts by hand. The same file teaches the reader's gap head which words
belong to a harmful situation.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from safegen.builtin.training import eight_bits, reader_ship
from safegen.builtin.training.checkpointing import Progress
from safegen.builtin.training.filler import MOST, Repairs, Shipped, fill_loss, mark_loss
from safegen.builtin.training.reader import CLS, PAD, SEP, Pieces, Reader, encoder
from safegen.builtin.training.reader_lists import Line, harmless_lists, listed
from safegen.builtin.training.reader_texts import lessons
from safegen.directions import recipes
from safegen.prompts import datasets
from safegen.reader.infilling import BEGIN, END, FILE, VOCABULARY
from safegen.reader.model import WEIGHTS, read_facts
from safegen.reader.words import WINDOW, split

MASK = 103
SEEN = 5  # a piece is in the vocabulary if it was seen this often
EMPTY, SENTENCES = 0.1, 0.15  # shares of random gaps that were nothing, and in sentences of WordNet
REPAIRED, MARKED = 0.35, 0.15  # shares of gaps that are a repair's, and a marked line's
LENGTHS = (1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 5, 6, 7)  # words of a random gap
BETWEEN = 2  # equal words between two stretches that count as one
HARMLESS, BESIDE = 0.4, 0.3  # shares of texts without harm, and of texts with others beside them, for the gap head
ROWS, ALIKE = 256, 8  # rows of a batch, and batches drawn together so that their rows are of like length
PEAK, MARKING = 1.5e-3, 8  # learning rate; one step in this many is the gap head's


@dataclass(frozen=True)
class Gap:
    """The words before and behind a gap, and the words that fill it."""

    before: list[str]
    fill: list[str]
    behind: list[str]


@dataclass(frozen=True)
class Pair:
    """A harmful prompt and its repair as words, and the stretches (before, after) in which they differ."""

    old: list[str]
    new: list[str]
    stretches: list[tuple[int, int, int, int]]

    @classmethod
    def of(cls, old: str, new: str) -> Pair:
        """Compare two texts word by word; stretches with up to `BETWEEN` words between them are one."""
        olds, news = words_of(old), words_of(new)
        found: list[tuple[int, int, int, int]] = []
        same = SequenceMatcher(None, [w.lower() for w in olds], [w.lower() for w in news], autojunk=False)
        for tag, i1, i2, j1, j2 in same.get_opcodes():
            if tag == "equal":
                continue
            back = int(i1 == i2 and min(i1, j1) > 0)  # words were only added: the word before them changes, too
            if found and i1 - back - found[-1][1] <= BETWEEN:
                found[-1] = (found[-1][0], i2, found[-1][2], j2)
            else:
                found.append((i1 - back, i2, j1 - back, j2))
        return cls(olds, news, found)

    def gaps(self) -> Iterator[Gap]:
        """Give the gaps: once with all others filled, and once with all others still open."""
        for n, (_, _, j1, j2) in enumerate(self.stretches):
            yield Gap(self.new[:j1], self.new[j1:j2], self.new[j2:])
            if len(self.stretches) > 1:
                before = self._open(0, j1, self.stretches[:n])
                yield Gap(before, self.new[j1:j2], self._open(j2, len(self.new), self.stretches[n + 1 :]))

    def _open(self, start: int, end: int, stretches: Sequence[tuple[int, int, int, int]]) -> list[str]:
        """Give a part of the repaired text with an empty word for each stretch in it."""
        found: list[str] = []
        for _, _, j1, j2 in stretches:
            found += [*self.new[start:j1], ""]
            start = j2
        return [*found, *self.new[start:end]]

    def labels(self) -> list[int]:
        """Tell of every word of the harmful prompt whether it is in a stretch."""
        inside = {i for i1, i2, _, _ in self.stretches for i in range(i1, i2)}
        return [int(i in inside) for i in range(len(self.old))]


def words_of(text: str) -> list[str]:
    """Split a text into its words and signs."""
    return [word.text for word in split(text)]


def random_gap(text: str, rng: random.Random) -> Gap:
    """Cut a gap into a text at random: now and then one where nothing was."""
    words = words_of(text)
    if len(words) > WINDOW:
        start = rng.randrange(len(words) - WINDOW + 1)
        words = words[start : start + WINDOW]
    count = 0 if rng.random() < EMPTY else min(rng.choice(LENGTHS), len(words))
    start = rng.randrange(len(words) - count + 1)
    return Gap(words[:start], words[start : start + count], words[start + count :])


class Samples:
    """Texts without harm, repairs, and batches of both."""

    def __init__(
        self,
        texts: Sequence[str],
        sentences: Sequence[str],
        marked: Sequence[Gap],
        pairs: Sequence[Pair],
        company: Sequence[str],
        pieces: Pieces,
    ) -> None:
        self.texts, self.sentences, self.marked, self.pairs = texts, sentences, marked, pairs
        self.company, self.pieces = company, pieces
        self.waiting: list[list[tuple[list[int], int, list[int]]]] = []
        self.repaired = [gap for pair in pairs for gap in pair.gaps()]
        counts = Counter(piece for text in texts for word in words_of(text) for piece in pieces(word))
        self.vocabulary = [CLS, SEP, *sorted(piece for piece, count in counts.items() if count >= SEEN)]
        self.index = {piece: i for i, piece in enumerate(self.vocabulary)}

    def fills(self, rng: random.Random) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draw texts of like length with a gap.

        Returns:
            tokens (B, T), gaps' places (B,), pieces in (B, L) and the pieces that come next (B, L), -1 behind the end.
        """
        if not self.waiting:
            drawn = sorted((self.fill(rng) for _ in range(ALIKE * ROWS)), key=lambda row: len(row[0]))
            self.waiting = [drawn[at : at + ROWS] for at in range(0, len(drawn), ROWS)]
            rng.shuffle(self.waiting)
        rows, places, wanted = zip(*self.waiting.pop(), strict=True)
        into = [[BEGIN, *row[:-1]] for row in wanted]
        return padded(rows, PAD), torch.tensor(places), padded(into, END), padded(wanted, -1)

    def fill(self, rng: random.Random) -> tuple[list[int], int, list[int]]:
        """Draw a text with a gap: its tokens, the gap's place, and the pieces that fill it."""
        while True:
            gap = self.gap(rng)
            pieces = [self.index.get(piece) for word in gap.fill for piece in self.pieces(word)]
            # A name would come out in small letters.
            name = any(word[0].isupper() for word in gap.fill[0 if gap.before else 1 :])
            known = [piece for piece in pieces if piece is not None]
            if len(known) == len(pieces) < MOST and not name:
                return *self.masked(gap), [*known, END]

    def gap(self, rng: random.Random) -> Gap:
        """Draw a gap: one of a repair, one of a marked line's safe half, or one at random."""
        kind = rng.random()
        if self.repaired and kind < REPAIRED:
            return rng.choice(self.repaired)
        if self.marked and kind < REPAIRED + MARKED:
            return rng.choice(self.marked)
        return random_gap(rng.choice(self.sentences if rng.random() < SENTENCES else self.texts), rng)

    def masked(self, gap: Gap) -> tuple[list[int], int]:
        """Make the tokens of a text with a gap, and the gap's place."""
        before, behind = (
            [piece for word in words for piece in (self.pieces(word) if word else [MASK])]
            for words in (gap.before[-WINDOW:], gap.behind[:WINDOW])
        )
        return [CLS, *before, MASK, *behind, SEP], len(before) + 1

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


def marked_gap(line: Line) -> Gap | None:
    """Cut the marked phrase out of the safe half of a line; None if nothing is around it."""
    if len(line.marks) != 1 or line.marks[0] == (0, len(line.text)):
        return None
    start, end = line.marks[0]
    return Gap(words_of(line.text[:start]), words_of(line.text[start:end]), words_of(line.text[end:]))


def padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Make rows equally long."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])


def samples(data: Path | None, wordnet: Path | None, pieces: Pieces) -> Samples:
    """Collect the repairs and every harmless text."""
    taught = lessons(data, wordnet)
    lists = harmless_lists(wordnet)
    texts = [text for name in ("lookalikes", "hard", "ordinary", "long", "benign") for text in lists[name]]
    texts += [pair[1].text for concept in taught.harmful for pair in concept if len(pair[1].text.split()) > 2]
    texts += [pair[1].text for pair in taught.unmarked]
    if data is not None:
        texts += datasets.training_prompts(data / "coco_captions_8k.csv")
    marked = [gap for concept in taught.harmful for pair in concept if (gap := marked_gap(pair[1]))]
    pairs = [Pair.of(*line.split("\t")) for line in listed(Path(__file__).with_name("repairs.tsv"))]
    return Samples(texts, lists.get("sentences") or texts, marked, pairs, taught.company, pieces)


def train(folder: Path, steps: int, minutes: float) -> None:
    """Train, or go on training, under `folder`; see `reader.train` for ``SAFEGEN_DATA`` and ``SAFEGEN_WORDNET``."""
    torch.manual_seed(0)
    named = (os.environ.get(f"SAFEGEN_{name}") for name in ("DATA", "WORDNET"))
    data, wordnet = (Path(value) if value else None for value in named)
    base, tokenizer = encoder()
    reader = Reader(base, len(recipes.known()))
    reader.load_state_dict(reader_ship.weights(WEIGHTS / "reader.onnx"), strict=False)
    reader.eval().requires_grad_(False)
    taught = samples(data, wordnet, Pieces(tokenizer))
    model = Repairs(len(taught.vocabulary))
    run = Progress(model, folder, steps, peak_lr=PEAK, minutes=minutes)
    print(f"repairs from step {run.step}; {len(taught.texts)} texts, {len(taught.pairs)} repairs,"
          f" {len(taught.vocabulary)} pieces", flush=True)  # fmt: skip
    totals: dict[str, list[float]] = {"fill": [], "gaps": []}
    for step in run:
        rng = random.Random(step)
        model.train()
        if step % MARKING == MARKING - 1 and taught.pairs:
            ids, labels = taught.marks(rng)
            loss = mark_loss(model.gaps, read(reader, ids), labels)
            totals["gaps"].append(loss.item())
        else:
            ids, gap, into, out = taught.fills(rng)
            loss = fill_loss(model.filler, read(reader, ids), ids, gap, into, out)
            totals["fill"].append(loss.item())
        run.update(loss)
        if step % 100 == 99:
            means = ", ".join(f"{name} {sum(some) / max(1, len(some)):.4f}" for name, some in totals.items())
            print(f"repairs {step + 1} loss of {means}", flush=True)
            totals = {name: [] for name in totals}
    ship(run.average, reader, tokenizer, taught.vocabulary)


def ship(model: Any, reader: Reader, tokenizer: Tokenizer, vocabulary: Sequence[int], out: Path = WEIGHTS) -> None:
    """Export the decoder and the reader with its gap head; the reader's calibration stays."""
    import onnx

    for name in ("gap_hidden", "gap_out"):
        getattr(reader, name).load_state_dict(getattr(model.gaps, name).state_dict())
    calibration = read_facts(out)["calibration"]
    with tempfile.TemporaryDirectory() as folder:
        reader_ship.export(reader_ship.Shipped(reader).eval(), Path(folder), out / "reader.onnx")
        states, whole = torch.zeros(2, 5, 384), Path(folder) / "filler.onnx"
        given = (states, torch.ones(2, 5, dtype=torch.long), torch.tensor([1, 2]), torch.ones(2, 3, dtype=torch.long))
        torch.onnx.export(
            Shipped(model.filler).float().eval(),
            given,
            str(whole),
            input_names=["states", "mask", "gap", "pieces"],
            output_names=["logits"],
            dynamic_axes={
                **{name: {0: "batch", 1: "tokens"} for name in ("states", "mask")},
                **{"gap": {0: "batch"}, "pieces": {0: "batch", 1: "length"}, "logits": {0: "batch"}},
            },
            opset_version=17,
            dynamo=False,
        )
        onnx.save(eight_bits.quantised(onnx.load(str(whole))), str(out / FILE))
    names = ["", "", *(tokenizer.id_to_token(piece) for piece in vocabulary[2:])]
    reader_ship.write_json(out / VOCABULARY, names)
    reader_ship.write_facts(out, calibration)


def read(reader: Reader, ids: Tensor) -> Tensor:
    """Turn tokens into the reader's states, without a gradient."""
    with torch.no_grad():
        return reader.states(ids)
