"""Plain gradient steps of a chosen length, and such between which the image is tidied up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..energy.chance import check_between
from ..errors import InputError, whole
from .run import SOLVERS, Run, Stage

MEASURES: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda g: torch.ones_like(g[:, :1, :1, :1]),
    "mean": lambda g: g.abs().mean(dim=(1, 2, 3), keepdim=True),
    "rms": lambda g: g.square().mean(dim=(1, 2, 3), keepdim=True).sqrt(),
    "largest": lambda g: g.abs().amax(dim=(1, 2, 3), keepdim=True),
    "sign": lambda g: g.abs(),
}
"""What a gradient (B, C, H, W) is divided by, each sample's by itself; "sign" divides each number by its size."""


@SOLVERS.register("ascent", examples=[{}, {"measure": "sign"}, {"measure": "mean", "momentum": 0.5, "norm": 20.0}])
@dataclass(frozen=True)
class Ascent:
    r"""Steps along the gradient, of a length that is known: :math:`z \leftarrow P(z - \eta\, v)`, :math:`v \leftarrow \mu v + g/n(g)`.

    rate: η, in grey levels where z are pixels; a stage's rate multiplies it. measure: n, what the gradient is divided by: "mean" of its
    sizes (DeepDream: Mordvintsev et al. 2015), "rms", "largest", "sign" for steps of η in every pixel (Goodfellow et al. 2015), "none"
    for the gradient as it is, so that η has its units. momentum: μ. norm: z is brought back to this root mean square after each step,
    which is gradient ascent on a sphere (Erhan et al. 2009); none by default. A gradient that is zero moves nothing.
    """

    rate: float = 1.0
    measure: str = "rms"
    momentum: float = 0.0
    norm: float | None = None

    def __post_init__(self) -> None:
        check_between("rate", self.rate, 0.0, math.inf)
        check_between("momentum", self.momentum, 0.0, 1.0)
        if self.measure not in MEASURES:
            raise InputError(f"measure is one of {', '.join(MEASURES)}; got {self.measure!r}.")
        if self.norm is not None and not (0 < self.norm < math.inf):
            raise InputError(f"norm is the root mean square to keep, a number above 0, or none; got {self.norm!r}.")

    def __call__(self, run: Run, z: Tensor, stages: Sequence[Stage]) -> Tensor:
        for stage in stages:
            z = self._on_sphere(z if stage.jitter else run.crop(z))
            moving = torch.zeros_like(z)
            for views in run.draws(stage):
                moving = self.momentum * moving + measured(run.gradient(z, views if stage.jitter else None), self.measure)
                z = self._on_sphere(run.project(z - self.rate * stage.rate * moving))
        return z

    def _on_sphere(self, z: Tensor) -> Tensor:
        if self.norm is None:
            return z
        return z * (self.norm / z.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=1e-12))


@SOLVERS.register("tidied-ascent", examples=[{}, {"decay": 0.3, "blur": 0.0, "small_norm": 20.0}, {"small_contribution": 90.0}])
@dataclass(frozen=True)
class TidiedAscent:
    r"""Steps along the gradient, after each of which the image is tidied up: :math:`x \leftarrow r(x - \eta\, g / \text{rms}(g))`.

    r, in this order: `decay`, x ← (1 − θ) x; `blur`, a Gaussian of this standard deviation in pixels, every `blur_every` steps beginning
    with the first; `small_norm`, pixels whose norm over the channels is below this percentile are set to the mean colour;
    `small_contribution`, the same for pixels of which |Σ_k x·g| is below this percentile, which to a first approximation is what the energy
    changes by without them. rate: η, in grey levels; a stage's rate multiplies it. Made for pixels: other coordinates are tidied up as if
    they were some. Source: Yosinski, Clune, Nguyen, Fuchs, Lipson 2015, Sect. 3, where the step is a multiple of the gradient itself.
    """

    rate: float = 2.0
    decay: float = 0.0001
    blur: float = 1.0
    blur_every: int = 4
    small_norm: float = 0.0
    small_contribution: float = 0.0

    def __post_init__(self) -> None:
        check_between("rate", self.rate, 0.0, math.inf)
        check_between("decay", self.decay, 0.0, 1.0)
        check_between("blur", self.blur, 0.0, 100.0)
        whole("blur_every", self.blur_every, 1)
        for name in ("small_norm", "small_contribution"):
            check_between(name, getattr(self, name), 0.0, 100.0)

    def __call__(self, run: Run, x: Tensor, stages: Sequence[Stage]) -> Tensor:
        step = 0
        for stage in stages:
            x = x if stage.jitter else run.crop(x)
            for views in run.draws(stage):
                g = run.gradient(x, views if stage.jitter else None)
                x = run.project(self._tidied(x - self.rate * stage.rate * measured(g, "rms"), g, step))
                step += 1
        return x

    def _tidied(self, x: Tensor, g: Tensor, step: int) -> Tensor:
        x = x * (1 - self.decay)
        if self.blur > 0 and step % self.blur_every == 0:
            x = blurred(x, self.blur)
        if self.small_norm > 0:
            x = _without(x, x.square().sum(dim=1).sqrt(), self.small_norm)
        if self.small_contribution > 0:
            x = _without(x, (x * g).sum(dim=1).abs(), self.small_contribution)
        return x


def measured(g: Tensor, measure: str) -> Tensor:
    """Return each sample's gradient over its measure; zeros stay zeros.

    >>> measured(torch.tensor([[[[3.0, -1.0, 0.0]]]]), "sign")
    tensor([[[[ 1., -1.,  0.]]]])
    """
    return g / MEASURES[measure](g).clamp(min=torch.finfo(g.dtype).tiny)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Return images (B, C, H, W) through a Gaussian of this standard deviation in pixels, cut off at four of them, mirrored at the edges.

    >>> blurred(torch.ones(1, 1, 3, 4), 1.0).round(decimals=4).unique()
    tensor([1.])
    """
    radius = int(4 * sigma + 0.5)
    place = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    line = torch.exp(-(place**2) / (2 * sigma**2))
    line = line / line.sum()
    flat = x.flatten(0, 1).unsqueeze(1)
    rows, columns = (_mirrored(n, radius).to(x.device) for n in x.shape[-2:])
    flat = F.conv2d(flat[:, :, rows], line.view(1, 1, -1, 1))
    return F.conv2d(flat[..., columns], line.view(1, 1, 1, -1)).view_as(x)


def _mirrored(n: int, radius: int) -> Tensor:
    """Which of n places stands at each from -radius to n + radius, the edge itself repeated: 1 0 | 0 1 2 | 2 1."""
    k = torch.arange(-radius, n + radius) % (2 * n)
    return torch.where(k < n, k, 2 * n - 1 - k)


def _without(x: Tensor, size: Tensor, percentile: float) -> Tensor:
    """Images (B, C, H, W) less the pixels whose size (B, H, W) is below a percentile of its sample."""
    limit = torch.quantile(size.flatten(1), percentile / 100, dim=1).view(-1, 1, 1)
    return x * (size >= limit).unsqueeze(1)
