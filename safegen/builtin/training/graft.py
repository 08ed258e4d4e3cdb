"""The shipped denoiser and the text encoder, taught together: what one knows of pictures, the other learns to ask for.

The text reaches a denoiser by cross-attention, and pooled. Cross-attention is composed with the linear map that brings
the states of an encoder that was taught on nearest to the shipped ones. Then the encoder, the keys and the values learn
to answer every name, and every phrase that surely means a thing, as the shipped denoiser answers the thing's first
name (`answers.py`). That is many times cheaper than to learn names by drawing. Keys and values are linear, so it is the
encoder that can make one thing of what lies between two. The pooled text learns the same. All that could be read off
the encoder's states before must still be there (`plain.forgotten`). The denoiser's training goes on from there.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from safegen.builtin import world
from safegen.builtin.training import causal, denoiser, plain
from safegen.builtin.training.answers import Answers, crossings
from safegen.builtin.training.autoencoder import SHIPPED
from safegen.builtin.training.causal_data import texts
from safegen.builtin.training.checkpointing import Progress, device
from safegen.builtin.training.meanings import Meanings, nicknames

SCENES = 6_000  # pictures at which the shipped denoiser is watched
ALIGNED = 2_000  # captions that the map of states is fitted on
BATCH = 48  # pictures a step
RIDGE = 1e-3  # of the linear map, as a share of the states' mean square
PEAK, ENCODER_SHARE = 2e-3, 0.25  # learning rate, and the encoder's share of it
FIRST = 0.15  # how often a caption calls a thing by its first name
KEEP = 4.0  # weight of the former states


class Graft(nn.Module):
    """The encoder, with the maps that tell what it has forgotten, and the denoiser's layers that read it."""

    def __init__(self, pupil: plain.Pupil, model: UNet2DConditionModel) -> None:
        super().__init__()
        self.pupil, self.model = pupil, model
        model.set_attn_processor(AttnProcessor())  # the fused attention is slower on the CPU
        model.requires_grad_(False).add_embedding.requires_grad_(True)
        for module in crossings(model):
            module.to_k.requires_grad_(True)
            module.to_v.requires_grad_(True)

    def groups(self) -> list[dict[str, Any]]:
        """Give the encoder a smaller learning rate than the maps that are thrown away and the layers that read it."""
        encoder = list(self.pupil.encoder.parameters())
        known = {id(p) for p in encoder}
        rest = [p for p in self.parameters() if p.requires_grad and id(p) not in known]
        return [{"params": encoder, "share": ENCODER_SHARE}, {"params": rest, "share": 1.0}]


def renamed(scene: world.Scene, rng: random.Random, more: Mapping[str, Sequence[str]]) -> str:
    """Write another caption of a scene, by any names of its things, that tells its ground if this one does.

    A scene with a person keeps its caption, so that what is said of people means what it did.
    """
    if any(thing.is_person for thing in scene.things):
        return scene.caption
    other = scene.caption
    while other == scene.caption or (scene.ground in other) != (scene.ground in scene.caption):
        other = world.compose(list(scene.things), rng, scene.ground, plain=FIRST, more=more).caption
    return other


def fitted(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
    """Fit the linear map (D, D) from our states (T, D) to theirs."""
    left, right = torch.cat(list(ours)), torch.cat(list(theirs))
    gram = left.T @ left
    gram += RIDGE * gram.trace() / len(gram) * torch.eye(len(gram))
    fit: Tensor = torch.linalg.solve(gram, left.T @ right)
    print(f"graft: {len(left)} states, error {float(((left @ fit - right) ** 2).sum() / (right**2).sum()):.3f}")
    return fit


def composed(weights: dict[str, Tensor], fit: Tensor) -> dict[str, Tensor]:
    """Put the map in front of every key and value that comes from the text."""
    text = [k for k in weights if k.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))]
    return {k: v @ fit.T if k in text else v for k, v in weights.items()}


def begun(runs: Path, teacher: UNet2DConditionModel, captions: list[str]) -> Graft:
    """Put the shipped denoiser on the encoder of these runs, by the linear map that fits best on captions."""
    theirs, ours = causal.load(), causal.load(runs, grafted=False)
    lengths = [len(ids) + 2 for ids in ours[0](captions).input_ids]
    states = (causal.encode(*encoder, captions) for encoder in (ours, theirs))
    told = ([state[:length] for state, length in zip(some, lengths, strict=True)] for some in states)
    model = denoiser.build()
    model.load_state_dict(composed(dict(teacher.state_dict()), fitted(*told)))
    return Graft(plain.Pupil(ours[1].requires_grad_(True)), model)


def train(folder: Path, steps: int, minutes: float) -> None:
    """Graft, and write encoder and denoiser; ``SAFEGEN_DATA`` names the folder of the prompt sets.

    Without a `plain` run it collects that stage's phrases itself; see `Meanings.kept`.
    """
    if not (data := os.environ.get("SAFEGEN_DATA")):
        raise SystemExit("set SAFEGEN_DATA to the folder of the prompt sets")
    english = [text for text in Meanings.kept(folder.parent / "plain").texts if text.isalpha()]
    torch.manual_seed(0)
    teacher = UNet2DConditionModel.from_pretrained(SHIPPED / "unet", torch_dtype=torch.float32).requires_grad_(False)
    rng, more = random.Random("graft"), nicknames(folder.parent)
    print(f"graft: {sum(map(len, more.values()))} phrases that mean {len(more)} things", flush=True)
    scenes = [world.sample(rng, plain=1.0) for _ in range(SCENES)]
    captions = [scene.caption for scene in scenes]
    tokenizer, former = causal.load()
    answers = Answers.of(teacher, folder.parent, scenes, encoded((tokenizer, former), captions))
    known = tokenizer(texts(Path(data), english), truncation=True).input_ids
    graft = begun(folder.parent, teacher, captions[:ALIGNED]).to(device())
    former = former.to(device())
    run = Progress(graft, folder, steps, PEAK, minutes, decay=0.995, groups=graft.groups())
    total = kept = 0.0
    for step in run:
        rng = random.Random(step)
        rows = torch.tensor([rng.randrange(SCENES) for _ in range(BATCH)])
        said = [renamed(scenes[row], rng, more) for row in rows.tolist()]
        states = graft.pupil(tokenizer(said, padding="max_length", truncation=True, return_tensors="pt").input_ids)
        states = states + denoiser.TEXT_NOISE * states.std().detach() * torch.randn_like(states) * torch.rand(
            BATCH, 1, 1, device=states.device
        )
        loss = answers.apart(graft.model, rows, states)
        ids = plain.batch(known, rng, tokenizer.pad_token_id).to(device())
        lost = plain.forgotten(graft.pupil, former, ids, tokenizer.eos_token_id)
        run.update(loss + KEEP * lost)
        total, kept = total + loss.item() / 50, kept + lost.item() / 50
        if step % 50 == 49:
            print(f"graft {step + 1} loss {total:.4f} forgotten {kept:.4f}", flush=True)
            total = kept = 0.0
    run.average.pupil.encoder.half().save_pretrained(folder / "encoder")
    run.average.model.save_pretrained(folder / "model")


def encoded(encoder: tuple[Any, Any], captions: list[str]) -> Tensor:
    """Encode captions a few at a time: (N, 77, D), in half precision."""
    return torch.cat([causal.encode(*encoder, captions[i : i + 128]).half() for i in range(0, len(captions), 128)])
