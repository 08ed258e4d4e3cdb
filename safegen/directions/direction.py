"""The direction file: what one concept looks like in one output of one text encoder, as a value.

It is a `.safetensors` file, never pickle. It holds benign statistics and a basis per position class, and the
classifier, the verifier and their calibration for the whole prompt. One metadata key, `safegen`, holds JSON. The file
belongs to one output of one encoder, not to a pipeline: every model that reads the same output shares it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safegen.conditioning import Position
from safegen.errors import DirectionError
from safegen.files import as_path, write_atomically

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = "safegen.direction/4"
# The classifier ("gate" in files) decides what is flagged. The verifier ("check") has the last word, on other features
# than the classifier's, so that a prompt made to pass the one need not pass the other. Leaving out the pads makes a
# classifier eight times cheaper (see attribution.py).
HEADS: Mapping[str, tuple[Position, ...]] = {
    "gate": (Position.START, Position.TOKEN, Position.END, Position.POOLED),
    "check": (Position.TOKEN, Position.PAD, Position.POOLED),
}
# A prompt is calibrated against benign prompts of like length: up to 8 word tokens, up to 16, or more.
BINS = (8, 16)
# Tensors stored in half precision; so are those of a learned method, whose names begin with the method's.
HALVED = ("basis", "dual", "gate", "check", "region_normals", "region_moves")
# Tensors whose last dimension is the encoder's width:
HEAD_TENSORS = ("gate", "gate_centre", "check", "check_centre")
WIDE = ("mean", "own", "basis", "dual", *HEAD_TENSORS, "region_mean", "region_normals", "region_moves")
CALIBRATION = (
    *("gate.bias", "gate.out", "gate.scale", "gate.quantiles", "gate.thresholds"),
    *("check.bias", "check.out", "check.scale", "check.thresholds"),
)
TEXTS = ("concept", "method", "encoder", "output", "fingerprint", "recipe_sha256")
NUMBERS = ("width", "word_threshold")
REQUIRED = (*TEXTS, *NUMBERS, "threshold", "calibration")


@dataclass(frozen=True)
class Direction:
    """One concept in the space of one encoder's output.

    Attributes:
        tensors: flat names ``class.part``: heads `gate` and `check` (H, D), `_centre` (D,), `own` (D,)
            with `own_scale` (2,) and, in standard deviations, `own_quantiles` (Q,), clamp `mean` (D,),
            `basis` and `dual` (R, D), `floor` and `ceiling` (R,); half-spaces `region_mean` (D,),
            `region_normals` and `region_moves` (S, D) and `region_borders` (S,); network `es.*`; per
            head `bias` and `out` (H,) and, for each bin of lengths, `scale` (3, 2), `thresholds` (3,) in
            standard deviations and `quantiles` (3, Q). See `safegen.learning.contrastive`.
        info: the JSON metadata.
        sha256: the file's hash, empty for a direction that was never saved.
    """

    tensors: Mapping[str, Tensor]
    info: Mapping[str, Any]
    sha256: str = field(default="", compare=False)

    @classmethod
    def load(cls, path: Path) -> Direction:
        """Read and verify a direction file.

        Raises:
            DirectionError: the file is missing, is not safetensors, has another schema, is incomplete, or has a tensor
                of a wrong shape or with numbers that are not finite.
        """
        path = as_path(path)
        relearn = "Learn it again: safegen directions learn CONCEPT"
        tensors, metadata, digest = read_tensors(path, relearn)
        info = _parse(metadata, path, relearn)
        if missing := [name for name in _needed(tensors) if name not in tensors]:
            raise DirectionError(f"{path.name} lacks the tensors {', '.join(missing)}", relearn)
        check_finite(tensors, path, relearn)
        for name, tensor in tensors.items():
            width = info["width"]
            if not _is_of_method(name) and name.rsplit(".", 1)[-1] in WIDE and tensor.shape[-1] != width:
                raise DirectionError(f"{path.name}: {name!r} has width {tensor.shape[-1]}, expected {width}", relearn)
        return cls({k: v.float() for k, v in tensors.items()}, info, digest)

    @property
    def concept(self) -> str:
        return str(self.info["concept"])

    @property
    def owner(self) -> str:
        """The concept."""
        return self.concept

    @property
    def file_name(self) -> str:
        return f"{self.stem}.safetensors"

    @property
    def stem(self) -> str:
        """The file's name without its ending: the encoder's kind and the start of its fingerprint."""
        return f"{self.info['encoder']}-{self.info['fingerprint'][:8]}"

    def figures(self, method: str = "held_out") -> str:
        """Say in one line how good it is: its held-out figures, and what they were measured on."""
        told = ", ".join(f"{name} {value:.4g}" for name, value in self.info[method].items())
        of = self.info.get(f"{method}_of")  # files of earlier versions do not say
        return f"held out ({of}): {told}" if of else f"held out: {told}"

    def extended(
        self, method: str, tensors: Mapping[str, Tensor], figures: Mapping[str, float], of: str = ""
    ) -> Direction:
        """Add what another method learned, and its held-out figures; `of` says what these were measured on."""
        info = {**self.info, method: dict(figures), **({f"{method}_of": of} if of else {})}
        return Direction({**self.tensors, **tensors}, info)

    def save(self, path: Path) -> None:
        """Write the file under a temporary name and move it into place."""
        from safetensors.torch import save

        tensors = {k: round_tensor(k, v).contiguous().cpu() for k, v in self.tensors.items()}
        metadata = {"safegen": json.dumps({"schema": SCHEMA, **self.info}, sort_keys=True)}
        write_atomically(as_path(path), save(tensors, metadata))


def round_tensor(name: str, tensor: Tensor) -> Tensor:
    """Round a tensor to the precision that its file has."""
    halved = name.rsplit(".", 1)[-1] in HALVED or _is_of_method(name)
    return tensor.half() if halved else tensor


def _is_of_method(name: str) -> bool:
    """Tell whether a tensor belongs to a learned method, not to a position class or a head."""
    return name.split(".", 1)[0] not in {*HEADS, *(position.name.lower() for position in Position)}


def _needed(tensors: Collection[str]) -> list[str]:
    """List the tensors without which a file would silently score less than it should.

    These are the calibration of the heads and of the token probes; and the weights and centre of both heads, for every
    position class that a head sees and the file has. A file without a pooled class must have one of tokens.
    """
    classes = {p for p in Position if any(name.startswith(f"{p.name.lower()}.") for name in tensors)}
    classes |= set() if Position.POOLED in classes else {Position.TOKEN}
    heads = [f"{p.name.lower()}.{head}" for head, seen in HEADS.items() for p in seen if p in classes]
    own = [f"{name}{part}" for name in tensors if name.endswith(".own") for part in ("_scale", "_quantiles")]
    return [*CALIBRATION, *own, *(f"{head}{half}" for head in heads for half in ("", "_centre"))]


def read_tensors(path: Path, hint: str) -> tuple[dict[str, Tensor], str | None, str]:
    """Read a safetensors file: its tensors, our metadata and its hash; nothing in such a file can be run.

    Raises:
        DirectionError: the file is missing, or is not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise DirectionError(f"no direction file {os.fspath(path)}", hint) from error
    except (SafetensorError, OSError) as error:
        raise DirectionError(f"{path.name} is not a safetensors file: {error}", hint) from error
    return tensors, metadata.get("safegen"), digest


