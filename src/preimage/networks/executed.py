"""Quantised ONNX models: run as they are, by onnxruntime or where there is none by onnx's own reference, and without gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError, first_line

OUTPUT = "output"  # the name of the only layer of such a model
QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
_OPSET = 21  # of the operations that onnx's reference knows how to run on quantised numbers

Run = Callable[[np.ndarray], np.ndarray]


def is_quantised(model: Any) -> bool:
    """Whether a model computes with whole numbers, whose rounding has no gradient."""
    return any(node.op_type in QUANTISED or node.op_type.startswith("QLinear") for node in model.graph.node)


class Executed(nn.Module):
    """A model that is called and not looked into: images (B, C, H, W) -> its first output (B, ...), image by image, without a gradient.

    Parameters
    ----------
    model : onnx.ModelProto
        Its bytes are the module's only state, so that the hash of the weights is that of the model.
    name : str
        What errors call it.
    """

    program: Tensor

    def __init__(self, model: Any, name: str) -> None:
        super().__init__()
        self.name = name
        self.register_buffer("program", torch.frombuffer(bytearray(model.SerializeToString()), dtype=torch.uint8))
        self._run: Run | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_run": None}  # a copy starts a run of its own

    def forward(self, x: Tensor) -> Tensor:
        if self._run is None:
            self._run = _started(self.program.cpu().numpy().tobytes(), self.name)
        shown = x.detach().cpu().float().numpy()
        return torch.cat([torch.from_numpy(np.array(self._run(shown[k : k + 1]))) for k in range(len(shown))]).to(x)


def _started(program: bytes, name: str) -> Run:
    """The model, ready to be run in one thread."""
    try:
        import onnxruntime
    except ImportError:
        return _by_reference(program, name)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(program, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InputError(f"onnxruntime cannot run {name!r} ({type(error).__name__}: {first_line(error)}).") from error
    given = session.get_inputs()[0].name

    def run(x: np.ndarray) -> np.ndarray:
        found: np.ndarray = session.run(None, {given: x})[0]
        return found

    return run


def _by_reference(program: bytes, name: str) -> Run:
    """By plain numpy: right, and slow for large models."""
    import onnx
    from onnx import version_converter
    from onnx.reference import ReferenceEvaluator

    try:
        model = onnx.load_from_string(program)
        version = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
        model = version_converter.convert_version(model, _OPSET) if version < _OPSET else model
        evaluator = ReferenceEvaluator(model)
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"onnx itself cannot run {name!r} ({reason}), but onnxruntime may: pip install onnxruntime.") from error
    constant = {t.name for t in model.graph.initializer}
    given = next(i.name for i in model.graph.input if i.name not in constant)

    def run(x: np.ndarray) -> np.ndarray:
        outputs: Any = evaluator.run(None, {given: x})
        found: np.ndarray = outputs[0]
        return found

    return run
