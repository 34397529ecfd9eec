"""From unbounded, decorrelated planes to pixels: x = 255 σ(M u · 4/255) - mean; what spectral parameterizations end with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..pixels.pixelspace import PixelSpace

COLOURS, RANGES = ("decorrelated", "plain"), ("sigmoid", "none")
EDGE = 0.5 / 255  # what of the range is left out on both sides where an image is brought into it: half a grey level

# Columns: brightness, blue against red, green against both, each as strong as it is in photographs (Olah et al. 2017, lucid)
_PHOTOGRAPHS = ((0.26, 0.09, 0.02), (0.27, 0.0, -0.05), (0.27, -0.09, 0.03))


class Planes:
    """The last step of a parameterization: planes u (B, C, H, W) without bounds <-> canonical images x.

    Units are such that a change of u by one grey level, independent in each plane, changes pixels by about one where they are mid-grey.

    Parameters
    ----------
    channels : of x
    space : its pixels, for the mean colour
    colours : "decorrelated" for planes that are independent in photographs, where there are three channels; "plain" for the channels
    bounded : "sigmoid" for pixels that stay within 0–255, "none" for the planes as they are, less the mean
    """

    def __init__(self, channels: int, space: PixelSpace, colours: str, bounded: str) -> None:
        self._bounded, self._mean = bounded == "sigmoid", space.mean_colour
        self._mix = mixture(channels) if colours == "decorrelated" else torch.eye(channels, dtype=torch.float64)

    def forth(self, u: Tensor) -> Tensor:
        """Return the image of planes, differentiable."""
        x = _mixed(self._mix, u)
        return torch.sigmoid(x * (4 / 255)) * 255 - self._mean.to(x) if self._bounded else x

    def back(self, x: Tensor) -> Tensor:
        """Return the planes of an image; of one beyond the range, those of the nearest in it."""
        if self._bounded:
            x = torch.logit(((x + self._mean.to(x)) / 255).clamp(EDGE, 1 - EDGE)) * (255 / 4)
        return _mixed(torch.linalg.inv(self._mix), x)

    @property
    def bounded(self) -> bool:
        """Whether pixels stay within 0–255 by themselves."""
        return self._bounded


def mixture(channels: int) -> Tensor:
    """Return M (C, C), whose columns are independent colours of photographs, with rows of mean length 1; the identity but for 3 channels.

    >>> round(float(mixture(3).norm(dim=1).mean()), 6)
    1.0
    """
    if channels != 3:
        return torch.eye(channels, dtype=torch.float64)
    matrix = torch.tensor(_PHOTOGRAPHS, dtype=torch.float64)
    lengths = matrix.square().sum(dim=1).sqrt()
    return matrix / lengths.mean()


def check_planes(colours: str, bounded: str) -> None:
    """Raise InputError for a name that is none."""
    if colours not in COLOURS:
        raise InputError(f"colours is one of {', '.join(COLOURS)}; got {colours!r}.")
    if bounded not in RANGES:
        raise InputError(f"range is one of {', '.join(RANGES)}; got {bounded!r}.")


def _mixed(matrix: Tensor, planes: Tensor) -> Tensor:
    """Each pixel's planes times a matrix."""
    return F.conv2d(planes, matrix.to(planes)[..., None, None]) if len(matrix) > 1 else planes * matrix.to(planes)
