"""The text encoder: small, causal, of CLIP's own class; the former edition's teaches it to place harm as CLIP does.

A causal state knows only what stands before it, so the sentence ends up in the end token and in every pad
behind it. The pupil learns through linear maps that are thrown away afterwards. At each word's last token it
learns the teacher's state of that word. In the mean of its words, in the end and in the pads it learns the
teacher's sentence. In all of these places it also learns what the former edition's directions read in the
teacher's states, because those states are many times wider than the part that counts here.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizerFast

from safegen.builtin.training.autoencoder import SHIPPED
from safegen.builtin.training.causal_data import Lessons, Teacher, mean_word, texts
from safegen.builtin.training.checkpointing import Progress, device, halved
from safegen.directions import recipes
from safegen.learning.linear import whitening

START, END = "<|startoftext|>", "<|endoftext|>"
VOCABULARY, WIDTH, LAYERS, HEADS, INNER, WINDOW = 7_000, 256, 4, 4, 768, 77
KINDS = len(recipes.known())  # kinds of harm, the last columns of what is learned
TOKENS = 1_536  # tokens of a batch, pads included
DRAWN = 512  # texts drawn at once; a batch takes some of like length
HARM = 4.0  # weight of what the teacher's directions read, beside its states
FULL = 4  # one batch in this many has pads up to the window's end, as a pipeline fills it


def tokenizer_for(corpus: Iterable[str]) -> CLIPTokenizerFast:
    """Learn byte-level pairs, merged as often as `VOCABULARY` allows, in CLIP's own form."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    blank = CLIPTokenizerFast(vocab={START: 0, END: 1}, merges=[])
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer, learner.pre_tokenizer = (
        blank.backend_tokenizer.normalizer,
        blank.backend_tokenizer.pre_tokenizer,
    )
    room = VOCABULARY - 2 * len(letters) - 2
    learner.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=room + 2 * len(letters), initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False
        ),
    )
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]][:room]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges), START, END]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    return CLIPTokenizerFast(vocab=vocab, merges=merges, model_max_length=WINDOW)


class Pupil(nn.Module):
    """The encoder with the linear maps through which it is taught."""

    def __init__(self, tokenizer: CLIPTokenizerFast, teacher: Teacher | None = None) -> None:
        super().__init__()
        config = CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=INNER,
            projection_dim=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            max_position_embeddings=WINDOW,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        config._attn_implementation = "eager"  # the fused attention's bf16 backward is slow on the CPU
        self.encoder = CLIPTextModel(config)
        self.words = nn.Linear(WIDTH, 384 + KINDS)
        self.mean, self.end, self.pad = (nn.Linear(WIDTH, 768 + KINDS) for _ in range(3))
        if teacher is not None:
            table = self.encoder.get_input_embeddings().weight
            table.data.copy_(meanings(tokenizer, teacher) * table.std())

    def forward(self, ids: Tensor) -> Tensor:
        """Turn tokens (B, T) into states (B, T, D)."""
        with halved(ids.device.type):
            states: Tensor = self.encoder(ids)[0]
        return states.float()


def meanings(tokenizer: CLIPTokenizerFast, teacher: Teacher) -> Tensor:
    """Read the teacher's state of every token alone (V, D), in its leading directions.

    The pupil's table begins with them and soon unlearns them.
    """
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    states = torch.stack([mean_word(read) for read, _ in teacher.read([p.removesuffix("</w>") for p in pieces])])
    mean, white, _ = whitening(states)
    whitened = (states - mean) @ white
    leading = torch.linalg.svd(whitened, full_matrices=False)[2][:WIDTH]
    return torch.mm(whitened, leading.T)


