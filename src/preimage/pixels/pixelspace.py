"""Pixel space: how a network wants its pixels. The only place that knows channel order, scale, mean and size."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import ImageError, InputError, PreimageWarning
from ..ranges import is_real
from . import images
from .images import ImageLike

Fit = Literal["crop", "squash"]
Values = Literal["network", "0-1", "0-255"]
_NORMALISED = 5.0  # no value of a picture that is normalised by a mean and a standard deviation is larger


MOST_CHANNELS = 10_000
REVISION = 1  # raised when the way from a picture to canonical pixels changes


@dataclass(frozen=True)
class PixelSpace:
    """The pixels that a representation takes, and the way from a picture to them and back.

    Everything outside works with the *canonical* image x: (B, C, H, W), RGB or grey, 0–255, **minus the mean colour**.
    The representation itself sees ``(v - mean) / std`` with v in 0..scale and the channels in its own order.

    size: (height, width), or one number for a square; None keeps each picture's own size.
    channels: "rgb", "bgr", "grey", or a number N of channels without colours (then only arrays and tensors are taken).
    scale: the value of white, 255 or 1. mean, std: one number a channel (or one for all), in the representation's own
    order and scale, as a model's documentation gives them.
    fit: "crop" keeps the aspect ratio (short side to size, centre crop); "squash" does not, as the paper's experiments.
    Raises InputError on anything else.

    >>> space = PixelSpace(size=4, channels="bgr", mean=(104, 117, 123))
    >>> x = space.encode(np.full((8, 8, 3), 255, np.uint8))
    >>> x.shape, x[0, :, 0, 0]
    (torch.Size([1, 3, 4, 4]), tensor([132., 138., 151.]))
    >>> space.to_network(x)[0, :, 0, 0]
    tensor([151., 138., 132.])
    """

    size: tuple[int, int] | None = (224, 224)
    channels: str | int = "rgb"
    scale: float = 255.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    fit: Fit = "crop"

    if TYPE_CHECKING:  # what is taken, of which __post_init__ makes what is kept

        def __init__(
            self,
            size: int | tuple[int, int] | None = (224, 224),
            channels: str | int = "rgb",
            scale: float = 255.0,
            mean: float | Sequence[float] = (0.0,),
            std: float | Sequence[float] = (1.0,),
            fit: Fit = "crop",
        ) -> None: ...

    def __post_init__(self) -> None:
        size: Any = self.size
        if isinstance(size, int):
            size = (size, size)
        sides = tuple(size) if isinstance(size, (tuple, list)) else ()
        if size is not None and (len(sides) != 2 or not all(isinstance(s, int) and s > 0 for s in sides)):
            raise InputError(f"The size of a pixel space is (height, width) in pixels or None; got {self.size!r:.80}")
        named = isinstance(self.channels, str) and self.channels in ("rgb", "bgr", "grey")
        if not named and not (isinstance(self.channels, int) and 0 < self.channels <= MOST_CHANNELS):
            raise InputError(f"channels is 'rgb', 'bgr', 'grey' or a number from 1 to {MOST_CHANNELS:,}; got {self.channels!r:.80}")
        if not is_real(self.scale) or self.scale not in (1, 255):
            raise InputError(f"scale is the value of white, 255 or 1; got {self.scale!r:.80}")
        if not isinstance(self.fit, str) or self.fit not in ("crop", "squash"):
            raise InputError(f"fit is 'crop' or 'squash'; got {self.fit!r:.80}")
        object.__setattr__(self, "size", None if size is None else tuple(size))
        object.__setattr__(self, "scale", float(self.scale))
        for field in ("mean", "std"):
            given: Any = getattr(self, field)
            try:
                values = tuple(float(v) for v in (given if np.iterable(given) else (given,)))
            except (TypeError, ValueError, OverflowError):
                values = ()
            values = values * self.count if len(values) == 1 else values
            if len(values) != self.count or not np.isfinite(values).all() or (field == "std" and min(values) <= 0):
                raise InputError(f"{field} is one finite number for each of {self.count} channels (std above 0); got {given!r:.80}")
            object.__setattr__(self, field, values)

    @property
    def count(self) -> int:
        """Number of channels."""
        return self.channels if isinstance(self.channels, int) else 1 if self.channels == "grey" else 3

    @staticmethod
    def imagenet(size: int | tuple[int, int] = 224) -> PixelSpace:
        """torchvision's models: RGB, 0–1, minus the mean of ImageNet, divided by its standard deviation."""
        return PixelSpace(size, "rgb", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    @staticmethod
    def caffe(size: int | tuple[int, int] = 227) -> PixelSpace:
        """Caffe's models: BGR, 0–255, minus 104, 117, 123."""
        return PixelSpace(size, "bgr", 255.0, (104.0, 117.0, 123.0))

    @staticmethod
    def parse(text: str) -> PixelSpace:
        """A space in words, as the command line takes it: imagenet[:SIZE], caffe[:SIZE], or fields of PixelSpace.

        SIZE is one number or HEIGHTxWIDTH; of mean and std, one number or one a channel between slashes. Raises InputError.

        >>> PixelSpace.parse("caffe:224") == PixelSpace.caffe(224)
        True
        >>> PixelSpace.parse("size=32x48,channels=bgr,scale=1,mean=0.4/0.5/0.6,std=0.5").mean
        (0.4, 0.5, 0.6)
        """
        try:
            name, _, size = text.strip().partition(":")
            preset = {"imagenet": PixelSpace.imagenet, "caffe": PixelSpace.caffe}.get(name)
            if preset is not None:
                return preset(parse_size(size)) if size else preset()
            fields = dict(part.strip().split("=", 1) for part in text.split(","))
            if not fields.keys() <= {"size", "channels", "scale", "mean", "std", "fit"} or "size" not in fields:
                raise ValueError
            read: dict[str, Any] = {
                "size": parse_size,
                "channels": _channels,
                "scale": float,
                "mean": _numbers,
                "std": _numbers,
                "fit": str,
            }
            return PixelSpace(**{key: read[key](value) for key, value in fields.items()})
        except InputError:
            raise
        except ValueError as error:
            raise InputError(
                f"A pixel space is written imagenet:224, caffe:227 or size=224,channels=rgb,scale=1,mean=0.5,std=0.5 (channels: rgb, bgr, "
                f"grey or a number; scale: 1 or 255; a mean for each channel as 0.4/0.5/0.6); got {text!r}."
            ) from error

    def encode(self, image: ImageLike, size: tuple[int, int] | None = None, fit: Fit | None = None) -> Tensor:
        """A picture -> canonical (1, C, H, W) float32; a canonical tensor ([B,] C, H, W) is checked and passes as it is.

        image: path, PIL image, uint8/uint16 array (H, W[, C]), or floating-point tensor. size, fit: instead of the space's own.
        Raises ImageError for what cannot be read and for a wrong number of channels, InputError for a wrong tensor. Values of
        other kinds are turned into canonical ones by `to_canonical`.
        """
        if isinstance(image, Tensor):
            return self._canonical(image)
        space = replace(self, size=size or self.size, fit=self.fit if fit is None else fit)
        levels = space._fitted(space._channels_of(image))
        planes = torch.from_numpy(np.array(np.atleast_3d(levels).transpose(2, 0, 1), dtype=np.float32, order="C"))
        return planes.unsqueeze(0) - self.mean_colour

    def decode(self, x: Tensor) -> Tensor:
        """Canonical (B, C, H, W) -> RGB or grey levels 0–255, not clipped."""
        return x + self.mean_colour.to(x)

    def to_network(self, x: Tensor) -> Tensor:
        """Canonical (B, C, H, W) -> what the representation takes, differentiably."""
        gain = [self.scale / 255.0 / s for s in self.std]
        if self.channels == "bgr":
            x = x.flip(1)
        if all(g == gain[0] for g in gain):
            return x if gain[0] == 1.0 else x * gain[0]
        return x * x.new_tensor(gain).view(1, -1, 1, 1)

    def to_canonical(self, x: Tensor, values: Values = "network") -> Tensor:
        """Turn values of another kind into a canonical image (B, C, H, W), differentiably.

        Parameters
        ----------
        x : tensor (B, C, H, W) or (C, H, W)
            The image, in the order of channels that belongs to `values`.
        values : "network", "0-1" or "0-255"
            What x holds: what the representation takes (its order of channels, mean and std), as `to_network` gives it; or colours
            (RGB or grey) from 0 to 1, or from 0 to 255.

        Raises InputError for another kind or number of channels.

        Examples
        --------
        >>> space = PixelSpace.imagenet(2)
        >>> space.to_canonical(torch.full((1, 3, 2, 2), 0.5), "0-1")[0, :, 0, 0]
        tensor([ 3.8250, 11.2200, 23.9700])
        >>> x = torch.full((1, 3, 2, 2), 40.0)
        >>> torch.allclose(space.to_canonical(space.to_network(x)), x)
        True
        """
        x = x.unsqueeze(0) if x.ndim == 3 else x
        if values not in ("network", "0-1", "0-255"):
            raise InputError(f"values is 'network', '0-1' or '0-255'; got {values!r}.")
        if x.ndim != 4 or x.shape[1] != self.count:
            raise InputError(f"A tensor image has shape {tuple(x.shape)}; wanted (B, {self.count}, H, W) or ({self.count}, H, W).")
        x = x if x.is_floating_point() else x.to(torch.float32)
        if values != "network":
            return (x * 255.0 if values == "0-1" else x) - self.mean_colour.to(x)
        x = x * x.new_tensor([s * 255.0 / self.scale for s in self.std]).view(1, -1, 1, 1)
        return x.flip(1) if self.channels == "bgr" else x

    @property
    def mean_colour(self) -> Tensor:
        """(C, 1, 1) in canonical order and levels 0–255."""
        mean = self.mean[::-1] if self.channels == "bgr" else self.mean
        return torch.tensor([m * 255.0 / self.scale for m in mean], dtype=torch.float32, device="cpu").view(-1, 1, 1)

    @property
    def canonical_mean(self) -> tuple[float, ...]:
        """The same as plain numbers."""
        return tuple(m * 255.0 / self.scale for m in (self.mean[::-1] if self.channels == "bgr" else self.mean))

    @property
    def is_canonical(self) -> bool:
        """Whether the representation takes canonical images as they are: `to_network` changes nothing."""
        return self.channels != "bgr" and all(self.scale / 255.0 / s == 1.0 for s in self.std)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a result's record; `from_dict` makes the space again."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> PixelSpace:
        """The space that `to_dict` wrote, also after a trip through JSON.

        >>> PixelSpace.from_dict(PixelSpace.caffe(227).to_dict()) == PixelSpace.caffe(227)
        True
        """
        size = values["size"]
        return PixelSpace(**{**values, "size": None if size is None else tuple(size)})

    def _canonical(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(0) if x.ndim == 3 else x
        if not x.is_floating_point():
            raise InputError(
                f"A tensor image has dtype {x.dtype}; wanted floating point, canonical (0–255 minus the mean colour). "
                "A picture of 8-bit levels goes in as a numpy array, height x width x channels."
            )
        if x.ndim != 4 or x.shape[1] != self.count or 0 in x.shape:
            raise InputError(f"A tensor image has shape {tuple(x.shape)}; wanted (B, {self.count}, H, W) or ({self.count}, H, W).")
        if not bool(torch.isfinite(x).all()):
            raise InputError("A tensor image holds NaN or infinite values. Mend it first.")
        return x.detach()

    def doubt(self, x: Tensor) -> None:
        """Refuse a tensor that is surely no canonical image but values of 0 to 1, and warn of one that is hardly one but normalised.

        For what a user hands in as a picture; of one with 8-bit levels, however flat it is, the canonical values plus the mean colour are
        whole numbers. Raises InputError.
        """
        if isinstance(self.channels, int):  # not colours: their values may be of any size
            return
        low, high = float(x.min()), float(x.max())
        if low == high or max(-low, high) > _NORMALISED:
            return
        levels = x.double() + self.mean_colour.to(x.device, torch.float64)
        if bool(((levels - levels.round()).abs() < 1e-3).all()):
            return
        says = (
            f"A tensor image holds values from {low:.3g} to {high:.3g}, and a canonical one levels 0–255 minus the mean colour. Say what "
            "it is: space.to_canonical(x, 'network') of normalised values, as the network takes them, space.to_canonical(x, '0-1') of "
            "values from 0 to 1; or give a uint8 array, height x width x channels."
        )
        if low >= 0.0 and high <= 1.0:
            raise InputError(says)
        warnings.warn(f"{says} It is taken as a canonical image of next to no contrast.", PreimageWarning, stacklevel=4)

    def _channels_of(self, image: ImageLike) -> np.ndarray:
        if isinstance(image, np.ndarray):
            levels = images.levels_of(image, self.count)
        elif isinstance(image, (str, os.PathLike)) or hasattr(image, "convert"):
            levels = images.read_levels(image)
        else:
            raise ImageError(f"An image is a path, a PIL image, a uint8 array or a canonical tensor; got {type(image).__name__}.")
        found = 1 if levels.ndim == 2 else levels.shape[2]
        if self.count == 1 and found == 3:
            return images.to_grey(levels)
        if self.channels in ("rgb", "bgr") and found == 1:
            return np.broadcast_to(np.atleast_3d(levels), (*levels.shape[:2], 3))  # one plane, seen three times
        if found != self.count:
            raise ImageError(f"The image has {found} channel(s) and the representation takes {self.count} ({self.channels}).")
        return levels

    def _fitted(self, levels: np.ndarray) -> np.ndarray:
        """Resize and centre crop to the size of the space."""
        if self.size is None:
            return levels
        if self.fit == "squash":
            return images.resize(levels, self.size)
        height, width = levels.shape[:2]
        ratio = max(self.size[0] / height, self.size[1] / width)
        scaled = max(round(height * ratio), self.size[0]), max(round(width * ratio), self.size[1])
        if scaled[0] * scaled[1] > images.MAX_PIXELS:
            raise ImageError(
                f"An image of {width}x{height} pixels is too narrow: with its short side at the size that is wanted it would have "
                f"{scaled[1]}x{scaled[0]}. Cut it first, or resize it without keeping the aspect ratio (fit='squash', --squash)."
            )
        levels = images.resize(levels, scaled)
        top, left = (levels.shape[0] - self.size[0]) // 2, (levels.shape[1] - self.size[1]) // 2
        return levels[top : top + self.size[0], left : left + self.size[1]]


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) of "224" or "224x320". Raises InputError.

    >>> parse_size("224"), parse_size("224x320")
    ((224, 224), (224, 320))
    """
    numbers = text.lower().split("x")
    if len(numbers) > 2 or not all(n.strip().isdecimal() and int(n) > 0 for n in numbers):
        raise InputError(f"A size is written 224, or 224x320 for height and width, in pixels; got {text!r}.")
    return int(numbers[0]), int(numbers[-1])


def _channels(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(n) for n in text.split("/"))
