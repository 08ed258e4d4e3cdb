"""A file of unfinished learning from pictures: the pictures and how far it is, so that work can go on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from safegen.directions.direction import read_tensors
from safegen.errors import DirectionError
from safegen.files import write_atomically
from safegen.learning.denoising import Pictures

PARTS = ("latents", "times", "inputs")  # of pictures
MOMENTS = ("exp_avg", "exp_avg_sq")  # Adam's, by its own names
LEARNED = "learned."  # begins the names of what is learned


@dataclass
class Unfinished:
    """The finished part of the work.

    Attributes:
        pictures: the batches that are drawn.
        learned: what is learned as far as it is, and the optimizer's moments, by name; empty before the first step.
        step: steps of learning that are done.
    """

    pictures: list[Pictures]
    learned: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0

    @classmethod
    def load(cls, path: Path | None, identity: str) -> Unfinished:
        """Read what an interrupted run has done; nothing where it was another run, or the file is damaged."""
        if path is None or not path.is_file():
            return cls([])
        try:
            tensors, text, _ = read_tensors(path, "")
            info = json.loads(text or "{}")
        except (DirectionError, ValueError):
            return cls([])
        if info.get("identity") != identity:
            return cls([])
        pictures = [Pictures(*(tensors[f"{i}.{name}"] for name in PARTS)) for i in range(info["batches"])]
        learned = {name.removeprefix(LEARNED): value for name, value in tensors.items() if name.startswith(LEARNED)}
        return cls(pictures, learned, info["step"] if learned else 0)

    def save(self, path: Path | None, identity: str) -> None:
        """Save what is done; nothing without a path."""
        if path is None:
            return
        from safetensors.torch import save

        tensors = {
            f"{i}.{name}": getattr(one, name).contiguous().cpu()
            for i, one in enumerate(self.pictures)
            for name in PARTS
        }
        tensors |= {f"{LEARNED}{name}": value.contiguous().cpu() for name, value in self.learned.items()}
        info = json.dumps({"identity": identity, "step": self.step, "batches": len(self.pictures)})
        write_atomically(path, save(tensors, {"safegen": info}))
