"""Files that add to a model, made of seeded numbers; and miniatures that they were added to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from safegen.models import adapters
from tests.helpers import miniatures

ATTENTION = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape) + shape[0]))


def lora(folder: Path, *layers: tuple[str, int, int], rank: int = 2) -> Path:
    """A file in diffusers' own layout: per layer its name, and the widths of what goes in and out."""
    tensors = {}
    for name, wide, out in layers:
        tensors |= {f"{name}.lora_A.weight": numbers(rank, wide), f"{name}.lora_B.weight": numbers(out, rank)}
    path = folder / "style.safetensors"
    save_file(tensors, path)
    return path


def added(name: str, embeddings: Any = (), loras: Any = ()) -> Any:
    pipe = miniatures.BUILDERS[name]()
    pipe.set_progress_bar_config(disable=True)
    adapters.add(pipe, adapters.list_additions(embeddings, loras))
    return pipe
