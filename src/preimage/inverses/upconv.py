"""An up-convolutional inverse: a small network from features to the image, also from features without places."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..seeds import generator
from .grid import Grid, Pair
from .learned import LearnedInverse

ENTER = 2  # convolutions on the map of the features, before it grows
LEAST = 24  # channels that a layer has at least
FIRST = 4  # cells along each side of the map that features without places are unfolded into
SLOPE = 0.2  # of the leaky ReLUs, for negative values
LEVELS = 60.0  # grey levels of an answer of 1: about the deviation of a photograph's pixels


@dataclass(frozen=True)
class Architecture:
    """What the network looks like.

    inputs: channels of the map, or features where they have no places. channels: of the image. width: channels at the map; each doubling
    of the sides halves them. stages: doublings. hidden: features of the dense layer that comes first where there are no places, else 0.
    """

    inputs: int
    channels: int
    width: int
    stages: int
    hidden: int = 0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            low, high = (0 if name in ("hidden", "stages") else 1), (10 if name == "stages" else 2**31)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise InputError(f"{name} of an up-convolutional inverse is a whole number from {low} to {high}; got {value!r}.")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the weights, by name, in their order; each has a bias of its first number beside it."""
        found: dict[str, tuple[int, ...]] = {}
        width = self.width
        if self.hidden:
            found = {"dense0": (self.hidden, self.inputs), "dense1": (width * FIRST**2, self.hidden)}
        for k in range(ENTER):
            found[f"enter{k}"] = (width, self.inputs if k == 0 and not self.hidden else width, 3, 3)
        for k in range(self.stages):
            narrow = max(min(LEAST, self.width), width // 2)
            found[f"up{k}"] = (narrow, width, 3, 3)
            if k < self.stages - 1:
                found[f"mix{k}"] = (narrow, narrow, 3, 3)
            width = narrow
        return found | {"out": (self.channels, width, 3, 3)}

    def begin(self, seed: int) -> dict[str, Tensor]:
        """Return random weights (He et al. 2015, for the slope of the ReLUs) and biases of 0; the last layer's are small."""
        draws, found = generator(seed, "up-convolutional inverse"), {}
        for name, shape in self.shapes().items():
            deviation = math.sqrt(2 / (1 + SLOPE**2) / math.prod(shape[1:])) * (0.1 if name == "out" else 1.0)
            found[f"{name}.weight"] = torch.randn(shape, generator=draws) * deviation
            found[f"{name}.bias"] = torch.zeros(shape[0])
        return found

    def __call__(self, weights: Mapping[str, Tensor], z: Tensor) -> Tensor:
        """Normalised features (B, inputs, h, w), or (B, inputs) where there are no places, -> (B, channels, h·2^stages, w·2^stages)."""
        if self.hidden:
            for k in range(2):
                z = _bent(F.linear(z, weights[f"dense{k}.weight"], weights[f"dense{k}.bias"]))
            z = z.view(len(z), self.width, FIRST, FIRST)
        for k in range(ENTER):
            z = _bent(_convolved(weights, f"enter{k}", z))
        for k in range(self.stages):
            z = _bent(_convolved(weights, f"up{k}", F.interpolate(z, scale_factor=2.0, mode="nearest")))
            if k < self.stages - 1:
                z = _bent(_convolved(weights, f"mix{k}", z))
        return _convolved(weights, "out", z)


@dataclass(frozen=True, eq=False)
class UpconvInverse(LearnedInverse):
    """An image from features by convolutions between which the map doubles (Dosovitskiy & Brox, CVPR 2016, there "up-convolutions").

    Made by `fit_inverse(kind="upconv")`, read by `load_inverse`. A map may have any number of cells. Differs from the original in its
    size, which photographs by the dozen can fit, in convolutions after nearest neighbours in the place of zeros, and in the border, which
    is repeated.

    Parameters
    ----------
    grid : Grid or None
        Where the pixels of a cell lie; None for features without places.
    mean, deviation : tensor (C,)
        Of each channel or feature: taken out first, and divided by.
    weights : mapping of tensors
        By the names of `Architecture.shapes`, each with ".weight" and ".bias".
    probe : tensor
        The answer to the test picture, by which the layer is recognised.
    about : mapping
        As of `LinearInverse`, and under "architecture" what `Architecture` says.
    """

    grid: Grid | None
    mean: Tensor
    deviation: Tensor
    weights: Mapping[str, Tensor] = field(repr=False)
    probe: Tensor
    about: Mapping[str, Any] = field(repr=False)
    kind = "upconv"

    def __post_init__(self) -> None:
        plan = self.architecture
        shapes: dict[str, tuple[int, ...]] = {"mean": (plan.inputs,), "deviation": (plan.inputs,)}
        for name, shape in plan.shapes().items():
            shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
        found = self.tensors()
        if (self.grid is None) != bool(plan.hidden) or plan.channels != self.channels:
            raise InputError("An up-convolutional inverse of a map has a grid and no dense layer, one of other features the reverse.")
        if set(found) != set(shapes):
            raise InputError(f"An up-convolutional inverse has the tensors {', '.join(shapes)}; got {', '.join(found)}.")
        for name, shape in shapes.items():
            if tuple(found[name].shape) != shape or not found[name].is_floating_point():
                raise InputError(f"{name} of this inverse has shape {shape}; got {tuple(found[name].shape)}, {found[name].dtype}.")
            if not bool(torch.isfinite(found[name]).all()):
                raise InputError(f"{name} of an inverse holds NaN or infinite values.")
        if not bool((self.deviation > 0).all()):
            raise InputError("deviation of an inverse holds values that are not above 0.")

    @property
    def architecture(self) -> Architecture:
        """What the network looks like."""
        return Architecture(**self.about["architecture"])

    def __call__(self, features: Tensor, size: Pair | None = None) -> Tensor:
        """See `LearnedInverse`."""
        features = self._features(features)
        cells = None if self.grid is None else (features.shape[-2], features.shape[-1])
        right = features.ndim == 4 and features.shape[1] == len(self.mean) if cells else features[0].numel() == len(self.mean)
        if not right:
            wanted = f"(B, {len(self.mean)}, h, w)" if cells else f"of {len(self.mean)} values a sample"
            raise InputError(f"This inverse is of {self.about['layer']} and takes features {wanted}; got {tuple(features.shape)}.")
        dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
        weights = {name: t.to(features.device, dtype) for name, t in self.weights.items()}
        z = normalised(features.to(dtype), *(t.to(features.device, dtype) for t in (self.mean, self.deviation)))
        return canvas(self.architecture(weights, z), self.grid, cells, self._size(cells, size))

    def tensors(self) -> dict[str, Tensor]:
        """See `LearnedInverse`."""
        return {"mean": self.mean, "deviation": self.deviation, **dict(sorted(self.weights.items()))}

    def __repr__(self) -> str:
        held = self.about.get("held_out", {})
        numbers = f", {held['psnr']:.1f} dB on photographs held out" if "psnr" in held else ""
        return f"UpconvInverse(of {self.about['layer']}, width {self.architecture.width}, {self.architecture.stages} doublings{numbers})"


def normalised(features: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Features less their means, over their deviations: a map as it is, anything else as (B, D)."""
    if features.ndim == 4 and len(mean) == features.shape[1] and min(features.shape[2:]) > 1:
        return (features - mean[:, None, None]) / deviation[:, None, None]
    return (features.flatten(1) - mean) / deviation


def canvas(answer: Tensor, grid: Grid | None, cells: Pair | None, size: Pair) -> Tensor:
    """The network's answer in grey levels, at its place in an image of a size."""
    answer = answer * LEVELS
    if grid is None or cells is None:
        return F.interpolate(answer, size, mode="bilinear", align_corners=False)
    covered = (cells[0] * grid.stride[0], cells[1] * grid.stride[1])
    if answer.shape[2:] != covered:
        answer = F.interpolate(answer, covered, mode="bilinear", align_corners=False)
    return grid.place(answer, size)


def _bent(z: Tensor) -> Tensor:
    return F.leaky_relu(z, SLOPE)


def _convolved(weights: Mapping[str, Tensor], name: str, z: Tensor) -> Tensor:
    return F.conv2d(F.pad(z, [1] * 4, mode="replicate"), weights[f"{name}.weight"], weights[f"{name}.bias"])
