"""A linear inverse: what each cell of a map of features, and those around it, tell about the pixels under it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .grid import Grid, Pair
from .learned import LearnedInverse


@dataclass(frozen=True, eq=False)
class LinearInverse(LearnedInverse):
    r"""An image from features in one convolution: patch of cell u = W · P(Φ(u + k x k neighbourhood) − mean) + b, patches blended.

    Made by `fit_inverse`, read by `load_inverse`. Applies to a map of any number of cells.

    Parameters
    ----------
    grid : Grid
        Where the patches lie.
    mean : tensor (C,)
        Of each channel, taken out first.
    projection : tensor (r, C)
        P: the combinations of channels that are used.
    weights : tensor (N·side·side, r, k, k)
        W, for the N channels of the image, of which `offsets` (N·side·side,) is b.
    probe : tensor (C,)
        The mean answer of each channel to the test picture, by which the layer is recognised.
    about : mapping
        Layer, network, weights' hash, pixel space, photographs' digest, settings and held-out numbers, as plain values.
    """

    grid: Grid
    mean: Tensor
    projection: Tensor
    weights: Tensor
    offsets: Tensor
    probe: Tensor
    about: Mapping[str, Any] = field(repr=False)
    kind = "linear"

    def __post_init__(self) -> None:
        C, r, k = len(self.mean), len(self.projection), self.kernel
        patch = self.channels * math.prod(self.grid.side)
        wanted = {"mean": (C,), "projection": (r, C), "weights": (patch, r, k, k), "offsets": (patch,), "probe": (C,)}
        for name, shape in wanted.items():
            tensor: Tensor = getattr(self, name)
            if tuple(tensor.shape) != shape or not tensor.is_floating_point() or 0 in shape or k % 2 == 0:
                raise InputError(f"{name} of an inverse has shape {shape} with an odd k; got {tuple(tensor.shape)}, {tensor.dtype}.")
            if not bool(torch.isfinite(tensor).all()):
                raise InputError(f"{name} of an inverse holds NaN or infinite values.")

    @property
    def kernel(self) -> int:
        """k: how many cells of the map along each side tell about a patch."""
        return self.weights.shape[-1]

    def __call__(self, features: Tensor, size: Pair | None = None) -> Tensor:
        """Features (B, C, h, w) -> canonical images (B, N, H, W) of the wanted size, not clipped.

        size: that of the images whose features these are; it may be left out for a map of the size that was fitted.
        Raises InputError for other features and NaN.
        """
        if features.ndim != 4 or features.shape[1] != len(self.mean) or not features.is_floating_point():
            raise InputError(
                f"This inverse is of {self.about['layer']} and takes features (B, {len(self.mean)}, h, w); got {tuple(features.shape)}."
            )
        features, cells = self._features(features), (features.shape[2], features.shape[3])
        size = self._size(cells, size)
        dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
        mean, projection, weights, offsets = (
            t.to(features.device, dtype) for t in (self.mean, self.projection, self.weights, self.offsets)
        )
        z = reduced(features.to(dtype), mean, projection)
        patches = F.conv2d(framed(z, self.kernel), weights, offsets)
        return self.grid.blend(patches.flatten(2), cells, size).to(dtype)

    def tensors(self) -> dict[str, Tensor]:
        """See `LearnedInverse`."""
        return {"mean": self.mean, "projection": self.projection, "weights": self.weights, "offsets": self.offsets}

    def __repr__(self) -> str:
        held = self.about.get("held_out", {})
        numbers = f", {held['psnr']:.1f} dB on photographs held out" if "psnr" in held else ""
        return f"LinearInverse(of {self.about['layer']}, {self.kernel}x{self.kernel} cells, rank {len(self.projection)}{numbers})"


def reduced(features: Tensor, mean: Tensor, projection: Tensor) -> Tensor:
    """Features (B, C, h, w) without their mean, in the r combinations of channels: (B, r, h, w)."""
    return F.conv2d(features, projection[:, :, None, None], -(projection @ mean))


def framed(z: Tensor, kernel: int) -> Tensor:
    """A map with its border repeated outwards, so that the outermost cells have neighbours too."""
    return F.pad(z, [kernel // 2] * 4, mode="replicate")
