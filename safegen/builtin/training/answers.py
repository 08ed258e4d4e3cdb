"""A record of a denoiser's cross-attention at noisy pictures: the goal for a text encoder whose states have changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn import functional as F

from safegen.builtin import world
from safegen.builtin.training import denoiser
from safegen.builtin.training.autoencoder import to_tensor, trained
from safegen.builtin.training.checkpointing import device

LOOKED = 64  # pictures watched at once


def crossings(model: UNet2DConditionModel) -> list[Attention]:
    """List the places where the text enters by attention."""
    return [module for name, module in model.named_modules() if name.endswith("attn2")]


@dataclass(frozen=True)
class Answers:
    """Inputs and outputs of a denoiser's cross-attention, and the pooled text, at N noisy pictures.

    Attributes:
        asked: of every cross-attention, its input (N, Q, C), in half precision.
        told: of every cross-attention, its output (N, Q, C), in half precision.
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
        model.to(device())
        seen: list[list[tuple[Tensor, Tensor]]] = [[] for _ in crossings(model)]

        def keep(place: int) -> Any:
            def hook(_: nn.Module, given: tuple[Tensor], told: Tensor) -> None:
                seen[place].append((given[0].half().cpu(), told.half().cpu()))

            return hook

        hooks = [module.register_forward_hook(keep(i)) for i, module in enumerate(crossings(model))]
        pooled, scale = [], 0.0
        for start in range(0, len(scenes), LOOKED):
            pixels = to_tensor([world.render(scene) for scene in scenes[start : start + LOOKED]]).to(device())
            latents = vae.encode(pixels).latent_dist.mean
            scale = scale or float(1 / latents.std())
            t = torch.randint(0, noising.config.num_train_timesteps, (len(latents),), device=device())
            given = states[start : start + LOOKED].float().to(device())
            model(noising.add_noise(scale * latents, torch.randn_like(latents), t), t, given)
            pooled.append(model.add_embedding(given).cpu())
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
