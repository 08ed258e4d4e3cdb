"""The former edition's denoiser, put on the causal text encoder: what it knows of pictures is kept.

Cross-attention is composed
with the linear map that brings the causal states nearest to the former ones; the pooled text learns to say what it
said before, of captions and of everyday English. Training goes on from there.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional as F
from transformers import BertModel, BertTokenizerFast

from safegen.builtin import world
from safegen.builtin.training import causal, denoiser, former
from safegen.builtin.training.checkpointing import Progress, device, halved
from safegen.prompts import datasets

SCENES, EVERYDAY = 12_000, 3_000  # captions of the world and everyday ones that both encoders read
ALIGNED = 2_000  # captions that the map of states is fitted on
BATCH, RIDGE, WINDOW = 128, 1e-2, 64


def teachers() -> tuple[UNet2DConditionModel, BertTokenizerFast, BertModel]:
    """Load the former denoiser and its text encoder."""
    unet = UNet2DConditionModel.from_pretrained(former.part("unet"), torch_dtype=torch.float32)
    encoder = BertModel.from_pretrained(former.part("text_encoder"), dtype=torch.float32, add_pooling_layer=False)
    tokenizer = BertTokenizerFast.from_pretrained(former.part("tokenizer"))
    return unet.eval().requires_grad_(False), tokenizer, encoder.eval()


@torch.no_grad()
def read(tokenizer: Any, encoder: BertModel, texts: list[str]) -> tuple[Any, Tensor]:
    """Encode texts as the former pipeline did: tokens and states (B, 64, 384)."""
    tokens = tokenizer(texts, padding="max_length", max_length=WINDOW, truncation=True, return_tensors="pt")
    with halved("cpu"):
        return tokens, encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0].float()


def aligned(texts: list[str], ours: tuple[Any, Any], theirs: tuple[Any, Any]) -> tuple[Tensor, Tensor]:
    """Pair the states of the same words, starts, ends and pads in both encoders: (N, 256), (N, 384)."""
    left, right = [], []
    for text in texts:
        tokens, states = read(*theirs, [text])
        ids, mine = ours[0](text)["input_ids"], causal.encode(*ours, [text])[0]
        pieces = ours[0].convert_ids_to_tokens(ids)
        words = [i for i, piece in enumerate(pieces) if piece.endswith("</w>")]
        owners = tokens.word_ids(0)
        lasts = [max(i for i, o in enumerate(owners) if o == w) for w in sorted({o for o in owners if o is not None})]
        if len(words) != len(lasts):
            continue
        end = int(tokens.attention_mask.sum())
        left += [mine[[0, *words, len(ids) - 1, len(ids) + 3, 70]]]
        right += [states[0][[0, *lasts, end - 1, end + 3, 60]]]
    return torch.cat(left), torch.cat(right)


def composed(weights: dict[str, Tensor], fit: Tensor) -> dict[str, Tensor]:
    """Put the map (256, 384) in front of every key and value that comes from the text."""
    text = [k for k in weights if k.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))]
    return {k: v @ fit.T if k in text else v for k, v in weights.items()}


def train(folder: Path, steps: int, minutes: float) -> None:
    """Graft, and write the denoiser where its training begins."""
    torch.manual_seed(0)
    teacher, tokenizer, encoder = teachers()
    theirs = (tokenizer, encoder)
    ours = causal.load(folder.parent)
    rng = random.Random("graft")
    if not (data := os.environ.get("SAFEGEN_DATA")):
        raise SystemExit("set SAFEGEN_DATA to the folder of the prompt sets")
    captions = datasets.read(Path(data) / "coco_captions_8k.csv")
    everyday = [entry.prompt for entry in captions if not entry.is_validation]
    scenes = [world.sample(rng).caption for _ in range(SCENES)]
    texts = [*scenes, *(c for c in everyday[:EVERYDAY])]
    left, right = aligned(scenes[:ALIGNED], ours, theirs)
    gram = left.T @ left
    gram += RIDGE * gram.trace() / len(gram) * torch.eye(len(gram))
    fit = torch.linalg.solve(gram, left.T @ right)
    print(f"graft: {len(left)} states, error {float(((left @ fit - right) ** 2).sum() / (right**2).sum()):.3f}")
    model = denoiser.build()
    kept = {k: v for k, v in composed(dict(teacher.state_dict()), fit).items() if not k.startswith("add_embedding")}
    model.load_state_dict(model.state_dict() | kept)
    wanted = torch.cat([teacher.add_embedding(read(*theirs, texts[i : i + 128])[1]) for i in range(0, len(texts), 128)])
    states = torch.cat([causal.encode(*ours, texts[i : i + 128]).half() for i in range(0, len(texts), 128)])
    pooled = model.add_embedding.to(device())
    run = Progress(pooled, folder, steps, peak_lr=2e-3, minutes=minutes, decay=0.99)
    for step in run:
        rows = torch.randint(0, len(texts), (BATCH,))
        given = states[rows].float()
        given += denoiser.TEXT_NOISE * given.std() * torch.randn_like(given) * torch.rand(BATCH, 1, 1)
        loss = F.mse_loss(pooled(given.to(device())), wanted[rows].to(device())) / wanted.var()
        run.update(loss)
        if step % 50 == 0:
            print(f"graft {step} loss {loss.item():.4f}", flush=True)
    model.add_embedding.load_state_dict(run.average.state_dict())
    model.save_pretrained(folder / "model")
    (folder / "focus.json").write_text(json.dumps([label for label in world.things() if label not in former.labels()]))