def batch(lessons: Lessons, step: int, end: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw some texts of like length: rows (B,), tokens (B, T) filled up with pads, lengths (B,)."""
    rng = random.Random(step)
    rows = torch.tensor([rng.randrange(len(lessons)) for _ in range(DRAWN)])
    length = WINDOW
    if step % FULL:
        lengths = lessons.starts[rows + 1] - lessons.starts[rows]
        longest = rng.randrange(DRAWN)
        rows = rows[lengths.argsort()[: longest + 1].flip(0)]
        length = min(int(lengths.sort().values[longest]) + rng.randint(0, 3), WINDOW)
    rows = rows[: TOKENS // length]
    starts, stops = lessons.starts[rows], lessons.starts[rows + 1]
    ids = torch.full((len(rows), length), end)
    for row, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
        ids[row, : stop - start] = lessons.ids[start:stop]
    return rows, ids, stops - starts


def loss_of(pupil: Pupil, lessons: Lessons, step: int, end: int) -> Tensor:
    """Measure how far words, their mean, the end and the pads are from what the teacher says."""
    rows, ids, lengths = batch(lessons, step, end)
    where = device()
    states, whole = pupil(ids.to(where)), lessons.whole[rows].float().to(where)
    at = torch.arange(ids.shape[1]).expand_as(ids)
    spelled, pads = (at > 0) & (at < lengths[:, None] - 1), at >= lengths[:, None]
    means = (states * spelled.to(where).unsqueeze(-1)).sum(1) / (lengths - 2).clamp(min=1).to(where).unsqueeze(-1)
    ends = states[torch.arange(len(rows)), lengths - 1]
    firsts, counts = lessons.firsts[rows], lessons.firsts[rows + 1] - lessons.firsts[rows]
    owners = torch.arange(len(rows)).repeat_interleave(counts)
    told = torch.cat([torch.arange(f, f + c) for f, c in zip(firsts.tolist(), counts.tolist(), strict=True)])
    words = states[owners, lessons.places[told]]
    loss = distance(pupil.words(words), lessons.words[told].float().to(where))
    loss = loss + distance(pupil.mean(means), whole) + distance(pupil.end(ends), whole)
    if bool(pads.any()):
        behind = pads.nonzero()[:, 0]
        loss = loss + distance(pupil.pad(states[pads.to(where)]), whole[behind])
    return loss


def distance(found: Tensor, wanted: Tensor) -> Tensor:
    """Add the mean square and one minus the cosine of states, and the mean square of harm, `HARM` times."""
    states, theirs = found[:, :-KINDS], wanted[:, :-KINDS]
    apart = F.mse_loss(states, theirs) + 1 - F.cosine_similarity(states, theirs, dim=-1).mean()
    return apart + HARM * F.mse_loss(found[:, -KINDS:], wanted[:, -KINDS:])


def prepare(folder: Path) -> None:
    """Collect the texts, make a vocabulary if none ships, and let the teacher read the texts; this is slow on a CPU."""
    if not (data := os.environ.get("SAFEGEN_DATA")):
        raise SystemExit("set SAFEGEN_DATA to the folder of the prompt sets")
    teacher = Teacher.former()
    known = texts(Path(data), teacher.vocabulary)
    tokenizer = load()[0] if ships() else tokenizer_for(known)
    tokenizer.save_pretrained(folder / "tokenizer")
    Lessons.of(known, teacher, tokenizer).keep(folder / "lessons.safetensors")


def train(folder: Path, steps: int, minutes: float) -> None:
    """Train, or go on training, under `folder`; a new run begins with the shipped weights if there are any.

    ``SAFEGEN_DATA`` names the folder of the prompt sets.
    """
    if not (folder / "lessons.safetensors").exists():
        prepare(folder)
    tokenizer = CLIPTokenizerFast.from_pretrained(folder / "tokenizer")
    lessons = Lessons.kept(folder / "lessons.safetensors")
    torch.manual_seed(0)
    begun = (folder / "checkpoint.safetensors").exists()
    pupil = Pupil(tokenizer, None if begun or ships() else Teacher.former()).to(device())
    if ships() and not begun:
        pupil.encoder.load_state_dict(load()[1].state_dict())
    run = Progress(pupil, folder, steps, peak_lr=1e-3, minutes=minutes, decay=0.998)
    print(f"causal from step {run.step}, {len(lessons)} texts, {len(lessons.ids)} tokens", flush=True)
    total = 0.0
    for step in run:
        loss = loss_of(pupil, lessons, step, tokenizer.eos_token_id)
        run.update(loss)
        total += loss.item()
        if step % 50 == 49:
            print(f"causal {step + 1} loss {total / 50:.4f}", flush=True)
            total = 0.0
    run.average.encoder.half().save_pretrained(folder / "model")


def ships() -> bool:
    """Tell whether there is a shipped encoder to go on from."""
    return (SHIPPED / "text_encoder").is_dir()


def load(runs: Path | None = None, *, grafted: bool = True) -> tuple[CLIPTokenizerFast, CLIPTextModel]:
    """Load tokenizer and encoder, in single precision, frozen: of the last stage in these runs, else the shipped ones.

    Args:
        runs: the folder of all runs.
        grafted: whether `graft` counts as a stage; it comes behind `plain`, and that behind `causal`.
    """
    parts = ("graft/encoder", "plain/model", "causal/model")[not grafted :]
    taught = [] if runs is None else [runs / part for part in parts]
    encoder = next((part for part in taught if part.is_dir()), SHIPPED / "text_encoder")
    own = None if runs is None else runs / "causal" / "tokenizer"
    words = own if own is not None and own.is_dir() else SHIPPED / "tokenizer"
    tokenizer = CLIPTokenizerFast.from_pretrained(words)
    return tokenizer, CLIPTextModel.from_pretrained(encoder, dtype=torch.float32).eval().requires_grad_(False)


@torch.no_grad()
def encode(tokenizer: CLIPTokenizerFast, encoder: CLIPTextModel, captions: list[str]) -> Tensor:
    """Encode captions to hidden states (B, 77, 256), pads included, as the pipeline does."""
    tokens = tokenizer(captions, padding="max_length", max_length=WINDOW, truncation=True, return_tensors="pt")
    with halved(encoder.device.type):
        states: Tensor = encoder(tokens.input_ids.to(encoder.device))[0].float()
    return states
