"""MatConvNet's networks: `.mat` files of the simplenn form, old (`filters`, `biases`) or new (`weights`), of any chain of layers.

The geometry, the layers' names, the mean and the classes are the file's. MatConvNet keeps filters as height x width x in x out, for
RGB from 0 to 255 less the average image. As in the paper, the average image is reduced to its colour and a softmax or loss at the end
is left out: the module gives scores.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError, PreimageWarning
from ..pixelspace import PixelSpace
from .chain import BatchNorm, Chain, Conv, Dropout, Norm, Pair, Pool, ReLU, Sigmoid, Softmax, Step, initialise, map_size
from .matfile import Unreadable, read_mat
from .network import SOURCES, NetworkCard, Source

_SIDE, _MAP = 1 << 12, 1 << 30  # more pixels along one side, or values in one map, than this is a damaged file
_ENDS = ("softmax", "softmaxloss", "loss")


@dataclass(frozen=True)
class MatNetwork:
    """What a file holds.

    steps: the layers. state: their numbers, by the names that `Chain(steps)` has for them. size: (height, width) of its images;
    channels: of its images. average: the average image as it is in the file (H, W, C), (1, 1, C), or None if the file has none.
    classes: their names in order, or none.
    """

    path: Path
    steps: list[Step]
    state: dict[str, Tensor] = field(repr=False)
    size: Pair
    channels: int
    average: np.ndarray | None = field(repr=False)
    classes: list[str] = field(repr=False)

    def space(self) -> PixelSpace | None:
        """The pixels that it takes; None if the file has no average image, as then nothing says what they mean."""
        if self.average is None:
            return None
        colour = np.asarray(self.average, dtype=np.float64).mean(axis=(0, 1))
        channels = {1: "grey", 3: "rgb"}.get(self.channels, self.channels)
        return PixelSpace(self.size, channels, mean=tuple(float(v) for v in colour))

    def build(self) -> nn.Module:
        """The module with the file's numbers."""
        module = Chain(self.steps)
        module.load_state_dict(self.state)
        return module.eval()


