"""MatConvNet's networks: `.mat` files of the simplenn form, old (`filters`, `biases`) or new (`weights`), of any chain of layers.

The geometry, the layers' names, the mean and the classes are the file's. MatConvNet keeps filters as height x width x in x out, for
RGB from 0 to 255 less the average image. As in the paper, the average image is reduced to its colour and a softmax or loss at the end
is left out: the module gives scores.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..errors import InputError, PreimageWarning
from ..pixels.pixelspace import PixelSpace
from ..untrusted import is_file
from .chain import Chain, Pair, Step, differences, initialise
from .matfile import read_mat
from .network import SOURCES, NetworkCard, Source
from .simplenn import SIDE, Reading, numbers_of

_GREY = 1e6  # pixels are from 0 to 255; no average of them, in whatever unit, is beyond this


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
    if not is_file(path):
        raise InputError(f"There is no file {str(path)!r}.")
    found = read_mat(path)
    inner = found.get("net")
    net: dict[str, Any] = inner if "layers" not in found and isinstance(inner, dict) else found
    layers = net.get("layers")
    if "params" in net or "vars" in net:
        raise InputError(f"{str(path)!r} is a DagNN network, a graph; only chains (simplenn) can be read. Export it as ONNX or PyTorch.")
    if not isinstance(layers, list) or not layers:
        raise InputError(
            f"{str(path)!r} is no MatConvNet network: it has no cell array `layers`. It holds: {', '.join(found)[:200] or 'nothing'}."
        )
    meta = net["meta"] if isinstance(net.get("meta"), dict) else net
    size, channels, average = _normalization(path, meta, layers)
    reading = Reading(path, size, channels)
    for index, entry in enumerate(layers, start=1):
        reading.layer(index, entry, last=index == len(layers))
    if not reading.steps:
        raise InputError(f"{str(path)!r} has no layer but a softmax or loss at its end.")
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
    size = numbers_of(said.get("imageSize", meta.get("inputSize")), f"{str(path)!r}: normalization.imageSize")
    if len(size) < 2 or not all(1 <= v <= SIDE and v == int(v) for v in size[:3]):
        raise InputError(f"{str(path)!r}: normalization.imageSize is {size or 'absent'}, wanted height, width and channels in pixels.")
    average = said.get("averageImage")
    if average is not None and not (isinstance(average, np.ndarray) and average.dtype.kind in "fiu"):
        raise InputError(f"{str(path)!r}: normalization.averageImage holds no numbers.")
    channels = int(size[2]) if len(size) > 2 else _first_channels(layers)
    if not 1 <= channels <= SIDE:
        raise InputError(f"{str(path)!r}: its images would have {channels} channels.")
    if average is None:
        return (int(size[0]), int(size[1])), channels, None
    if average.size == 0:  # MatConvNet subtracts nothing then
        average = np.zeros((1, 1, channels))
    elif average.size == channels:
        average = average.reshape(1, 1, channels)
    elif channels == 1 and average.ndim == 2:
        average = average[:, :, None]
    if average.ndim != 3 or average.shape[2] != channels or not (np.abs(average.astype(np.float64)) <= _GREY).all():
        raise InputError(
            f"{str(path)!r}: normalization.averageImage has shape {average.shape}, or NaN, or values beyond {_GREY:g}; "
            f"wanted a picture of {channels} channels, in grey levels."
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
    given = [v for v in (said.get("description"), said.get("name")) if v is not None and not (isinstance(v, np.ndarray) and v.size == 0)]
    names: list[Any] = next((v for v in given if isinstance(v, list) and v), [])
    if not all(isinstance(v, list) for v in given) or not all(isinstance(n, str) for n in names):
        raise InputError(f"{str(path)!r}: classes.description is no cell array of texts.")
    if names and len(names) != outputs:
        message = f"{str(path)!r} names {len(names)} classes, but its last layer has {outputs} channels: the names are left out."
        warnings.warn(message, PreimageWarning, stacklevel=4)
        return []
    return names


SOURCES.register("matconvnet")(
    Source(
        form="FILE.mat",
        matches=lambda name: name.lower().endswith(".mat"),
        open=open_card,
        about="a MatConvNet network of the simplenn form, with its weights, mean and classes",
    )
)
