"""What of a photograph a unit answers to: the gradient, guided backpropagation and the deconvnet, with the patch that the unit sees."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..pixels import images as pictures
from ..pixels.images import ImageLike
from ..pixels.pixelspace import Fit
from ..representations.base import Representation, derived
from ..representations.cnn import Layer
from ..representations.relus import Backward
from ..representations.units import as_indices
from ..solvers.compute import Computation, Compute
from .inputs import load_images, size_of

if TYPE_CHECKING:
    import PIL.Image

METHODS = ("gradient", "guided", "deconvnet")


@dataclass
class Saliency:
    """What `saliency` found, image by image.

    slopes: (B, C, H, W), what was traced back to the pixels. responses: (B,), of the unit. places: its position in the map, () where it has
    none. patches: (top, left, height, width) of what the unit sees of the image. images: (B, C, H, W), levels 0–255. labels, method.
    """

    method: str
    slopes: Tensor
    responses: Tensor
    places: list[tuple[int, ...]]
    patches: list[tuple[int, int, int, int]]
    images: Tensor
    labels: list[str]

    def pil(self) -> list[PIL.Image.Image]:
        """Return for each image its patch and, to the right of it, what was traced back: grey is nothing, the largest is full contrast."""
        shown = []
        for image, slope, (top, left, height, width) in zip(self.images, self.slopes, self.patches, strict=True):
            part = slope[:, top : top + height, left : left + width]
            traced = 127.5 + 127.5 * part / part.abs().max().clamp(min=1e-30)
            both = torch.cat([image[:, top : top + height, left : left + width], traced.to(image)], dim=2)
            shown.append(pictures.to_pil(both))
        return shown


def saliency(
    phi: Representation,
    image: ImageLike | Sequence[ImageLike],
    unit: Any,
    method: str = "gradient",
    *,
    fit: Fit | None = None,
    device: str | torch.device | None = None,
) -> Saliency:
    """Trace a unit's answer to a photograph back to its pixels.

    Parameters
    ----------
    phi : representation
        Whose unit, a `Layer` for the patch; the others see the whole image.
    image : as of `invert`
        What is shown.
    unit : number, class name or (channel, row, column)
        A channel of a map is taken where it is strongest, image by image.
    method : "gradient", "guided" or "deconvnet"
        The gradient as it is (Simonyan et al. 2014); one that is rectified at every ReLU, too (guided backpropagation: Springenberg et al.
        2015); or one that is rectified there and does not ask whether the ReLU was open (Zeiler and Fergus 2014). Those two find what
        excites the unit and not what inhibits it; Adebayo et al. 2018 show that they say more of the image than of the unit.
    fit, device : as of `invert`

    Returns
    -------
    Saliency : slopes, responses, places and patches

    Raises
    ------
    InputError : for another method, a unit that is not there, and a representation that has no gradient in the image

    Examples
    --------
    >>> import preimage
    >>> phi = preimage.from_callable(lambda x: x[:, :, :2].mean(dim=(2, 3)), preimage.PixelSpace(4, "grey"))
    >>> saliency(phi, np.full((4, 4), 200, np.uint8), 0).slopes[0, 0, :, 0]
    tensor([0.1250, 0.1250, 0.0000, 0.0000])
    """
    if method not in METHODS:
        raise InputError(f"The method is one of {', '.join(METHODS)}; got {method!r}.")
    computation = Computation(phi, device, None, Compute())
    phi = computation.phi
    indices = as_indices(phi, unit)
    with computation.session():
        x, labels, _ = load_images(phi, image, fit)
        x = x.to(computation.device, computation.dtype)
        found = [_trace(phi, x[b : b + 1], indices, method) for b in range(len(x))]
    places = [place for _, _, place in found]
    return Saliency(
        method,
        torch.cat([slope for slope, _, _ in found]).cpu(),
        torch.tensor([response for _, response, _ in found]),
        places,
        [_patch(phi, place, size_of(x)) for place in places],
        phi.space.decode(x).cpu(),
        labels,
    )


def _trace(phi: Representation, x: Tensor, indices: tuple[int, ...], method: str) -> tuple[Tensor, float, tuple[int, ...]]:
    """The slope (1, C, H, W), the unit's response, and its place in the map."""
    mode: AbstractContextManager[Any] = nullcontext() if method == "gradient" else Backward(gated=method == "guided")
    leaf = x.detach().requires_grad_()
    with torch.enable_grad(), mode, derived([phi]):
        features = phi(leaf)[0]
        if len(indices) > features.dim() or any(not -n <= i < n for i, n in zip(indices, features.shape, strict=False)):
            raise InputError(f"{phi.name} has features of shape {tuple(features.shape)}, and no unit {indices}.")
        channel = features[indices[0]]
        place = indices[1:] or tuple(int(i) for i in np.unravel_index(int(channel.argmax()), tuple(channel.shape)))
        response = channel[place] if place else channel
        if not response.requires_grad:
            raise InputError(f"{phi.name} has no gradient in the image.")
        (slope,) = torch.autograd.grad(response, leaf)
    return slope, float(response.detach()), place


def _patch(phi: Representation, place: tuple[int, ...], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """What a unit sees of an image of this size, as far as that is known."""
    field = phi.info.field if isinstance(phi, Layer) else None
    if field is None or len(place) != 2:
        return (0, 0, *size)
    ends = []
    for span, k, n in ((field.rows, place[0], size[0]), (field.cols, place[1], size[1])):
        first, last = (0, n) if span.whole else span.extent(k)
        low, high = max(0, int(first)), min(n, int(-(-last // 1)))
        ends.append((low, high) if low < high else (0, n))
    (top, bottom), (left, right) = ends
    return top, left, bottom - top, right - left
