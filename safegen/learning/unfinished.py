"""A latent direction in the making, as a file: its pictures and how far it is learned, so that work can go on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from safegen.directions.direction import read_tensors
from safegen.errors import DirectionError
from safegen.files import write_atomically
from safegen.learning.denoising import Pictures

PARTS = ("latents", "times", "inputs")  # of pictures
LEARNED = ("vector", "first", "second")


@dataclass
class Unfinished:
    """The finished part of the work on a latent direction.

    Attributes:
        pictures: the batches that are drawn.
        vector: as far as it is learned.
        moments: Adam's two.
        step: steps of learning that are done.
    """

    pictures: list[Pictures]
    vector: Tensor | None = None
    moments: tuple[Tensor, Tensor] | None = None
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
        if "vector" not in tensors:
            return cls(pictures)
        return cls(pictures, tensors["vector"], (tensors["first"], tensors["second"]), info["step"])

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
        if self.vector is not None and self.moments is not None:
            tensors |= dict(zip(LEARNED, (self.vector, *self.moments), strict=True))
        info = json.dumps({"identity": identity, "step": self.step, "batches": len(self.pictures)})
        write_atomically(path, save(tensors, {"safegen": info}))
