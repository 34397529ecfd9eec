"""The filters of FRAME: centre-surround and Gabor filters of several sizes, of the grey and the colours of an image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..pixels.pixelspace import PixelSpace
from .base import Representation, check_pixels

AXES = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]], dtype=torch.float64)
"""Grey, and two differences of colours, at right angles to each other."""


class FilterBank(nn.Module, Representation):
    r"""Filter an image as FRAME does: itself, :math:`LoG(T)` and the two halves of :math:`Gabor(T, \theta)`, on a torus.

    x: (B, C, H, W) -> (B, F·C, H, W). For an image of three colours C are its grey and two differences of colours, orthonormal; other
    channels are taken each by itself.

    LoG(x, y | T) ∝ (x² + y² − T²) exp(−(x² + y²)/T²); Gabor(x, y | T, θ) ∝ exp(−(4u² + v²)/(2T²)) exp(−2πi u/T), u along θ, v across.
    Each less its mean and of norm 1; a half that vanishes at whole pixels, as sin(πx), is left out.

    Parameters
    ----------
    space : PixelSpace
        Of the images; any size.
    surrounds : numbers, default (√2/2, 1, 2, 4)
        T of the centre-surround filters, in pixels.
    waves : numbers, default (2, 4, 8, 12)
        T of the Gabor filters, in pixels: one wavelength.
    directions : int, default 4
        How many θ, evenly over half a turn.

    Raises
    ------
    InputError : for a T that is not above 0, and less than one direction

    Source: Zhu, Wu, Mumford, Filters, random fields and maximum entropy (FRAME), IJCV 27(2), 1998, the forms of its filters, without its
    spectrum analysers and with fewer sizes and directions; the paper's is a bank to choose from.

    >>> phi = FilterBank(PixelSpace(None, "grey"), surrounds=(1.0,), waves=(4.0,), directions=2)
    >>> phi(torch.zeros(2, 1, 16, 12)).shape
    torch.Size([2, 6, 16, 12])
    """

    jitter = 1
    name = "frame"
    receptive_field = None
    space: PixelSpace

    def __init__(
        self,
        space: PixelSpace,
        surrounds: Sequence[float] = (math.sqrt(0.5), 1.0, 2.0, 4.0),
        waves: Sequence[float] = (2.0, 4.0, 8.0, 12.0),
        directions: int = 4,
    ) -> None:
        super().__init__()
        if directions < 1 or not all(0 < t < math.inf for t in (*surrounds, *waves)):
            raise InputError(f"Filters have sizes above 0 and at least one direction; got {surrounds}, {waves} and {directions}.")
        self.space, self.surrounds, self.waves, self.directions = space, tuple(surrounds), tuple(waves), directions
        self._kept: dict[tuple[int, int], Tensor] = {}

    def extra_repr(self) -> str:
        return f"surrounds={self.surrounds}, waves={self.waves}, directions={self.directions}"

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) canonical images -> (B, F·C, H, W)."""
        check_pixels(self)
        height, width = x.shape[-2:]
        if (height, width) not in self._kept:
            self._kept[height, width] = torch.fft.rfft2(self.kernels(height, width))
        seen = self._kept[height, width].to(device=x.device, dtype=torch.promote_types(x.dtype, torch.complex64))
        if x.shape[1] == 3:
            axes = AXES / AXES.norm(dim=1, keepdim=True)
            x = torch.einsum("dc,bchw->bdhw", axes.to(x), x)
        out: Tensor = torch.fft.irfft2(torch.fft.rfft2(x).unsqueeze(2) * seen, s=(height, width))
        return out.flatten(1, 2)

    def kernels(self, height: int, width: int) -> Tensor:
        """Return the filters on a torus of this size, (F, H, W) in float64, their centre at row 0, column 0."""
        y, x = torch.meshgrid(_places(height), _places(width), indexing="ij")
        point = torch.zeros(height, width, dtype=torch.float64)
        point[0, 0] = 1.0
        found = [point]
        for kernel in self._shapes(x, y):
            kernel = kernel - kernel.mean()
            norm = kernel.norm()
            if norm > 1e-6:
                found.append(kernel / norm)
        return torch.stack(found)

    def _shapes(self, x: Tensor, y: Tensor) -> Iterator[Tensor]:
        square = x.square() + y.square()
        for t in self.surrounds:
            yield (square - t**2) * torch.exp(-square / t**2)
        for t in self.waves:
            for k in range(self.directions):
                angle = math.pi * k / self.directions
                along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
                window = torch.exp(-(4 * along.square() + across.square()) / (2 * t**2))
                yield window * torch.cos(2 * math.pi * along / t)
                yield window * torch.sin(2 * math.pi * along / t)


def _places(n: int) -> Tensor:
    """0, 1, 2, … and, from the other side, …, -2, -1."""
    found: Tensor = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
    return found
