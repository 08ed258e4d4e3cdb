"""The latent direction: one vector at the bottleneck of one denoiser, as a value and as a file.

It is a `.safetensors` file, never pickle, with the one tensor `vector`. It belongs to the denoiser that it was learned
with, and says which by a fingerprint. It means a class of an attribute (`woman`), or that a concept is absent (`safe`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safegen.directions import of_denoiser
from safegen.directions.direction import check_finite, parse_info, read_tensors
from safegen.errors import DirectionError
from safegen.files import as_path, write_atomically

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = "safegen.latent/1"
SAFE = "safe"  # the meaning of the vector that keeps a concept out
FOLDER = "latent"  # beside a recipe, its latent directions
TEXTS = ("name", "meaning", "denoiser", "block", "fingerprint", "recipe_sha256")
NEEDED = (*TEXTS, "held_out", "sources")
# What a vector of use moves pictures of the way to those that the prompt itself would give. The weakest that ships goes
# 0.15 of it, and turns nearly all people that the judge sees.
LEAST_WAY = 0.1
RELEARN = "Learn it again: safegen directions learn NAME --method latent"


@dataclass(frozen=True)
class LatentDirection:
    """One vector at one denoiser's bottleneck.

    Attributes:
        vector: (D,), or (D, H, W) at a UNet's bottleneck for pictures of the model's own size.
        info: the JSON metadata: the name of the concept or attribute, what the vector means, the denoiser's kind, its
            block and fingerprint, the recipe's hash, held-out figures and sources.
        sha256: the file's hash, empty for a direction that was never saved.
    """

    vector: Tensor
    info: Mapping[str, Any]
    sha256: str = field(default="", compare=False)

    @classmethod
    def load(cls, path: Path) -> LatentDirection:
        """Read and verify a file.

        Raises:
            DirectionError: the file is missing, is not safetensors, has another schema, is incomplete, or its vector
                has a wrong shape or numbers that are not finite.
        """
        path = as_path(path)
        tensors, metadata, digest = read_tensors(path, RELEARN)
        info = parse_info(metadata, path, RELEARN, SCHEMA, TEXTS, NEEDED)
        if set(tensors) != {"vector"} or tensors["vector"].ndim not in (1, 3):
            found = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in sorted(tensors.items()))
            raise DirectionError(f"{path.name} should hold one vector, and holds {found or 'nothing'}", RELEARN)
        check_finite(tensors, path, RELEARN)
        return cls(tensors["vector"].float(), info, digest)

    @property
    def name(self) -> str:
        return str(self.info["name"])

    @property
    def owner(self) -> str:
        """The concept or the attribute."""
        return self.name

    @property
    def concept(self) -> str:
        """The attribute and its class, or the concept."""
        return self.name if self.meaning == SAFE else f"{self.name}, {self.meaning}"

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The file's tensors by name, as those of a `Direction`."""
        return {"vector": self.vector}

    @property
    def meaning(self) -> str:
        return str(self.info["meaning"])

    @property
    def file_name(self) -> str:
        """The meaning, the denoiser's kind and the start of its fingerprint."""
        return f"{self.meaning}-{self.info['denoiser']}-{self.info['fingerprint'][:8]}.safetensors"

    def figures(self) -> str:
        """Say in one line how good it is on pictures that it was not learned from."""
        return of_denoiser.figures(self.info)

    def save(self, path: Path) -> None:
        """Write the file under a temporary name and move it into place."""
        from safetensors.torch import save

        metadata = {"safegen": json.dumps({"schema": SCHEMA, **self.info}, sort_keys=True)}
        write_atomically(as_path(path), save({"vector": self.vector.float().contiguous().cpu()}, metadata))


def check_ready(direction: LatentDirection) -> None:
    """Check that a vector does something of what it means, on pictures that it was not learned from.

    Raises:
        DirectionError: it does too little, or nobody has measured it.
    """
    way = direction.info["held_out"].get("way_gone")
    if not isinstance(way, (int, float)) or not way >= LEAST_WAY:  # written so that NaN is poor, too
        raise DirectionError(
            f"the latent direction of {direction.concept} goes {way} of the way; under {LEAST_WAY} it is useless",
            "Fill its recipe with what this model can draw, or leave it out.",
        )


def cached_folder() -> Path:
    """Give the folder of latent directions in the cache."""
    return of_denoiser.cached_folder(SCHEMA)


def files(name: str, meaning: str, recipe_folder: Path | None) -> Iterator[Path]:
    """Find the files of a meaning: in the cache first, then beside the recipe."""
    return of_denoiser.find_files(name, meaning, cached_folder(), recipe_folder / FOLDER if recipe_folder else None)


def find(name: str, meaning: str, fingerprint: str, recipe_folder: Path | None) -> LatentDirection:
    """Find the vector of a meaning for a denoiser.

    Raises:
        DirectionError: there is none, there is one of another denoiser alone, or a file is corrupt.
    """
    learn = f"Learn it, with this --model and --lora: safegen directions learn {name} --method latent"
    what = f"latent direction of {name!r} ({meaning})"
    return of_denoiser.match(files(name, meaning, recipe_folder), LatentDirection.load, fingerprint, what, learn)


def find_or_none(name: str, meaning: str, fingerprint: str, recipe_folder: Path | None) -> LatentDirection | None:
    """Find the vector of a meaning for a denoiser, where there is a sound one."""
    with contextlib.suppress(DirectionError):
        return find(name, meaning, fingerprint, recipe_folder)
    return None
