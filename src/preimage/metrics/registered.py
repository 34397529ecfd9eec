"""Metrics by name: those that are registered are taken of every result, kept with a revision of their own, and shown with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from ..registry import Registry
from .features import top1_agreement
from .pictures import SCALES, WINDOW, ms_ssim, naturalness, psnr, roughness, ssim

if TYPE_CHECKING:
    from ..networks.network import Network

METRICS: Registry[type[Metric]] = Registry("metric", see="CONTRIBUTING.md, A metric")


@dataclass(frozen=True)
class Seen:
    """What a metric is taken of: one image, and what is known beside it.

    Parameters
    ----------
    image : levels 0–255, not clipped, (1, C, H, W)
    original : the photograph's levels, (1, C, H, W), or None
    network : the `Network` that the features are of, if it has classes, or None
    """

    image: Tensor
    original: Tensor | None = None
    network: Network | None = None


class Metric(ABC):
    """One number of one image. A subclass that is registered is taken of every result; `revision` rises when its values change.

    Attributes
    ----------
    beside_original : bool, default True
        Whether there is nothing to measure without a photograph of the same size.
    needs_network : bool, default False
        Whether it needs a network with classes, so that it is taken where one is open.
    shown : tuple of "result", "store", "audit"; default all
        Where it is taken. In an audit the number says how alike two images are, larger or smaller.
    """

    revision: ClassVar[int] = 1
    beside_original: ClassVar[bool] = True
    needs_network: ClassVar[bool] = False
    shown: ClassVar[tuple[str, ...]] = ("result", "store", "audit")

    @abstractmethod
    def __call__(self, seen: Seen) -> float | None:
        """Return the number, or None where it is not defined for such an image."""

    @classmethod
    def sentence(cls) -> str:
        """Return what it is, for tables: the first line of its docstring."""
        return (cls.__doc__ or "").strip().partition("\n")[0].rstrip(".")


def measure_image(seen: Seen, where: str, names: Mapping[str, int] | None = None) -> dict[str, float]:
    """Return the registered metrics of one image that are taken `where` ("result", "store" or "audit") and defined for it, by name.

    names: leave out those that are there already in this revision.

    >>> import torch
    >>> x = torch.arange(0.0, 256.0).view(1, 1, 16, 16)
    >>> {k: round(v, 3) for k, v in measure_image(Seen(x / 2, x), "result").items()}["psnr"]
    10.783
    """
    found = {}
    for name in METRICS:
        metric = METRICS[name]
        if where not in metric.shown or (names or {}).get(name) == METRICS.revision(name):
            continue
        if metric.beside_original and (seen.original is None or seen.original.shape != seen.image.shape):
            continue
        if metric.needs_network and seen.network is None:
            continue
        value = metric()(seen)
        if value is not None:
            found[name] = float(value)
    return found


def metric_revisions(where: str = "store") -> dict[str, int]:
    """Return the revision of each registered metric that is taken `where`."""
    return {name: METRICS.revision(name) for name in METRICS if where in METRICS[name].shown}


def _pair(seen: Seen, least: int = 1) -> tuple[Tensor, Tensor] | None:
    """The image and its original, where they are pictures of at least so many pixels a side."""
    assert seen.original is not None
    fits = min(seen.original.shape[2:]) >= least and seen.original.shape[1] in (1, 3)
    return (seen.image, seen.original) if fits else None


@METRICS.register("psnr")
class PSNR(Metric):
    """peak signal-to-noise ratio in dB."""

    def __call__(self, seen: Seen) -> float | None:
        assert seen.original is not None
        return psnr(seen.image, seen.original).item()


@METRICS.register("ssim")
class SSIM(Metric):
    """structural similarity, 1 for the same image."""

    def __call__(self, seen: Seen) -> float | None:
        pair = _pair(seen, WINDOW)
        return None if pair is None else ssim(*pair).item()


@METRICS.register("ms_ssim")
class MultiScaleSSIM(Metric):
    """the same at five scales."""

    shown = ("audit",)

    def __call__(self, seen: Seen) -> float | None:
        pair = _pair(seen, WINDOW * 2 ** (len(SCALES) - 1))
        return None if pair is None else ms_ssim(*pair).item()


@METRICS.register("naturalness")
class Naturalness(Metric):
    """how much of the photograph's orientations of the gradient the image has, 1 for all."""

    shown = ("result", "store")

    def __call__(self, seen: Seen) -> float | None:
        pair = _pair(seen, WINDOW)
        return None if pair is None else naturalness(*pair).item()


@METRICS.register("roughness")
class Roughness(Metric):
    """total variation over that of the photograph, 1 for the same."""

    shown = ("result", "store")

    def __call__(self, seen: Seen) -> float | None:
        pair = _pair(seen, WINDOW)
        return None if pair is None else roughness(*pair).item()


@METRICS.register("consistent")
class Consistent(Metric):
    """whether the network's most likely class is the photograph's, 1 or 0."""

    needs_network = True
    shown = ("store",)

    def __call__(self, seen: Seen) -> float | None:
        assert seen.original is not None and seen.network is not None
        return float(top1_agreement(seen.network, seen.image, seen.original))
