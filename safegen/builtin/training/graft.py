"""The shipped denoiser, put on a text encoder that was taught further: what it knows of pictures is kept.

The text reaches a denoiser by cross-attention, and pooled. Cross-attention is composed with the linear map that brings
the new states nearest to the shipped ones. Then its keys and values learn to answer every name, and every phrase that
surely means a thing, as the shipped denoiser answers the thing's first name: the queries are its own, recorded as it
looks at noisy pictures. That is many times cheaper than to learn names by drawing. The pooled text learns the same.
Training goes on from there.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor, nn
from torch.nn import functional as F

from safegen.builtin import world
from safegen.builtin.training import causal, denoiser
from safegen.builtin.training.autoencoder import SHIPPED, to_tensor, trained
from safegen.builtin.training.checkpointing import Progress, device
from safegen.builtin.training.meanings import nicknames

SCENES = 6_000  # pictures at which the shipped denoiser is watched
SAID = 6  # captions of each: one by first names, the others by any name
ALIGNED = 2_000  # captions that the map of states is fitted on
LOOKED, BATCH, RIDGE = 64, 48, 1e-3  # pictures watched at once, pictures a step


def twins(rng: random.Random, more: Mapping[str, Sequence[str]]) -> tuple[world.Scene, list[str]]:
    """Draw a scene; give it with `SAID` captions, of which the first has only first names."""
    plain = world.sample(rng, plain=1.0)
    things = list(plain.things)
    said = [world.compose(things, rng, plain.ground, plain=0.15, more=more).caption for _ in range(SAID - 1)]
    return plain, [plain.caption, *said]


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


def crossings(model: UNet2DConditionModel) -> list[Attention]:
    """List the places where the text enters by attention."""
    return [module for name, module in model.named_modules() if name.endswith("attn2")]


@dataclass(frozen=True)
class Answers:
    """Inputs and outputs of a denoiser's cross-attention, and the pooled text, at N noisy pictures.

    Attributes:
        asked: of every cross-attention, its input (N, Q, C).
        told: of every cross-attention, its output (N, Q, C).
        pooled: (N, E) the pooled text.
    """

    asked: list[Tensor]
    told: list[Tensor]
    pooled: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, model: UNet2DConditionModel, runs: Path, scenes: Sequence[world.Scene], states: Tensor) -> Answers:
        """Record a denoiser on noisy pictures of scenes, with the text states (N, 77, D) of their captions."""
        vae, noising = trained(runs), denoiser.scheduler()
        seen: list[list[tuple[Tensor, Tensor]]] = [[] for _ in crossings(model)]

        def keep(place: int) -> Any:
            def hook(_: nn.Module, given: tuple[Tensor], told: Tensor) -> None:
                seen[place].append((given[0].half(), told.half()))

            return hook

        hooks = [module.register_forward_hook(keep(i)) for i, module in enumerate(crossings(model))]
        pooled, scale = [], 0.0
        for start in range(0, len(scenes), LOOKED):
            pixels = to_tensor([world.render(scene) for scene in scenes[start : start + LOOKED]])
            latents = vae.encode(pixels).latent_dist.mean
            scale = scale or float(1 / latents.std())
            t = torch.randint(0, noising.config.num_train_timesteps, (len(latents),))
            given = states[start : start + LOOKED].float()
            model(noising.add_noise(scale * latents, torch.randn_like(latents), t), t, given)
            pooled.append(model.add_embedding(given))
        for hook in hooks:
            hook.remove()
        asked, told = ([torch.cat([pair[side] for pair in place]) for place in seen] for side in (0, 1))
        return cls(asked, told, torch.cat(pooled))

    def apart(self, model: UNet2DConditionModel, rows: Tensor, states: Tensor) -> Tensor:
        """Measure how far another denoiser is from this at some pictures, with text states (B, 77, D); 0 is equal."""
        loss = F.mse_loss(model.add_embedding(states), self.pooled[rows].to(states.device)) / self.pooled.var()
        for module, asked, told in zip(crossings(model), self.asked, self.told, strict=True):
            wanted = told[rows].float().to(states.device)
            answer = module(asked[rows].float().to(states.device), encoder_hidden_states=states)
            loss = loss + F.mse_loss(answer, wanted) / wanted.var()
        return loss


def train(folder: Path, steps: int, minutes: float) -> None:
    """Graft, and write the denoiser where its training begins."""
    torch.manual_seed(0)
    teacher = UNet2DConditionModel.from_pretrained(SHIPPED / "unet", torch_dtype=torch.float32).requires_grad_(False)
    theirs, ours = causal.load(), causal.load(folder.parent)
    rng, more = random.Random("graft"), nicknames(folder.parent)
    print(f"graft: {sum(map(len, more.values()))} phrases that mean {len(more)} things", flush=True)
    pairs = [twins(rng, more) for _ in range(SCENES)]
    plain = [scene.caption for scene, _ in pairs]
    lengths = [len(ids) + 2 for ids in ours[0](plain[:ALIGNED]).input_ids]
    fit = fitted(
        *(
            [state[:length] for state, length in zip(causal.encode(*encoder, plain[:ALIGNED]), lengths, strict=True)]
            for encoder in (ours, theirs)
        )
    )
    answers = Answers.of(teacher, folder.parent, [scene for scene, _ in pairs], encoded(theirs, plain))
    said = torch.stack([encoded(ours, [captions[i] for _, captions in pairs]) for i in range(SAID)], dim=1)
    model = denoiser.build()
    model.load_state_dict(composed(dict(teacher.state_dict()), fit))
    model.set_attn_processor(AttnProcessor())  # the fused attention is slower on the CPU
    model.requires_grad_(False).add_embedding.requires_grad_(True)
    for module in crossings(model):
        module.to_k.requires_grad_(True)
        module.to_v.requires_grad_(True)
    run = Progress(model.to(device()), folder, steps, peak_lr=2e-3, minutes=minutes, decay=0.99)
    total = 0.0
    for step in run:
        rows = torch.randint(0, SCENES, (BATCH,))
        given = said[rows, torch.randint(0, SAID, (BATCH,))].float()
        given += denoiser.TEXT_NOISE * given.std() * torch.randn_like(given) * torch.rand(BATCH, 1, 1)
        loss = answers.apart(model, rows, given.to(device()))
        run.update(loss)
        total += loss.item()
        if step % 50 == 49:
            print(f"graft {step + 1} loss {total / 50:.4f}", flush=True)
            total = 0.0
    run.average.save_pretrained(folder / "model")


def encoded(encoder: tuple[Any, Any], captions: list[str]) -> Tensor:
    """Encode captions a few at a time: (N, 77, D), in half precision."""
    return torch.cat([causal.encode(*encoder, captions[i : i + 128]).half() for i in range(0, len(captions), 128)])
