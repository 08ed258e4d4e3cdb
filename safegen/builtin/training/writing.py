"""The writer of repairs: a decoder over the reader's lower layers, taught by repairs that people wrote.

The prompt is read once, each of its words becomes one vector, and the decoder says edits: where one begins, where it
ends, and what comes there (`safegen/reader/writing.py`). `writing_lessons.py` has what it learns from.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from safegen.builtin.training import eight_bits, reader_ship
from safegen.builtin.training.checkpointing import Progress, device, halved
from safegen.builtin.training.decoder import NEVER, WIDTH, Reading, Saying, Writer
from safegen.builtin.training.reader import CLS, PAD, SEP, Pieces, Reader, encoder, padded
from safegen.builtin.training.writing_lessons import Lesson, Lessons, cut
from safegen.directions import recipes
from safegen.reader.model import WEIGHTS, read_facts
from safegen.reader.writing import CLOSE, DONE, LISTED, MEMORY, SIGNS, WRITING, Stage

PEAK = 1e-3  # learning rate of what is new; layers that read get a share of it, see `groups`
SHARE, FALL, TABLE = 0.2, 0.8, 0.3
EVERY = 500  # steps after which the loss on lessons that are kept apart is told


def collate(lessons: Sequence[Lesson], pieces: Pieces) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Make pieces (B, T), the members of words (B, N, T), what is said (B, S), and its stages (B, S - 1; -1: none)."""
    rows = [[pieces(word) for word in lesson.words] for lesson in lessons]
    ids = padded([[CLS, *(piece for word in row for piece in word), SEP] for row in rows], PAD)
    members = torch.zeros(len(lessons), max(map(len, rows)), ids.shape[1])
    for row, words in enumerate(rows):
        at = 1
        for word, some in enumerate(words):
            members[row, word, at : at + len(some)] = 1 / len(some)
            at += len(some)
    said, stages = padded([lesson.said for lesson in lessons], PAD), padded([lesson.stages for lesson in lessons], -1)
    return ids.to(device()), members.to(device()), said.to(device()), stages.to(device())


def may_follow(stages: Tensor, listed: int, count: int) -> Tensor:
    """Tell (B, S, V + N) what may come next in each stage (B, S), where places need not be in order.

    Args:
        stages: of what is said.
        listed: signs and words of the list (V).
        count: words of the prompt (N).
    """
    numbers = torch.arange(listed + count, device=stages.device)
    stage = stages.unsqueeze(2)
    places = (numbers >= listed) | ((numbers == DONE) & (stage == Stage.FIRST.value))
    return torch.where(stage == Stage.NEW.value, numbers >= CLOSE, places)


def losses(writer: Any, lower: Reader, lessons: Sequence[Lesson], pieces: Pieces) -> tuple[Tensor, Tensor]:
    """Give the loss of everything that some lessons say, and the stage in which it is said."""
    ids, members, said, stages = collate(lessons, pieces)
    mask, there = (ids != PAD).long(), (members.sum(2) > 0).float()
    with halved(ids.device.type):
        with torch.no_grad():
            states = lower.encoder(ids, attention_mask=mask)[0]
        odds = writer(writer.memory(states, mask, members), said[:, :-1], there)
    odds = odds.float().masked_fill(~may_follow(stages, len(writer.bias), members.shape[1]), NEVER)
    told = stages >= 0
    return F.cross_entropy(odds[told], said[:, 1:][told], reduction="none"), stages[told]


def groups(writer: Writer) -> Iterator[dict[str, object]]:
    """Give parameters with their share of the learning rate: the lower a layer that reads, the smaller its share."""
    old = ("layer.", "words.")
    yield {"params": [p for n, p in writer.named_parameters() if not n.startswith(old)], "share": 1.0}
    yield {"params": [writer.words.weight], "share": TABLE}
    for depth, layer in enumerate(reversed(writer.layer)):
        yield {"params": list(layer.parameters()), "share": SHARE * FALL**depth}


def first_table(words: Sequence[str], base: Any, pieces: Pieces) -> Tensor:
    """Give the first vectors of signs, by chance, and of words: the means of their pieces' in the sentence encoder."""
    vectors = base.embeddings.word_embeddings.weight.detach()
    signs = 0.03 * torch.randn(SIGNS, WIDTH)
    return torch.cat([signs, torch.stack([vectors[pieces(word)].mean(0) for word in words])])