def schema_of(path: Path) -> str:
    """Give the schema that a file says it has; one that is damaged counts as a direction, which says what is wrong."""
    try:
        found = json.loads(read_tensors(as_path(path), "")[1] or "{}")
        return str(found.get("schema", SCHEMA))
    except (DirectionError, ValueError, AttributeError):
        return SCHEMA


def check_finite(tensors: Mapping[str, Tensor], path: Path, hint: str) -> None:
    """Check that tensors are finite numbers.

    Raises:
        DirectionError: one is not.
    """
    import torch

    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise DirectionError(f"{path.name}: tensor {name!r} is not finite numbers", hint)


def parse_info(
    text: str | None, path: Path, hint: str, schema: str, texts: Collection[str], needed: Collection[str]
) -> dict[str, Any]:
    """Read the metadata of a file of some schema.

    Raises:
        DirectionError: they are not JSON, are of another schema, lack something that is needed, or have something else
            in the place of a text.
    """
    if text is None:
        raise DirectionError(f"{path.name} is a safetensors file, but not a direction", hint)
    try:
        info = json.loads(text)
    except ValueError as error:
        raise DirectionError(f"{path.name}: its metadata is not JSON", hint) from error
    if not isinstance(info, dict) or info.get("schema") != schema:
        found = info.get("schema") if isinstance(info, dict) else None
        raise DirectionError(f"{path.name} has schema {found!r}, this version reads {schema!r}", hint)
    missing = [key for key in needed if key not in info]
    if missing:
        raise DirectionError(f"{path.name} lacks {', '.join(missing)}", hint)
    if wrong := [key for key in texts if not isinstance(info[key], str)]:
        raise wrong_type(path, wrong, hint)
    info.pop("schema")
    return info


def wrong_type(path: Path, keys: Collection[str], hint: str) -> DirectionError:
    """Make the error for metadata of a wrong type."""
    return DirectionError(f"{path.name}: {', '.join(keys)} in its metadata is of the wrong type", hint)


def _parse(text: str | None, path: Path, hint: str) -> dict[str, Any]:
    info = parse_info(text, path, hint, SCHEMA, TEXTS, REQUIRED)
    if wrong := [key for key in NUMBERS if not isinstance(info[key], (int, float))]:
        raise wrong_type(path, wrong, hint)
    return info
