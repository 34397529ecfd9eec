"""Where the priors are centred: at a colour that natural pictures have on average, whatever a network subtracts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..pixels.images import LUMA, ImageLike
from ..pixels.pixelspace import Fit, PixelSpace
from .base import Representation, Wrapped

MEAN_COLOUR = (123.68, 116.779, 103.939)  # of ImageNet's photographs, red, green, blue, as most networks subtract it
GREY = sum(weight * level for weight, level in zip(LUMA, MEAN_COLOUR, strict=True))
NATURAL = (70.0, 160.0)  # data sets of photographs have means of 96 to 130 in every channel; 0, 1 and 255 are no means of any


def natural_colour(space: PixelSpace) -> Tensor:
    """Return the colour (C, 1, 1), in levels, around which pictures of a space are looked for.

    It is the space's own mean where that can be one of photographs, and ImageNet's where it cannot: a network that has its
    normalisation inside, or takes 0 to 1 as it is, says a mean of 0, which is black.

    >>> natural_colour(PixelSpace.caffe()).flatten().tolist()
    [123.0, 117.0, 104.0]
    >>> natural_colour(PixelSpace(8, "rgb", scale=1.0)).flatten().round().tolist()
    [124.0, 117.0, 104.0]
    """
    own = space.mean_colour
    if bool(((own >= NATURAL[0]) & (own <= NATURAL[1])).all()):
        return own
    levels = MEAN_COLOUR if space.channels in ("rgb", "bgr") else (GREY,) * space.count
    return torch.tensor(levels).view(-1, 1, 1)


def centred(phi: Representation) -> Representation:
    """Return Φ as a function of images less the natural colour: itself where the mean of its space is one.

    Regularizers, the bound, starts and borders are all centred at 0, and so belong to these images.

    >>> from .base import from_callable
    >>> phi = from_callable(lambda x: x, PixelSpace(8, "grey"))
    >>> centred(phi)(torch.zeros(1, 1, 1, 1)).round().item(), centred(phi).space.decode(torch.zeros(1, 1, 1, 1)).round().item()
    (117.0, 117.0)
    """
    colour = natural_colour(phi.space)
    return phi if torch.equal(colour, phi.space.mean_colour) or isinstance(phi, Centred) else Centred(phi, colour)


class Centred(Wrapped):
    """See `centred`. colour: (C, 1, 1) levels, what an image of zeros is."""

    def __init__(self, inner: Representation, colour: Tensor) -> None:
        super().__init__(inner)
        own = inner.space
        self.shift = colour - own.mean_colour
        mean = [m * own.scale / 255.0 for m in colour.flatten().tolist()]
        self.space = CentredSpace(
            own.size, own.channels, own.scale, tuple(mean[::-1] if own.channels == "bgr" else mean), own.std, own.fit, own
        )

    def __call__(self, x: Tensor) -> Tensor:
        return self.inner(self.shown(x))

    def shown(self, x: Tensor) -> Tensor:
        """Return what the inner representation is shown of images x, in its own pixels."""
        return x + self.shift.to(x)

    def unit_named(self, name: str) -> int:
        """Find the unit of a class name: the units are the inner representation's."""
        return self.inner.unit_named(name)


@dataclass(frozen=True)
class CentredSpace(PixelSpace):
    """Pixels less the natural colour. of: the space of the representation, in which tensors are given and results recorded."""

    of: PixelSpace = field(default_factory=PixelSpace)

    def encode(self, image: ImageLike, size: tuple[int, int] | None = None, fit: Fit | None = None) -> Tensor:
        """A picture -> levels less the natural colour; a canonical tensor is one of the space that this is made of."""
        x = super().encode(image, size, fit)
        return x - (self.mean_colour - self.of.mean_colour).to(x) if isinstance(image, Tensor) else x

    def to_dict(self) -> dict[str, Any]:
        """What the space that this is made of is as plain values."""
        return self.of.to_dict()