@torch.no_grad()
def measured(writer: Any, lower: Reader, held: Sequence[Lesson], pieces: Pieces) -> str:
    """Tell the mean losses of lessons that are kept apart, by stage."""
    if not held:
        return "nothing"
    found = [losses(writer, lower, some, pieces) for some in cut(sorted(held, key=lambda lesson: len(lesson.words)))]
    loss, stages = (torch.cat(parts) for parts in zip(*found, strict=True))
    return ", ".join(f"{stage.name.lower()} {loss[stages == stage.value].mean():.3f}" for stage in Stage)


def ship(writer: Any, words: Sequence[str], out: Path = WEIGHTS) -> None:
    """Export the network in 8 bits and its words, and name them in the reader's facts."""
    ones = torch.ones(2, 5, dtype=torch.long)
    states, members = torch.zeros(2, 5, WIDTH), torch.full((2, 3, 5), 0.2)
    given = {"lower": states, "mask": ones, "members": members}
    axes = {"lower": ("rows", "pieces"), "mask": ("rows", "pieces"), "members": ("rows", "words", "pieces")}
    eight_bits.save(Reading(writer), given, "memory", axes, out / MEMORY)
    given, axes = {"memory": states, "said": ones}, {"memory": ("drafts", "words"), "said": ("drafts", "steps")}
    eight_bits.save(Saying(writer), given, "odds", axes, out / WRITING)
    (out / LISTED).write_text("\n".join(words) + "\n", encoding="utf-8")
    reader_ship.write_facts(out, read_facts(out)["calibration"])


def shipped(folder: Path = WEIGHTS) -> dict[str, Tensor]:
    """Give the weights of the writer that ships."""
    parts = (part for file in (MEMORY, WRITING) for part in eight_bits.weights(folder / file))
    found = {name.removeprefix("encoder.encoder.").removeprefix("writer."): value for name, value in parts}
    tables = {name: found[name].T.contiguous() for name in ("pos.weight", "kind.weight")}
    words, bias = found.pop("listed.weight"), found.pop("listed.bias")
    return found | tables | {"words.weight": words, "bias": bias}


def train(folder: Path, steps: int, minutes: float) -> None:
    """Train, or go on training, under `folder`, and ship.

    With the environment's ``SAFEGEN_START=shipped`` training begins with the writer that ships, and its words.
    """
    torch.manual_seed(0)
    goes_on = os.environ.get("SAFEGEN_START") == "shipped"
    base, tokenizer = encoder()
    pieces = Pieces(tokenizer)
    reader = Reader(base, len(recipes.known()))
    reader.load_state_dict(reader_ship.weights(WEIGHTS / "reader.onnx"), strict=False)
    lessons = Lessons((WEIGHTS / LISTED).read_text(encoding="utf-8").splitlines() if goes_on else None)
    writer = Writer(reader, first_table(lessons.words, base, pieces))
    if goes_on:
        writer.load_state_dict(shipped())
    reader.encoder.encoder.layer = reader.encoder.encoder.layer[: reader_ship.LOWER]
    reader.eval().requires_grad_(False).to(device())
    writer.to(device())
    run = Progress(writer, folder, steps, PEAK, minutes, decay=0.998, groups=list(groups(writer)))
    print(f"writing from step {run.step}; {len(lessons.hand)} by hand, {len(lessons.checked)} found right,"
          f" {len(lessons.held)} apart, {len(lessons.words)} words", flush=True)  # fmt: skip
    batches = lessons.batches(lambda: run.phase, run.step)
    total = 0.0
    for step in run:
        writer.train()
        loss = losses(writer, reader, next(batches), pieces)[0].mean()
        total += loss.item()
        run.update(loss)
        if step % 100 == 99:
            print(f"writing {step + 1} loss {total / 100:.4f}", flush=True)
            total = 0.0
        if step % EVERY == EVERY - 1:
            print(f"writing apart: {measured(run.average, reader, lessons.held, pieces)}", flush=True)
    print(f"writing apart: {measured(run.average, reader, lessons.held, pieces)}", flush=True)
    ship(run.average, lessons.words)
