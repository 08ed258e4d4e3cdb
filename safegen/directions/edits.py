"""The weight edit: changes of low rank to layers of one denoiser that keep a concept out, as a value and as a file.

It is a `.safetensors` file, never pickle, with two tensors for every layer: `NAME.up` (O, R) and `NAME.down` (R, D). It
belongs to the denoiser that it was learned with, and says which by a fingerprint.
"""

from __future__ import annotations

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

SCHEMA = "safegen.edit/1"
FOLDER = "edits"  # beside a recipe, its weight edits
TEXTS = ("concept", "method", "denoiser", "fingerprint", "recipe_sha256")
NEEDED = (*TEXTS, "held_out", "sources")
RELEARN = "Learn it again: safegen directions learn CONCEPT --method METHOD"
HALVES = (".up", ".down")


@dataclass(frozen=True)
class WeightEdit:
    """Changes to the weights of one denoiser.

    Attributes:
        tensors: by the layer's name and half, see the module.
        info: the JSON metadata: the concept, the method that learned it, the denoiser's kind and fingerprint, the
            recipe's hash, held-out figures and sources.
        sha256: the file's hash, empty for an edit that was never saved.
    """

    tensors: Mapping[str, Tensor]
    info: Mapping[str, Any]
    sha256: str = field(default="", compare=False)

    @classmethod
    def load(cls, path: Path) -> WeightEdit:
        """Read and verify a file.

        Raises:
            DirectionError: the file is missing, is not safetensors, has another schema, is incomplete, or has a tensor
                of a wrong shape or with numbers that are not finite.
        """
        path = as_path(path)
        tensors, metadata, digest = read_tensors(path, RELEARN)
        info = parse_info(metadata, path, RELEARN, SCHEMA, TEXTS, NEEDED)
        check_finite(tensors, path, RELEARN)
        edit = cls({name: tensor.float() for name, tensor in tensors.items()}, info, digest)
        names = {name.removesuffix(half) for name in tensors for half in HALVES}
        wrong = [n for n in edit.layers() if not _fit(tensors.get(f"{n}.up"), tensors.get(f"{n}.down"))]
        if wrong or not tensors or any(not name.endswith(HALVES) for name in tensors):
            raise DirectionError(f"{path.name} should hold two halves of every layer's change", RELEARN, sorted(names))
        return edit

    def layers(self) -> list[str]:
        """List the names of the layers."""
        return sorted({name.removesuffix(half) for name in self.tensors for half in HALVES if name.endswith(half)})

    @property
    def concept(self) -> str:
        return str(self.info["concept"])

    @property
    def owner(self) -> str:
        """The concept."""
        return self.concept

    @property
    def file_name(self) -> str:
        """The method, the denoiser's kind and the start of its fingerprint."""
        return f"{self.info['method']}-{self.info['denoiser']}-{self.info['fingerprint'][:8]}.safetensors"

    def figures(self) -> str:
        """Say in one line how good it is on recipe lines that it was not learned from."""
        return of_denoiser.figures(self.info)

    def save(self, path: Path) -> None:
        """Write the file, in half precision, under a temporary name and move it into place."""
        from safetensors.torch import save

        metadata = {"safegen": json.dumps({"schema": SCHEMA, **self.info}, sort_keys=True)}
        tensors = {name: tensor.half().contiguous().cpu() for name, tensor in self.tensors.items()}
        write_atomically(as_path(path), save(tensors, metadata))


def check_ready(edit: WeightEdit) -> None:
    """Check that a tuned edit lowers its loss on pictures that it was not learned from.

    Raises:
        DirectionError: it does not, or the loss is not finite.
    """
    held = edit.info["held_out"]
    before, after = held.get("loss_before"), held.get("loss")
    if before is not None and not (isinstance(after, (int, float)) and after < before):  # so that NaN is poor, too
        raise DirectionError(
            f"the weight edit of {edit.concept!r} by {edit.info['method']} has a loss of {after} on pictures kept "
            f"apart, and without it the loss is {before}",
            "Fill its recipe with what this model can draw, or take another method.",
        )


def _fit(up: Tensor | None, down: Tensor | None) -> bool:
    return up is not None and down is not None and up.ndim == down.ndim == 2 and up.shape[1] == down.shape[0]


def cached_folder() -> Path:
    """Give the folder of weight edits in the cache."""
    return of_denoiser.cached_folder(SCHEMA)


def files(concept: str, method: str, recipe_folder: Path | None) -> Iterator[Path]:
    """Find the files of a concept and a method: in the cache first, then beside the recipe."""
    return of_denoiser.find_files(concept, method, cached_folder(), recipe_folder / FOLDER if recipe_folder else None)


def find(concept: str, method: str, fingerprint: str, recipe_folder: Path | None) -> WeightEdit:
    """Find the edit of a concept for a denoiser.

    Raises:
        DirectionError: there is none, there is one of another denoiser alone, or a file is corrupt.
    """
    learn = f"Learn it, with this --model and --lora: safegen directions learn {concept} --method {method}"
    what = f"weight edit of {concept!r} by {method}"
    return of_denoiser.match(files(concept, method, recipe_folder), WeightEdit.load, fingerprint, what, learn)
