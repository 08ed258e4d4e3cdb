"""How much a call puts through a family's text encoders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from safegen.conditioning import Conditioning
from safegen.families import Family


def counted(family: Family, call: Callable[[], Conditioning]) -> tuple[Conditioning, int]:
    """What a call encodes, and the positions that went through the encoders for it."""
    count: list[int] = []

    def embedded(_module: Any, _ids: Any, states: torch.Tensor) -> None:
        count.append(len(states.flatten(0, -2)))

    handles = [
        module.register_forward_hook(embedded)
        for encoder in {output.encoder for output in family.outputs}
        for module in encoder.modules()
        if isinstance(module, torch.nn.Embedding)
        and module.weight.shape[0] == encoder.get_input_embeddings().weight.shape[0]
    ]
    try:
        return call(), sum(count)
    finally:
        for handle in handles:
            handle.remove()
