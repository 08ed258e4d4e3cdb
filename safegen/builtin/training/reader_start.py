"""The shipped reader as a place to begin: its 8-bit weights, as numbers that can be trained again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safegen.reader.model import WEIGHTS

Arrays = Mapping[str, NDArray[Any]]
PARTS = ("attention.output.dense", "intermediate.dense", "output.dense")  # of a layer, in the order of the file


def shipped(layers: int) -> dict[str, Tensor]:
    """Read the encoder and the head from what ships: part of a state of `reader.Reader`.

    What stays frozen is read too, so that the rest learns on what its own copy in 8 bits will stand on.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(WEIGHTS / "reader.onnx")).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    names = (name.removesuffix("_quantized") for name in arrays if name.endswith("_quantized"))
    products = iter([name for name in names if name.startswith("onnx::MatMul")])
    state = dict(_table(arrays))
    for depth in range(layers):
        state |= _layer(arrays, depth, products)
    for head in ("hidden", "out"):
        state[f"{head}.weight"] = _weight(arrays, next(products))
        state[f"{head}.bias"] = torch.from_numpy(arrays[f"{head}.bias"].copy())
    return state


def _table(arrays: Arrays) -> Iterator[tuple[str, Tensor]]:
    """Yield what is looked up or added before the first layer."""
    for name in [name.removesuffix("_quantized") for name in arrays if name.endswith("_quantized")]:
        if name.startswith("encoder.embeddings."):
            yield name, _weight(arrays, name).T


def _layer(arrays: Arrays, depth: int, products: Iterator[str]) -> Iterator[tuple[str, Tensor]]:
    """Name the weights of one layer as torch does, its fused attention taken apart."""
    prefix = f"encoder.encoder.layer.{depth}."
    for name in (name for name in arrays if name.startswith(prefix)):
        yield name, torch.from_numpy(arrays[name].copy())
    weights = _weight(arrays, f"Attention_{depth}_qkv_weight").chunk(3)
    biases = torch.from_numpy(arrays[f"Attention_{depth}_qkv_bias"].copy()).chunk(3)
    for part, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
        yield f"{prefix}attention.self.{part}.weight", weight
        yield f"{prefix}attention.self.{part}.bias", bias
    for part in PARTS:
        yield f"{prefix}{part}.weight", _weight(arrays, next(products))


def _weight(arrays: Arrays, name: str) -> Tensor:
    """Scale quantised weights back, (in, out) to torch's (out, in)."""
    steps = arrays[f"{name}_quantized"].astype(np.float32) - arrays[f"{name}_zero_point"].astype(np.float32)
    return torch.from_numpy(steps * arrays[f"{name}_scale"]).T.contiguous()
