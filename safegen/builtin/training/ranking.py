"""The ranker of repairs: layers over the reader's lower ones, taught by verdicts.

A line of `verdicts.tsv` has a prompt, a repair of it, and three letters: whether a strict reader found the repair
to be English, everything harmless kept, and the harm gone. `written.tsv` has the same for repairs that a network wrote,
and for others of these prompts; it is drawn more often. One prompt in `HELD` is kept apart, and measured.
"""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safegen.bench.statistics import auc
from safegen.builtin.training import eight_bits, reader_ship
from safegen.builtin.training.checkpointing import Progress, device, halved
from safegen.builtin.training.reader import PAD, Pieces, Reader, encoder, padded
from safegen.builtin.training.reader_lists import listed
from safegen.directions import recipes
from safegen.reader.forms import folded
from safegen.reader.model import WEIGHTS, read_facts
from safegen.reader.ranking import COMES, FILE, MOST, THERE, Marked, marked
from safegen.reader.words import split

VERDICTS, WRITTEN = (Path(__file__).with_name(f"{name}.tsv") for name in ("verdicts", "written"))
OFTEN = 4  # how often an epoch has a verdict of `written.tsv`
LAYERS = 3  # over the reader's lower ones; the files that ship have to stay small
MARKS = 3  # English, whole, harmless
PEAK, BATCH, STOCK = 1e-3, 48, 20  # learning rate of the head; rows of a batch; batches that are sorted by length
SHARE, FALL = 0.2, 0.85  # the top layer's share of the learning rate, and each lower one's share of the one above
DOUBT = 0.02  # chance that a verdict is wrong
DROP = 0.2
HELD = 12

Verdict = tuple[Marked, Sequence[float], str]  # a prompt with a repair, what was found of it, and the prompt


class Ranker(nn.Module):
    """Layers over the lower ones, which are frozen, and a head over the first piece and the mean of the repair's."""

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        layers = reader.encoder.encoder.layer
        self.layer = nn.ModuleList(layers[reader_ship.LOWER : reader_ship.LOWER + LAYERS])
        self.kinds = nn.Embedding(COMES + 1, 384)
        self.hidden, self.odds = nn.Linear(2 * 384, 256), nn.Linear(256, MARKS)
        self.drop = nn.Dropout(DROP)
        nn.init.zeros_(self.kinds.weight)

    def forward(self, lower: Tensor, marks: Tensor, mask: Tensor) -> Tensor:
        """Turn lower states (B, T, D), marks (B, T) and a mask (B, T) into log-odds (B, 3)."""
        states = lower + self.kinds(marks)
        unseen = (1.0 - mask[:, None, None, :].to(states.dtype)) * -1e4
        for layer in self.layer:
            found = layer(states, unseen)
            states = found if isinstance(found, Tensor) else found[0]
        after = ((marks >= THERE) & (mask > 0)).to(states.dtype).unsqueeze(-1)
        mean = (states * after).sum(1) / after.sum(1).clamp(min=1)
        # A second dimension, so that the products are exported as the ones that `eight_bits` knows.
        read = torch.cat([states[:, 0], mean], 1)[:, None]
        odds: Tensor = self.odds(self.drop(F.gelu(self.hidden(self.drop(read)))))
        return odds[:, 0]


def verdicts(pieces: Pieces, file: Path) -> list[Verdict]:
    """Read what readers found of prompts and repairs that are not too long for the network."""
    found: list[Verdict] = []
    for line in listed(file):
        before, after, marks = line.split("\t")
        old, new = ([word.text for word in folded(split(text))] for text in (before, after))
        row = marked(old, new, pieces)
        if len(row[0]) <= MOST:
            found.append((row, [float(mark == "y") for mark in marks], before))
    return found


def is_held(verdict: Verdict) -> bool:
    """Tell whether a verdict is kept out of training; all of one prompt are, or none."""
    return zlib.crc32(verdict[2].encode()) % HELD == 0


def collate(rows: Sequence[Marked]) -> tuple[Tensor, Tensor]:
    """Make pieces and marks (B, T) of some rows."""
    return padded([ids for ids, _ in rows], PAD), padded([marks for _, marks in rows], 0)


