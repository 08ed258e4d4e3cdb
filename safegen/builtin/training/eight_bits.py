"""An ONNX network in 8 bits whose rows do not affect one another, and its weights as numbers again.

ONNX Runtime's own dynamic quantisation takes one scale for all activations of a batch, so a prompt's score depends
on the prompts beside it. Here every row of activations, every column of weights and every row of a table has its own
scale. Activations are unsigned about 128, weights signed: only for this pair are ONNX Runtime's products as fast as
in its own quantisation.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

EIGHT, SCALE = ".8", ".scale"  # endings behind the name of a weight
LEAST = 1e-9  # lowest scale, for rows of zeros
FLOAT = 1  # ONNX's number for the type
OPSET = 17


def quantised(model: ModelProto) -> ModelProto:
    """Put the products and tables of a network into 8 bits, named as torch names them; **changes `model`**."""
    from onnx import numpy_helper

    graph = model.graph
    arrays = {t.name: numpy_helper.to_array(t) for t in graph.initializer if t.data_type == FLOAT and len(t.dims) == 2}
    nodes: list[NodeProto] = []
    replaced: set[str] = set()
    rows: set[str] = set()  # activations that have their scale already
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in arrays:
            name = node.name.strip("/").removesuffix("/MatMul").replace("/", ".").replace("encoder.encoder.", "", 1)
            name = f"encoder.encoder.{name}.weight" if name.startswith("layer.") else f"{name}.weight"
            _store(graph, name, arrays[node.input[1]], axis=0)
            nodes += _product(node, name, fresh=node.input[0] not in rows)
            replaced.add(node.input[1])
            rows.add(node.input[0])
        elif node.op_type == "Gather" and node.input[0] in arrays:
            _store(graph, node.input[0], arrays[node.input[0]], axis=1)
            nodes += _lookup(node)
            replaced.add(node.input[0])
        else:
            nodes.append(node)
    constants = {"row.least": np.float32(LEAST), "row.step": np.float32(1 / 127), "row.zero": np.uint8(128)}
    kept = [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()]
    kept += [tensor for tensor in graph.initializer if tensor.name not in replaced]
    fresh = type(graph)(name=graph.name, input=graph.input, output=graph.output, initializer=kept, node=nodes)
    graph.CopyFrom(fresh)
    return model


def save(
    network: torch.nn.Module, given: Mapping[str, torch.Tensor], output: str, axes: Sequence[str], file: Path
) -> None:
    """Write a network as ONNX, in 8 bits.

    Args:
        network: it puts out one tensor, of which the first dimension is free.
        given: an example of everything that goes in, by its name.
        output: the name of what comes out.
        axes: the names of the dimensions of what goes in that are free, from the first one on.
        file: to be written.
    """
    import onnx

    free = dict(enumerate(axes))
    with tempfile.TemporaryDirectory() as folder:
        whole = str(Path(folder) / file.name)
        torch.onnx.export(
            network.float().cpu().eval(),
            tuple(given.values()),
            whole,
            input_names=[*given],
            output_names=[output],
            dynamic_axes={**dict.fromkeys(given, free), output: {0: axes[0]}},
            opset_version=OPSET,
            dynamo=False,
        )
        onnx.save(quantised(onnx.load(whole)), str(file))


def weights(file: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the weights of a network that `quantised` made, by torch's names, in torch's order of (out, in)."""
    import onnx
    from onnx import numpy_helper

    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(file)).graph.initializer}
    for key, array in tensors.items():
        if key.endswith(EIGHT):
            name = key.removesuffix(EIGHT)
            values = torch.from_numpy(array.astype(np.float32) * tensors[name + SCALE])
            yield name, values if "embeddings" in name else values.T.contiguous()
        elif key.endswith((".weight", ".bias")):
            yield key, torch.from_numpy(array.copy())
        elif key.endswith("_qkv_bias"):  # the fused attention of one layer
            prefix = f"encoder.encoder.layer.{key.split('_')[1]}.attention.self."
            for part, bias in zip(("query", "key", "value"), np.split(array, 3), strict=True):
                yield f"{prefix}{part}.bias", torch.from_numpy(bias.copy())


def _store(graph: GraphProto, name: str, array: NDArray[np.float32], axis: int) -> None:
    """Put a weight into the graph as 8-bit steps and their scales."""
    from onnx import numpy_helper

    scale = np.maximum(np.abs(array).max(axis, keepdims=True), LEAST).astype(np.float32) / 127
    steps = np.rint(array / scale).astype(np.int8)
    graph.initializer.append(numpy_helper.from_array(steps, name + EIGHT))
    graph.initializer.append(numpy_helper.from_array(scale, name + SCALE))


def _product(node: NodeProto, name: str, *, fresh: bool) -> Iterator[NodeProto]:
    """Yield the nodes of one product: rows to 8 bits if they are `fresh`, then the product, then both scales."""
    from onnx.helper import make_node

    x, y = node.input[0], node.output[0]
    if fresh:
        yield make_node("Abs", [x], [f"{x}.abs"])
        yield make_node("ReduceMax", [f"{x}.abs"], [f"{x}.max"], axes=[-1], keepdims=1)
        yield make_node("Max", [f"{x}.max", "row.least"], [f"{x}.row"])
        yield make_node("Div", [x, f"{x}.row"], [f"{x}.one"])
        yield make_node("QuantizeLinear", [f"{x}.one", "row.step", "row.zero"], [f"{x}.8"])
        yield make_node("Mul", [f"{x}.row", "row.step"], [f"{x}.scale"])
    yield make_node("MatMulInteger", [f"{x}.8", name + EIGHT, "row.zero"], [f"{y}.sum"])
    yield make_node("Cast", [f"{y}.sum"], [f"{y}.float"], to=FLOAT)
    yield make_node("Mul", [f"{y}.float", f"{x}.scale"], [f"{y}.rows"])
    yield make_node("Mul", [f"{y}.rows", name + SCALE], [y])


def _lookup(node: NodeProto) -> Iterator[NodeProto]:
    """Yield the nodes of one look-up: the row's steps and its scale."""
    from onnx.helper import make_node

    (table, rows), y = node.input, node.output[0]
    yield make_node("Gather", [table + EIGHT, rows], [f"{y}.steps"])
    yield make_node("Gather", [table + SCALE, rows], [f"{y}.scales"])
    yield make_node("Cast", [f"{y}.steps"], [f"{y}.whole"], to=FLOAT)
    yield make_node("Mul", [f"{y}.whole", f"{y}.scales"], [y])
