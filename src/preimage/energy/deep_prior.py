"""Images as what an untrained network makes of fixed noise: its weights are the coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..pixels.pixelspace import PixelSpace
from .chance import check_count
from .parameterizations import PARAMETERIZATIONS, Coordinates, Parameterization

STEP = 1 / 400  # of a weight for a step of 1 in a coordinate: Adam's default rate here, 4, is the original's 0.01


@PARAMETERIZATIONS.register("deep-prior", examples=[{"width": 4, "depth": 2}, {"width": 3, "depth": 1, "seed": 1}])
@dataclass(frozen=True)
class DeepPrior(Parameterization):
    r"""The weights of an untrained convolutional network: :math:`x = 255\,\sigma(f_{z/400}(n)) - \text{mean}`, n fixed noise.

    z: (B, 1, h, w), all weights of a sample's own network and zeros after them; x: (B, C, H, W) canonical. f: `depth` times half the size
    by a convolution of stride 2, as many times twice the size by bilinear interpolation and a convolution, with what the way down had at
    this size added by a convolution of 1x1; 3x3 convolutions of `width` channels, each normalised over the image, leaky ReLUs. seed: of n,
    which is the same for all samples. A run begins with random weights, from each sample's generator: there are none for a given image.
    Source: Ulyanov, Vedaldi, Lempitsky 2018 (deep image prior), with fewer channels: the network shall run on a CPU.

    >>> written = DeepPrior(width=4, depth=2).at((3, 16, 16), PixelSpace(16))
    >>> z = written.start(torch.zeros(2, 3, 16, 16), [torch.Generator().manual_seed(s) for s in (0, 1)])
    >>> written.decode(z).shape
    torch.Size([2, 3, 16, 16])
    """

    width: int = 32
    depth: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("width", self.width)
        check_count("depth", self.depth)

    def at(self, shape: Sequence[int], space: PixelSpace) -> DeepCoordinates:
        channels, height, width = (int(n) for n in shape)
        noise = torch.rand((1, self.width, height, width), generator=torch.Generator().manual_seed(self.seed))
        return DeepCoordinates(self.width, self.depth, channels, noise, space.mean_colour)


class DeepCoordinates(Coordinates):
    """See `DeepPrior`."""

    def __init__(self, width: int, depth: int, channels: int, noise: Tensor, mean: Tensor) -> None:
        self._depth, self._noise, self._mean = depth, noise, mean
        one, three = (width, width, 1, 1), (width, width, 3, 3)
        self._shapes = [three] * depth + [one, three] * depth + [(channels, width, 1, 1)]
        self._count = sum(math.prod(shape) + shape[0] for shape in self._shapes)
        self._rows = math.isqrt(self._count - 1) + 1
        self._columns = -(-self._count // self._rows)

    def encode(self, x: Tensor) -> Tensor:
        raise InputError(
            "A deep prior has no weights for a given image: begin from noise (start='noise'), or take another parameterization."
        )

    def decode(self, z: Tensor) -> Tensor:
        return torch.cat([self._image(weights) for weights in z.flatten(1)]) * 255 - self._mean.to(z)

    def start(self, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Return random weights (He et al. 2015), biases 0, of each sample's own generator."""
        samples = []
        for generator in generators:
            drawn = torch.zeros(self._rows * self._columns)
            place = 0
            for shape in self._shapes:
                size = math.prod(shape)
                spread = math.sqrt(2 / math.prod(shape[1:])) / STEP
                drawn[place : place + size] = torch.randn(size, generator=generator) * spread
                place += size + shape[0]
            samples.append(drawn.view(1, self._rows, self._columns))
        return torch.stack(samples).to(x)

    def _image(self, weights: Tensor) -> Tensor:
        """The image of one sample within 0 and 1, (1, C, H, W)."""
        parts, place = [], 0
        for shape in self._shapes:
            size = math.prod(shape)
            weight, bias = weights[place : place + size].view(shape), weights[place + size : place + size + shape[0]]
            parts.append((weight * STEP, bias * STEP))
            place += size + shape[0]
        h, passed = self._noise.to(weights), []
        for weight, bias in parts[: self._depth]:
            passed.append(h)
            h = _layer(h, weight, bias, stride=2)
        for k in range(self._depth):
            beside = passed.pop()
            side, main = parts[self._depth + 2 * k : self._depth + 2 * k + 2]
            h = F.interpolate(h, beside.shape[-2:], mode="bilinear", align_corners=False) + F.conv2d(beside, *side)
            h = _layer(h, *main)
        return torch.sigmoid(F.conv2d(h, *parts[-1]))


def _layer(x: Tensor, weight: Tensor, bias: Tensor, stride: int = 1) -> Tensor:
    """A 3x3 convolution, normalised over the image, and a leaky ReLU."""
    h = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), weight, bias, stride)
    h = h - h.mean(dim=(2, 3), keepdim=True)
    return F.leaky_relu(h / (h.square().mean(dim=(2, 3), keepdim=True) + 1e-5).sqrt(), 0.2)