def batches(taught: Sequence[Verdict]) -> Callable[[int], Sequence[Verdict]]:
    """Give the batch of every step: each epoch has all verdicts in another order, those of like length together."""
    per_epoch = -(-len(taught) // BATCH)
    orders: dict[int, list[list[int]]] = {}

    def order(epoch: int) -> list[list[int]]:
        rng = random.Random(epoch)
        rows = rng.sample(range(len(taught)), len(taught))
        stocks = (rows[at : at + BATCH * STOCK] for at in range(0, len(rows), BATCH * STOCK))
        some = (sorted(stock, key=lambda i: len(taught[i][0][0])) for stock in stocks)
        cut = [stock[at : at + BATCH] for stock in some for at in range(0, len(stock), BATCH)]
        rng.shuffle(cut)
        return cut

    def batch(step: int) -> Sequence[Verdict]:
        epoch, at = divmod(step, per_epoch)
        if epoch not in orders:
            orders.clear()
            orders[epoch] = order(epoch)
        return [taught[i] for i in orders[epoch][at]]

    return batch


def groups(ranker: Ranker) -> Iterator[dict[str, object]]:
    """Give parameters with their share of the learning rate: the lower a layer, the smaller its share."""
    yield {"params": [p for n, p in ranker.named_parameters() if not n.startswith("layer.")], "share": 1.0}
    for depth, layer in enumerate(reversed(ranker.layer)):
        yield {"params": list(layer.parameters()), "share": SHARE * FALL**depth}


def odds_of(ranker: Ranker, lower: Reader, rows: Sequence[Marked]) -> Tensor:
    """Give the log-odds (B, 3) of some rows."""
    ids, marks = (part.to(device()) for part in collate(rows))
    mask = (ids != PAD).long()
    with halved(ids.device.type):
        with torch.no_grad():
            found = lower.encoder(ids, attention_mask=mask)[0]
        odds: Tensor = ranker(found, marks, mask)
    return odds.float()


def shipped(file: Path = WEIGHTS / FILE) -> dict[str, Tensor]:
    """Give the weights of the ranker that ships."""
    found = {name.removeprefix("encoder.encoder."): value for name, value in eight_bits.weights(file)}
    return found | {"kinds.weight": found["kinds.weight"].T.contiguous()}  # a table, which is not transposed


def train(folder: Path, steps: int, minutes: float) -> None:
    """Train, or go on training, under `folder`, and ship.

    With the environment's ``SAFEGEN_START=shipped`` training begins with the ranker that ships.
    """
    torch.manual_seed(0)
    base, tokenizer = encoder()
    reader = Reader(base, len(recipes.known()))
    reader.load_state_dict(reader_ship.weights(WEIGHTS / "reader.onnx"), strict=False)
    ranker = Ranker(reader)
    if os.environ.get("SAFEGEN_START") == "shipped":
        ranker.load_state_dict(shipped())
    reader.encoder.encoder.layer = reader.encoder.encoder.layer[: reader_ship.LOWER]
    reader.eval().requires_grad_(False).to(device())
    ranker.requires_grad_(True).to(device())
    by_rules, written = (verdicts(Pieces(tokenizer), file) for file in (VERDICTS, WRITTEN))
    taught = [v for v in (*by_rules, *OFTEN * written) if not is_held(v)]
    held = [[v for v in some if is_held(v)] for some in (by_rules, written)]
    batch = batches(taught)
    run = Progress(ranker, folder, steps, PEAK, minutes, decay=0.995, groups=list(groups(ranker)))
    print(f"ranking from step {run.step}; {len(taught)} verdicts, {sum(map(len, held))} apart", flush=True)
    total = 0.0
    for step in run:
        ranker.train()
        some = batch(step)
        wanted = torch.tensor([marks for _, marks, _ in some], device=device()) * (1 - 2 * DOUBT) + DOUBT
        loss = F.binary_cross_entropy_with_logits(odds_of(ranker, reader, [row for row, _, _ in some]), wanted) * MARKS
        total += loss.item()
        run.update(loss)
        if step % 50 == 49:
            print(f"ranking {step + 1} loss {total / 50:.4f}", flush=True)
            total = 0.0
    for name, some in zip(("by rules", "written"), held, strict=True):
        print(f"ranking apart, {name}: {measured(run.average, reader, some)}", flush=True)
    ship(run.average)


def ship(ranker: Any, out: Path = WEIGHTS) -> None:
    """Export the ranker in 8 bits, and name it in the reader's facts."""
    pieces = torch.ones(2, 5, dtype=torch.long)
    given = {"lower": torch.zeros(2, 5, 384), "marks": pieces, "mask": pieces}
    eight_bits.save(ranker, given, "odds", ("batch", "tokens"), out / FILE)
    reader_ship.write_facts(out, read_facts(out)["calibration"])


@torch.no_grad()
def measured(ranker: Ranker, lower: Reader, held: Sequence[Verdict]) -> str:
    """Tell how well the chances sort repairs that people found right or wrong, as areas under curves."""
    odds = torch.cat([odds_of(ranker, lower, [v[0] for v in held[at : at + 64]]) for at in range(0, len(held), 64)])
    marks = np.array([v[1] for v in held])
    logs = F.logsigmoid(odds).double().cpu().numpy()
    columns = [*((logs[:, i], marks[:, i]) for i in range(MARKS)), (logs.sum(1), marks.min(1))]
    *parts, every = (auc(scores[found > 0].tolist(), scores[found == 0].tolist()) for scores, found in columns)
    return f"{', '.join(f'{part:.3f}' for part in parts)}; all three {every:.3f}"
