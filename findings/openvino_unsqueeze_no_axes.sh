#!/usr/bin/env bash
# OpenVINO 2026.4.1, reading ONNX, beside onnxruntime 1.32.0 and ONNX 1.23.2's reference evaluator:
# Unsqueeze whose list of axes is empty.
#
# Guess: no axis is inserted, so the tensor stays as it is; or the model is refused.
# What happened: the checker accepts it; onnxruntime and the reference leave (2, 3) as it is. OpenVINO
# inserts an axis in front, (1, 2, 3), although the graph declares (2, 3), without a word. What
# follows broadcasts: a sum with a vector of two per row becomes something else than it was.
# Output seen: reference (2, 3), onnxruntime (2, 3), OpenVINO (1, 2, 3); axes [1]: all (2, 1, 3).
# Date: 2026-11-28.
#
# Why it matters here: converters write such nodes for einsum where nothing has to be inserted, and
# attention is written in einsum. Compare shapes of each converted graph, not only that it loads.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 numpy==2.4.6
ORT_DISABLE_TELEMETRY=1 env/bin/python - <<'PY'
import importlib.metadata as md

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

print({name: md.version(name) for name in ("onnx", "onnxruntime", "openvino")})
x = np.arange(6, dtype="float32").reshape(2, 3)


def shapes(axes, declared):
    graph = helper.make_graph(
        [helper.make_node("Unsqueeze", ["x", "axes"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, declared)],
        [numpy_helper.from_array(np.array(axes, "int64"), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, "model.onnx")
    answers = {
        "reference": ReferenceEvaluator(model).run(None, {"x": x})[0],
        "onnxruntime": onnxruntime.InferenceSession("model.onnx").run(None, {"x": x})[0],
        "OpenVINO": openvino.Core().compile_model("model.onnx", "CPU")(x)[0],
    }
    print(axes, {name: answer.shape for name, answer in answers.items()})
    return [answer.shape for answer in answers.values()]


assert shapes([1], [2, 1, 3]) == [(2, 1, 3)] * 3
assert shapes([], [2, 3]) == [(2, 3), (2, 3), (1, 2, 3)]
PY
