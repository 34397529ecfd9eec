"""The canvas on which a search begins: an inverse's answer, its jitter border, and what makes restarts differ."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..pixels.pixelspace import PixelSpace
from .learned import LearnedInverse

NOISE = 2.0  # grey levels, so that seeds and restarts differ


def start_from_inverse(
    inverse: LearnedInverse,
    phi0: Tensor,
    size: tuple[int, int],
    jitter_canvas: tuple[int, int] | None = None,
    generators: Sequence[torch.Generator | None] = (),
    amplitude: float = NOISE,
) -> Tensor:
    """Make the canvas on which a search for the features begins.

    The inverse's answer, cut to what a picture can have (0–255 as levels), lies in the middle of the canvas, where `Jitter.crop`
    takes it from; the border repeats its edge. A sample with a generator adds noise, uniform in ±amplitude, drawn for all of the canvas.

    Parameters
    ----------
    inverse : LearnedInverse
        Of the representation that gave the features.
    phi0 : tensor (B, C, h, w)
        The target features.
    size : (height, width)
        Of the images that have such features.
    jitter_canvas : (height, width), optional
        `Jitter.canvas(size)`; without jitter the size itself.
    generators : sequence of generators or None, one a sample, optional
        Each sample's own noise; None for a sample is none.
    amplitude : float, default 2
        Of the noise in grey levels.

    Returns
    -------
    tensor (B, C, H + j - 1, W + j - 1)
        Canonical; sample b depends on phi0[b] and its generator alone.
    """
    canvas = size if jitter_canvas is None else jitter_canvas
    border = [c - s for c, s in zip(canvas, size, strict=True)]
    if min(border) < 0:
        raise InputError(f"The canvas has at least the {size[0]}x{size[1]} pixels of the image; got {canvas[0]}x{canvas[1]}.")
    if len(generators) not in (0, len(phi0)):
        raise InputError(f"{len(generators)} generators for {len(phi0)} samples: give one for each, or none.")
    if not amplitude >= 0:
        raise InputError(f"amplitude is a number of grey levels, at least 0; got {amplitude!r}.")
    mean = PixelSpace.from_dict(inverse.about["space"]).mean_colour.to(phi0.device)
    images = torch.cat([inverse(phi0[b : b + 1], size) for b in range(len(phi0))])  # one by one: no bit depends on the batch
    images = (images + mean).clamp(0.0, 255.0) - mean
    top, left = border[0] // 2, border[1] // 2
    x = F.pad(images, (left, border[1] - left, top, border[0] - top), mode="replicate")
    for b, generator in enumerate(generators):
        if generator is not None:
            x[b] += ((torch.rand(x.shape[1:], generator=generator) * 2 - 1) * amplitude).to(x)
    return x
