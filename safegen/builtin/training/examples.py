"""The additions that ship as examples, made from the embedded model's own numbers without drawing or training.

``python -m safegen.builtin.training examples`` takes some seconds. The inversion's word `<toy>` has the vectors of the
words "teddy bear". The LoRA `night` makes the ground black. It is a linear map of what the denoiser pools from a
scene's caption (`add_embedding`). It leads from this towards what is pooled from the same scene on a black background,
and goes beyond.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from safegen.builtin import world
from safegen.models import loading
from safegen.models.adapters import SHIPPED

WORD, MEANS = "<toy>", "teddy bear"
GROUND = "black"
LAYER = "add_embedding.proj"
RANK = 6
FORCE = 2.0  # times the change: the denoiser hears of the ground in cross-attention too, and that stays
RIDGE = 1e-2  # share of the states' variance: directions that few captions have are not followed far


def inversion(pipe: Any) -> dict[str, Tensor]:
    """Make two vectors (2, 256) for one word."""
    ids = pipe.tokenizer(MEANS, add_special_tokens=False)["input_ids"]
    return {WORD: pipe.text_encoder.get_input_embeddings().weight[ids].float().clone()}


def captions() -> tuple[list[str], list[str]]:
    """Make captions of scenes with any ground or none, and of the same scenes at night."""
    things = [world.with_article(thing.names[0]) for thing in world.things().values() if not thing.category][::4]
    pairs = [f"{one} and {other}" for one, other in zip(things, things[7:] + things[:7], strict=True)]
    grounds = ["", *(f" on a {name} background" for name in world.grounds())]
    named = [*things, *pairs]
    scenes = [(thing, ground) for i, thing in enumerate(named) for ground in (grounds[0], grounds[i % len(grounds)])]
    return [f"{thing}{ground}" for thing, ground in scenes], [f"{t} on a {GROUND} background" for t, _ in scenes]


def lora(pipe: Any) -> dict[str, Tensor]:
    """Fit the weights of one layer, in diffusers' own layout."""
    layer, pooled = pipe.unet.get_submodule(LAYER), []
    hook = layer.register_forward_pre_hook(lambda _, given: pooled.append(given[0].float()))
    for texts in captions():
        pipe.unet.add_embedding(pipe.encode_prompt(texts, pipe.device, 1, do_classifier_free_guidance=False)[0])
    hook.remove()
    day, night = pooled  # (N, 256) each
    gram = day.T @ day
    gram += RIDGE * gram.trace() / len(gram) * torch.eye(len(gram))
    change = FORCE * layer.weight.float() @ torch.linalg.solve(gram, day.T @ (night - day)).T
    left, sizes, right = torch.linalg.svd(change, full_matrices=False)
    root = sizes[:RANK].sqrt()
    weights = {"lora_A": root[:, None] * right[:RANK], "lora_B": left[:, :RANK] * root}
    return {f"unet.{LAYER}.{name}.weight": tensor.contiguous() for name, tensor in weights.items()}


@torch.no_grad()
def made() -> dict[str, dict[str, Tensor]]:
    """Make the tensors of every example, by name."""
    pipe = loading.load(offline=True, device="cpu")
    return {"toy": inversion(pipe), "night": lora(pipe)}


def train(_: Path, __: int, ___: float) -> None:
    """Write the examples where they ship."""
    for name, tensors in made().items():
        SHIPPED[name].parent.mkdir(exist_ok=True)
        save_file(tensors, SHIPPED[name], metadata={"format": "pt"})
