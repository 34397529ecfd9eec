"""Coarse views before fine ones: a run that begins with a small version of the image and ends with the whole."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import whole
from .chance import check_between
from .resampling import resample
from .transforms import TRANSFORMS, Draw, Transform, View


@TRANSFORMS.register("octaves", examples=[{"shift": 1, "ratio": 1.2}, {"count": 2, "ratio": 2.0, "shift": 0}])
@dataclass(frozen=True)
class Octaves(Transform):
    r"""Show Φ the image at rising sizes, rolled by a random shift: :math:`T x = \text{roll}_s(\text{down}_k(x))`.

    x: (B, C, H, W) -> the same, or where not enlarged (B, C, h, w), h = H/ratio^k. A stage is shared out evenly among
    k = count−1, …, 0, so that its last steps see the whole size. shift: s is drawn evenly from −shift to shift, in pixels of the view, both
    ways; what leaves on one side comes in on the other. enlarged: the small view is brought back to the full size, its fine structure
    gone; without it Φ must take smaller images.
    Source: Mordvintsev, Olah, Tyka 2015 (DeepDream), who enlarge what was gained in an octave; here the image has its full size from the
    start and each step is enlarged by the adjoint of the reduction, which is a mean over the pixels in between, not bilinear.

    >>> octaves = Octaves(count=3, ratio=2.0, shift=0, enlarged=False)
    >>> [octaves(torch.zeros(1, 3, 16, 16), [draw]).shape[-1] for draw in octaves.sample(torch.Generator(), 6)]
    [4, 4, 8, 8, 16, 16]
    """

    count: int = 4
    ratio: float = 1.4
    shift: int = 32
    enlarged: bool = True

    def __post_init__(self) -> None:
        whole("count", self.count, 1)
        whole("shift", self.shift, 0)
        check_between("ratio", self.ratio, 1.0, 8.0)

    @property
    def fixed(self) -> bool:
        return self.shift == 0 and (self.count == 1 or self.ratio == 1.0)

    @property
    def still(self) -> Draw:
        """The whole size, not shifted."""
        return (0, 0, 0)

    def sample(self, generator: torch.Generator, count: int) -> list[Draw]:
        """Draw (k, down, right): the octave, by the place in the stage, and the shift."""
        drawn = torch.randint(-self.shift, self.shift + 1, (count, 2), generator=generator).tolist()
        octaves = [self.count - math.ceil((t + 1) * self.count / count) for t in range(count)]
        return [(k, down, right) for k, (down, right) in zip(octaves, drawn, strict=True)]

    def __call__(self, x: Tensor, view: View) -> Tensor:
        seen = [self._view(x[b : b + 1], *draw) for b, draw in enumerate(view)]
        return seen[0] if len(seen) == 1 else torch.cat(seen)

    def _view(self, x: Tensor, k: int, down: int, right: int) -> Tensor:
        height, width = x.shape[-2:]
        small = [max(1, round(n / self.ratio**k)) for n in (height, width)]
        if small != [height, width]:
            x = _resized(x, (small[0], small[1]))
        if self.enlarged and small != [height, width]:
            x = _resized(x, (height, width))
        return torch.roll(x, (down, right), dims=(2, 3)) if down or right else x.view_as(x)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    steps = x.shape[-2] / size[0], x.shape[-1] / size[1]
    fine = max(1, int(max(steps) + 0.5))
    return resample(x, [(steps[0], 0.0, 0.0, 0.0, steps[1], 0.0)], size, "border", fine)
