"""The layers of a MatConvNet chain, one after the other, each checked against the map that it is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .chain import BatchNorm, Chain, Conv, Dropout, Norm, Pair, Pool, ReLU, Sigmoid, Softmax, Step, map_size
from .matfile import Unreadable

SIDE, _MAP = 1 << 12, 1 << 30  # more pixels along one side, or values in one map, than this is a damaged file
_WORK = 1 << 38  # and more products in one pooling or normalisation; VGG's largest convolution has 2e9
_LAYERS = 4096
_LARGE = 1e6  # the constants of a normalisation are some thousandths to some hundreds
_ENDS = ("softmax", "softmaxloss", "loss")


@dataclass
class Reading:
    """The layers read so far, and the map that they give."""

    path: Path
    size: Pair
    channels: int
    steps: list[Step] = field(default_factory=list)
    state: dict[str, Tensor] = field(default_factory=dict)
    where: str = ""

    def layer(self, index: int, entry: Any, last: bool) -> None:
        self.where = f"{str(self.path)!r}, layer {index}"
        if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
            raise InputError(f"{self.where} is no layer: wanted a struct with a type, got {kind_of(entry)}.")
        if index > _LAYERS:
            raise InputError(f"{self.where}: more than {_LAYERS} layers are absurd.")
        name = entry.get("name")
        name = self._own_name(name if isinstance(name, str) and name else f"layer{index}")
        self.where += f" ({name})"
        kind = entry["type"]
        if kind in _ENDS and last:
            return
        read = _READERS.get(kind)
        if read is None:
            raise InputError(f"{self.where} is of type {kind!r:.40}; the types that can be read are {', '.join(_READERS)}.")
        self._options(entry)
        top, bottom, left, right = self._pads(entry) if kind in ("conv", "pool") else (0, 0, 0, 0)
        self._fits(self.size[0] + top + bottom, self.size[1] + left + right)
        step = read(self, name, entry)
        self.steps.append(step)
        self.size = map_size(step, self.size)
        if min(self.size) < 1:
            raise InputError(f"{self.where}: nothing is left of the image; its window is larger than the map that it is given.")
        self._fits(*self.size)
        window = step.kernel[0] * step.kernel[1] if isinstance(step, Pool) else step.size if isinstance(step, Norm) else 1
        if self.size[0] * self.size[1] * self.channels * window > _WORK:
            raise InputError(f"{self.where}: its window of {window} values at each of {self.size} places is absurdly large.")

    def _fits(self, rows: int, columns: int) -> None:
        if rows * columns * self.channels > _MAP:
            raise InputError(f"{self.where}: a map of {self.channels} x {rows} x {columns} values is absurdly large.")

    def conv(self, name: str, entry: Mapping[str, Any]) -> Step:
        arrays = self._weights(entry, "filters", "biases")
        filters = arrays[0]
        if filters.ndim > 4 or filters.size == 0:
            raise InputError(f"{self.where}: its filters have shape {filters.shape}; wanted height x width x in x out.")
        filters = filters.reshape(filters.shape + (1,) * (4 - filters.ndim))
        height, width, inputs, outputs = map(int, filters.shape[:4])
        if self.channels % inputs or outputs % (self.channels // inputs):
            raise InputError(
                f"{self.where}: {outputs} filters of {inputs} channels do not fit {self.channels} channels, nor groups of them."
            )
        biases = arrays[1].ravel() if len(arrays) > 1 and arrays[1].size else np.zeros(outputs, np.float32)
        if biases.size != outputs:
            raise InputError(f"{self.where}: {biases.size} biases for {outputs} filters.")
        step = Conv(
            name,
            self.channels,
            outputs,
            (height, width),
            self._pair(entry, "stride"),
            self._pads(entry),
            self.channels // inputs,
            self._pair(entry, "dilate"),
        )
        self.state |= {
            f"{step.inside}.weight": torch.from_numpy(np.ascontiguousarray(filters.transpose(3, 2, 0, 1))),
            f"{step.inside}.bias": torch.from_numpy(biases.copy()),
        }
        self.channels = outputs
        return step

    def pool(self, name: str, entry: Mapping[str, Any]) -> Step:
        method = entry.get("method", "max")
        if not isinstance(method, str) or method not in ("max", "avg"):
            raise InputError(
                f"{self.where}: its method is {repr(method)[:40] if isinstance(method, str) else kind_of(method)}; wanted 'max' or 'avg'."
            )
        kernel, pads = self._pair(entry, "pool", needed=True), self._pads(entry)
        if max(pads[:2]) >= kernel[0] or max(pads[2:]) >= kernel[1]:
            raise InputError(f"{self.where}: padding {pads} is not smaller than the window {kernel}.")
        return Pool(name, method, kernel, self._pair(entry, "stride"), pads)

    def norm(self, name: str, entry: Mapping[str, Any]) -> Step:
        numbers = numbers_of(entry.get("param", np.array([5, 1, 1e-4 / 5, 0.75])), f"{self.where}: param")
        if len(numbers) != 4 or not np.isfinite(numbers).all() or numbers[0] != int(numbers[0]) or not 1 <= numbers[0] <= SIDE:
            raise InputError(f"{self.where}: param is {numbers}; wanted the size, kappa, alpha and beta.")
        if not 0 < numbers[1] <= _LARGE or not all(0 <= v <= _LARGE for v in numbers[2:]):  # a root of what may be negative
            raise InputError(f"{self.where}: param is {numbers}; wanted kappa above 0, alpha and beta from 0, none above {_LARGE:g}.")
        return Norm(name, int(numbers[0]), *numbers[1:])

    def batch_norm(self, name: str, entry: Mapping[str, Any]) -> Step:
        arrays = self._weights(entry, "filters", "biases")
        if len(arrays) < 3 or [a.size for a in arrays[:3]] != [self.channels, self.channels, 2 * self.channels]:
            raise InputError(
                f"{self.where}: wanted a factor, a bias and two moments for each of {self.channels} channels, "
                f"got arrays of shapes {[a.shape for a in arrays]}. Without moments it only works while training."
            )
        mean, deviation = arrays[2].reshape(self.channels, 2, order="F").T
        variance = np.square(deviation.astype(np.float64))
        tiny, huge = np.finfo(np.float32).tiny, np.finfo(np.float32).max
        if deviation.min() <= 0 or variance.min() < tiny or variance.max() > huge:
            raise InputError(f"{self.where}: its deviations are from {deviation.min():g} to {deviation.max():g}; wanted them above 0.")
        values = {"weight": arrays[0].ravel(), "bias": arrays[1].ravel(), "running_mean": mean, "running_var": variance}
        self.state |= {f"{name}.{k}": torch.from_numpy(np.array(v, dtype=np.float32)) for k, v in values.items()}
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(0)
        return BatchNorm(name, self.channels)

    def _options(self, entry: Mapping[str, Any]) -> None:
        """`opts` go to MatConvNet's functions as they are: what concerns the GPU is left out, what would change the result is refused."""
        given = entry.get("opts", [])
        texts = [given] if isinstance(given, str) else [o for o in given if isinstance(o, str)] if isinstance(given, list) else []
        for text in texts:
            if not text.lower().startswith(("cudnn", "nocudnn", "verbose")):
                raise InputError(f"{self.where}: the option {text!r:.40} in its opts cannot be read.")

    def _own_name(self, name: str) -> str:
        """As the file has it, but for what a module's name or a layer's name on the command line cannot hold."""
        name = "".join(c if c.isprintable() else "_" for c in re.sub(r"[.\[\]#\s]", "_", name[:100]))
        taken = {s.name for s in self.steps} | set(dir(Chain([])))
        return next(n for k in range(1, 10**6) if (n := name if k == 1 else f"{name}_{k}") not in taken)

    def _weights(self, entry: Mapping[str, Any], *old: str) -> list[np.ndarray]:
        """The arrays of numbers, in single precision, finite."""
        given = entry.get("weights", [entry[k] for k in old if k in entry])
        if not isinstance(given, list) or not given:
            raise InputError(f"{self.where} has neither `weights` nor `filters` and `biases`.")
        for array in given:
            if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
                raise InputError(f"{self.where}: its weights hold {kind_of(array)}, wanted arrays of numbers.")
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as that
            arrays = [np.asarray(a, dtype=np.float32) for a in given]
        if not all(np.isfinite(a).all() for a in arrays):
            raise InputError(f"{self.where}: its weights hold NaN or infinite values, or such as single precision cannot hold.")
        return arrays

    def _pair(self, entry: Mapping[str, Any], key: str, needed: bool = False) -> Pair:
        if needed and key not in entry:
            raise InputError(f"{self.where} has no `{key}`.")
        numbers = numbers_of(entry.get(key, np.ones(1)), f"{self.where}: {key}")
        numbers = numbers * 2 if len(numbers) == 1 else numbers
        if len(numbers) != 2 or not all(v == int(v) and 1 <= v <= SIDE for v in numbers):
            raise InputError(f"{self.where}: {key} is {numbers}; wanted one or two whole numbers from 1.")
        return int(numbers[0]), int(numbers[1])

    def _pads(self, entry: Mapping[str, Any]) -> tuple[int, int, int, int]:
        numbers = numbers_of(entry.get("pad", np.zeros(1)), f"{self.where}: pad")
        numbers = numbers * 4 if len(numbers) == 1 else numbers
        if len(numbers) != 4 or not all(v == int(v) and 0 <= v <= SIDE for v in numbers):
            raise InputError(f"{self.where}: pad is {numbers}; wanted one or four whole numbers from 0 (top, bottom, left, right).")
        top, bottom, left, right = (int(v) for v in numbers)
        return top, bottom, left, right