def read_network(path: str | os.PathLike[str]) -> MatNetwork:
    """Read a simplenn file.

    Raises InputError, naming the file and the layer, for what is damaged, of another kind (DagNN, a layer type that is not known),
    inconsistent (channels, map sizes) or not finite, and MissingExtra without scipy or h5py.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file {str(path)!r}.")
    found = read_mat(path)
    inner = found.get("net")
    net: dict[str, Any] = inner if "layers" not in found and isinstance(inner, dict) else found
    layers = net.get("layers")
    if "params" in net or "vars" in net:
        raise InputError(f"{str(path)!r} is a DagNN network, a graph; only chains (simplenn) can be read. Export it as ONNX or PyTorch.")
    if not isinstance(layers, list) or not layers:
        raise InputError(
            f"{str(path)!r} is no MatConvNet network: it has no cell array `layers`. It holds: {', '.join(found) or 'nothing'}."
        )
    meta = net["meta"] if isinstance(net.get("meta"), dict) else net
    size, channels, average = _normalization(path, meta, layers)
    reading = _Reading(path, size, channels)
    for index, entry in enumerate(layers, start=1):
        reading.layer(index, entry, last=index == len(layers))
    classes = _classes(path, meta, reading.channels)
    return MatNetwork(path, reading.steps, reading.state, size, channels, average, classes)


def open_card(path: str | os.PathLike[str]) -> NetworkCard:
    """The network of a file as a card. Raises what `read_network` raises."""
    return _card(read_network(path))


def with_file(card: NetworkCard, steps: Sequence[Step], path: str | os.PathLike[str]) -> NetworkCard:
    """A known network with the geometry, mean, classes and weights of a file, which must hold this network.

    Dropout, which does nothing here, and padding that makes no difference on images of the network's own size may differ.
    Raises InputError with every other difference.
    """
    net = read_network(path)
    size = None if card.space is None else card.space.size
    assert size is not None
    wrong = differences(steps, net.steps, size)
    if net.size != size:
        wrong.insert(0, f"images of {net.size} instead of {size}")
    if wrong:
        more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise InputError(
            f"The file {str(path)!r} does not hold {card.name}: {'; '.join(wrong[:8])}{more}. "
            "To use it as it is, give it as the network itself."
        )
    return replace(_card(net), name=card.name, source=card.source, licence=card.licence, paper=card.paper, file=card.file)


def differences(wanted: Sequence[Step], found: Sequence[Step], size: Pair) -> list[str]:
    """In words, what is different in a chain that should be another, for images of this size.

    >>> differences([Conv("conv1", 3, 8, (3, 3))], [Conv("conv1", 3, 9, (3, 3)), ReLU("relu1")], (8, 8))
    ["unexpected layer 'relu1'", "outputs of 'conv1' is 9 instead of 8"]
    """
    ours, theirs = ({s.name: s for s in chain if not isinstance(s, Dropout)} for chain in (wanted, found))
    wrong = [f"missing layer {n!r}" for n in ours if n not in theirs] + [f"unexpected layer {n!r}" for n in theirs if n not in ours]
    if not wrong and list(ours) != list(theirs):
        wrong.append(f"the layers come as {', '.join(theirs)}")
    sides = {id(s): out for chain in (wanted, found) for s, out in _sizes(chain, size)}
    for name, a in ours.items():
        b = theirs.get(name, a)
        if type(a) is not type(b):
            wrong.append(f"{name!r} is {type(b).__name__} instead of {type(a).__name__}")
            continue
        for f in fields(a):  # type: ignore[arg-type]
            old, new = getattr(a, f.name), getattr(b, f.name)
            same_map = f.name == "pads" and old[::2] == new[::2] and sides[id(a)] == sides[id(b)]
            close = isinstance(old, float) and math.isclose(old, new, rel_tol=1e-5)  # numbers were kept in single precision
            if old != new and not same_map and not close:
                wrong.append(f"{f.name} of {name!r} is {new} instead of {old}")
    return wrong


def _sizes(chain: Sequence[Step], size: Pair) -> list[tuple[Step, Pair]]:
    out = []
    for step in chain:
        size = map_size(step, size)
        out.append((step, size))
    return out


def _card(net: MatNetwork) -> NetworkCard:
    waiting = [net.state]  # handed over once, so that the card keeps no second copy of the numbers
    steps, classes, path = net.steps, net.classes, net.path

    def weights() -> Mapping[str, Tensor]:
        return waiting.pop() if waiting else read_network(path).state

    return NetworkCard(
        name=str(path),
        space=net.space(),
        build=lambda: initialise(Chain(steps)),
        weights=weights,
        names={s.name: s.name for s in steps},
        classes=(lambda: classes) if classes else None,
        source=f"the file {str(path)!r}",
        size=net.size,
    )


def _normalization(path: Path, meta: Mapping[str, Any], layers: Sequence[Any]) -> tuple[Pair, int, np.ndarray | None]:
    """The size of the images, their channels, and the average image."""
    said = meta.get("normalization")
    said = said if isinstance(said, dict) else {}
    size = _numbers(said.get("imageSize", meta.get("inputSize")), f"{str(path)!r}: normalization.imageSize")
    if len(size) < 2 or not all(1 <= v <= _SIDE and v == int(v) for v in size[:3]):
        raise InputError(f"{str(path)!r}: normalization.imageSize is {size or 'absent'}, wanted height, width and channels in pixels.")
    average = said.get("averageImage")
    if average is not None and not (isinstance(average, np.ndarray) and average.dtype.kind in "fiu"):
        raise InputError(f"{str(path)!r}: normalization.averageImage holds no numbers.")
    channels = int(size[2]) if len(size) > 2 else _first_channels(layers)
    if average is None:
        return (int(size[0]), int(size[1])), channels, None
    if average.size == 0:  # MatConvNet subtracts nothing then
        average = np.zeros((1, 1, channels))
    elif average.size == channels:
        average = average.reshape(1, 1, channels)
    elif channels == 1 and average.ndim == 2:
        average = average[:, :, None]
    if average.ndim != 3 or average.shape[2] != channels or not np.isfinite(average).all():
        raise InputError(
            f"{str(path)!r}: normalization.averageImage has shape {average.shape}, or NaN; wanted a picture of {channels} channels."
        )
    return (int(size[0]), int(size[1])), channels, average


def _first_channels(layers: Sequence[Any]) -> int:
    """How many channels the first convolution takes; 3 where there is none."""
    for entry in layers:
        weights = entry.get("weights") if isinstance(entry, dict) else None
        first = weights[0] if isinstance(weights, list) and weights else entry.get("filters") if isinstance(entry, dict) else None
        if isinstance(first, np.ndarray):
            return int(first.shape[2]) if first.ndim > 2 else 1
    return 3


def _classes(path: Path, meta: Mapping[str, Any], outputs: int) -> list[str]:
    said = meta.get("classes")
    said = said if isinstance(said, dict) else {}
    names = said.get("description") or said.get("name") or []
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise InputError(f"{str(path)!r}: classes.description is no cell array of texts.")
    if names and len(names) != outputs:
        message = f"{str(path)!r} names {len(names)} classes, but its last layer has {outputs} channels: the names are left out."
        warnings.warn(message, PreimageWarning, stacklevel=4)
        return []
    return list(names)


@dataclass
class _Reading:
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
            raise InputError(f"{self.where} is no layer: wanted a struct with a type, got {_kind(entry)}.")
        name = entry.get("name")
        name = self._own_name(name if isinstance(name, str) and name else f"layer{index}")
        self.where += f" ({name})"
        kind = entry["type"]
        if kind in _ENDS and last:
            return
        read = _READERS.get(kind)
        if read is None:
            raise InputError(f"{self.where} is of type {kind!r}; the types that can be read are {', '.join(_READERS)}.")
        self._options(entry)
        step = read(self, name, entry)
        self.steps.append(step)
        self.size = map_size(step, self.size)
        if self.size[0] * self.size[1] * self.channels > _MAP:
            raise InputError(f"{self.where}: its map of {self.channels} x {self.size[0]} x {self.size[1]} values is absurdly large.")
        if min(self.size) < 1:
            raise InputError(f"{self.where}: nothing is left of the image; its window is larger than the map that it is given.")

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
        if method not in ("max", "avg"):
            raise InputError(f"{self.where}: its method is {method!r}; wanted 'max' or 'avg'.")
        kernel, pads = self._pair(entry, "pool", needed=True), self._pads(entry)
        if max(pads[:2]) >= kernel[0] or max(pads[2:]) >= kernel[1]:
            raise InputError(f"{self.where}: padding {pads} is not smaller than the window {kernel}.")
        return Pool(name, method, kernel, self._pair(entry, "stride"), pads)

    def norm(self, name: str, entry: Mapping[str, Any]) -> Step:
        numbers = _numbers(entry.get("param", np.array([5, 1, 1e-4 / 5, 0.75])), f"{self.where}: param")
        if len(numbers) != 4 or not np.isfinite(numbers).all() or numbers[0] != int(numbers[0]) or not 1 <= numbers[0] <= _SIDE:
            raise InputError(f"{self.where}: param is {numbers}; wanted the size, kappa, alpha and beta.")
        return Norm(name, int(numbers[0]), *numbers[1:])

    def batch_norm(self, name: str, entry: Mapping[str, Any]) -> Step:
        arrays = self._weights(entry, "filters", "biases")
        if len(arrays) < 3 or [a.size for a in arrays[:3]] != [self.channels, self.channels, 2 * self.channels]:
            raise InputError(
                f"{self.where}: wanted a factor, a bias and two moments for each of {self.channels} channels, "
                f"got arrays of shapes {[a.shape for a in arrays]}. Without moments it only works while training."
            )
        mean, deviation = arrays[2].reshape(self.channels, 2, order="F").T
        values = {"weight": arrays[0].ravel(), "bias": arrays[1].ravel(), "running_mean": mean, "running_var": deviation**2}
        self.state |= {f"{name}.{k}": torch.from_numpy(np.array(v, dtype=np.float32)) for k, v in values.items()}
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(0)
        return BatchNorm(name, self.channels)

    def _options(self, entry: Mapping[str, Any]) -> None:
        """`opts` go to MatConvNet's functions as they are: what concerns the GPU is left out, what would change the result is refused."""
        given = entry.get("opts", [])
        texts = [o for o in given if isinstance(o, str)] if isinstance(given, list) else []
        for text in texts:
            if not text.lower().startswith(("cudnn", "nocudnn", "verbose")):
                raise InputError(f"{self.where}: the option {text!r:.40} in its opts cannot be read.")

    def _own_name(self, name: str) -> str:
        """As the file has it, but for what a module's name or a layer's name on the command line cannot hold."""
        name = re.sub(r"[.\[\]#\s]", "_", name)
        taken = {s.name for s in self.steps} | set(dir(Chain([])))
        return next(n for k in range(1, 10**6) if (n := name if k == 1 else f"{name}_{k}") not in taken)

    def _weights(self, entry: Mapping[str, Any], *old: str) -> list[np.ndarray]:
        """The arrays of numbers, in single precision, finite."""
        given = entry.get("weights", [entry[k] for k in old if k in entry])
        if not isinstance(given, list) or not given:
            raise InputError(f"{self.where} has neither `weights` nor `filters` and `biases`.")
        for array in given:
            if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
                raise InputError(f"{self.where}: its weights hold {_kind(array)}, wanted arrays of numbers.")
        arrays = [np.asarray(a, dtype=np.float32) for a in given]
        if not all(np.isfinite(a).all() for a in arrays):
            raise InputError(f"{self.where}: its weights hold NaN or infinite values.")
        return arrays

    def _pair(self, entry: Mapping[str, Any], key: str, needed: bool = False) -> Pair:
        if needed and key not in entry:
            raise InputError(f"{self.where} has no `{key}`.")
        numbers = _numbers(entry.get(key, np.ones(1)), f"{self.where}: {key}")
        numbers = numbers * 2 if len(numbers) == 1 else numbers
        if len(numbers) != 2 or not all(v == int(v) and 1 <= v <= _SIDE for v in numbers):
            raise InputError(f"{self.where}: {key} is {numbers}; wanted one or two whole numbers from 1.")
        return int(numbers[0]), int(numbers[1])

    def _pads(self, entry: Mapping[str, Any]) -> tuple[int, int, int, int]:
        numbers = _numbers(entry.get("pad", np.zeros(1)), f"{self.where}: pad")
        numbers = numbers * 4 if len(numbers) == 1 else numbers
        if len(numbers) != 4 or not all(v == int(v) and 0 <= v <= _SIDE for v in numbers):
            raise InputError(f"{self.where}: pad is {numbers}; wanted one or four whole numbers from 0 (top, bottom, left, right).")
        top, bottom, left, right = (int(v) for v in numbers)
        return top, bottom, left, right


