#!/usr/bin/env bash
# onnxruntime 1.22.1 (onnx 1.18.0): `quantize_dynamic`, as text encoders and prompt classifiers are shipped in 8 bits.
#
# What was expected: the rows of a batch are independent, as in the float model, so a text's output is the same alone
# and beside other texts, but for rounding of the last digits.
# What happens: activations are quantised with one scale for the whole tensor, batch included. A neighbour with larger
# activations makes the steps coarser for everybody: the same row, alone and beside such a neighbour, comes out
# different by far more than rounding.
# Why it matters here: a score near a threshold is over it or under it by what else is in the batch, so a file that is
# scored and the same prompts scored one by one do not agree.
# What to do: one scale per row of activations (QuantizeLinear on rows divided by their largest value, MatMulInteger,
# and both scales behind it).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q onnx==1.18.0 onnxruntime==1.22.1
cd "$work"
"$work/venv/bin/python" - <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

rng = np.random.default_rng(0)
weight = numpy_helper.from_array(rng.standard_normal((64, 8)).astype(np.float32), "weight")
product = helper.make_node("MatMul", ["x", "weight"], ["y"])
inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])]
outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8])]
model = helper.make_model(helper.make_graph([product], "g", inputs, outputs, [weight]), ir_version=8)
model.opset_import[0].version = 17
onnx.save(model, "float.onnx")
quantize_dynamic("float.onnx", "eight.onnx", weight_type=QuantType.QInt8)

row = rng.standard_normal((1, 64)).astype(np.float32)
loud = 20 * rng.standard_normal((1, 64)).astype(np.float32)
differences = {}
for name in ("float", "eight"):
    session = onnxruntime.InferenceSession(f"{name}.onnx")
    alone = session.run(None, {"x": row})[0][0]
    beside = session.run(None, {"x": np.concatenate([row, loud])})[0][0]
    differences[name] = float(np.abs(alone - beside).max() / np.abs(alone).max())
print(f"a row alone and beside a louder one, largest difference over its largest output: {differences}")
assert differences["float"] < 1e-5
assert differences["eight"] > 0.01, "a row's output no longer depends on its neighbours"
PY