def _scalar(reading: Reading, entry: Mapping[str, Any], key: str, default: float) -> float:
    numbers = numbers_of(entry.get(key, np.array([default])), f"{reading.where}: {key}")
    if len(numbers) != 1 or not 0 <= numbers[0] < 1:
        raise InputError(f"{reading.where}: {key} is {numbers}; wanted a number from 0 to less than 1.")
    return numbers[0]


_READERS: Mapping[str, Callable[[Reading, str, Mapping[str, Any]], Step]] = {
    "conv": Reading.conv,
    "pool": Reading.pool,
    "normalize": Reading.norm,
    "lrn": Reading.norm,
    "relu": lambda reading, name, entry: ReLU(name, _scalar(reading, entry, "leak", 0.0)),
    "sigmoid": lambda reading, name, entry: Sigmoid(name),
    "dropout": lambda reading, name, entry: Dropout(name, _scalar(reading, entry, "rate", 0.5)),
    "bnorm": Reading.batch_norm,
    "softmax": lambda reading, name, entry: Softmax(name),
}


def numbers_of(value: Any, what: str) -> list[float]:
    if value is None:
        return []
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub" or value.size > 16 or not np.isfinite(value).all():
        raise InputError(f"{what} is {kind_of(value)}, wanted a few numbers.")
    return [float(v) for v in value.ravel()]


def kind_of(value: Any) -> str:
    if isinstance(value, Unreadable):
        return f"a MATLAB {value.kind}"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    return {dict: "a struct", list: "a cell array", str: f"the text {value!r:.40}", type(None): "nothing"}.get(
        type(value), repr(value)[:40]
    )