def _scalar(reading: _Reading, entry: Mapping[str, Any], key: str, default: float) -> float:
    numbers = _numbers(entry.get(key, np.array([default])), f"{reading.where}: {key}")
    if len(numbers) != 1 or not 0 <= numbers[0] < 1:
        raise InputError(f"{reading.where}: {key} is {numbers}; wanted a number from 0 to less than 1.")
    return numbers[0]


_READERS: Mapping[str, Callable[[_Reading, str, Mapping[str, Any]], Step]] = {
    "conv": _Reading.conv,
    "pool": _Reading.pool,
    "normalize": _Reading.norm,
    "lrn": _Reading.norm,
    "relu": lambda reading, name, entry: ReLU(name, _scalar(reading, entry, "leak", 0.0)),
    "sigmoid": lambda reading, name, entry: Sigmoid(name),
    "dropout": lambda reading, name, entry: Dropout(name, _scalar(reading, entry, "rate", 0.5)),
    "bnorm": _Reading.batch_norm,
    "softmax": lambda reading, name, entry: Softmax(name),
}


def _numbers(value: Any, what: str) -> list[float]:
    if value is None:
        return []
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub" or value.size > 16 or not np.isfinite(value).all():
        raise InputError(f"{what} is {_kind(value)}, wanted a few numbers.")
    return [float(v) for v in value.ravel()]


def _kind(value: Any) -> str:
    if isinstance(value, Unreadable):
        return f"a MATLAB {value.kind}"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    return {dict: "a struct", list: "a cell array", str: f"the text {value!r:.40}", type(None): "nothing"}.get(
        type(value), repr(value)[:40]
    )


SOURCES.register("matconvnet")(
    Source(
        form="FILE.mat",
        matches=lambda name: name.lower().endswith(".mat"),
        open=open_card,
        about="a MatConvNet network of the simplenn form, with its weights, mean and classes",
    )
)
