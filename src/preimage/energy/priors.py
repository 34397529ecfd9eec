"""What related methods ask of an image beside the paper's two regularizers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor

from .regularizers import REGULARIZERS, Regularizer, check_positive, colours, squared_norm


@REGULARIZERS.register("l2", examples=[{}, {"weight": 0.5, "B": 40.0}])
@dataclass(frozen=True)
class L2(Regularizer):
    r"""A small image: :math:`R(x) = \frac{\lambda}{HWB^2}\sum_{uvk} x_{uvk}^2`, the prior of Simonyan, Vedaldi and Zisserman 2014.

    x: (B, C, H, W) grey levels less the mean -> (B,), no unit. weight: λ, the value where every pixel's colour has the norm B, which is
    that of `AlphaNorm`: this is R_α with α = 2 and a weight. The original has no 1/(HWB²), so that its λ means something else at each
    size and scale of pixels.

    >>> import torch
    >>> L2(weight=0.5)(torch.full((2, 1, 8, 8), 80.0))
    tensor([0.5000, 0.5000])
    """

    weight: float = 1.0
    B: float = 80.0

    def __post_init__(self) -> None:
        check_positive("weight", self.weight)
        check_positive("B", self.B)

    def __call__(self, x: Tensor) -> Tensor:
        return squared_norm(x).mean(dim=(1, 2, 3)) * (self.weight / (self.B**2 * colours(x)))

    def add_gradient(self, x: Tensor, gradient: Tensor) -> Tensor:
        """See `Differentiated`: the formula and its derivative."""
        gradient.add_(x, alpha=2 * self.weight / (self.B**2 * colours(x) * x.shape[-2] * x.shape[-1]))
        return self(x)


@REGULARIZERS.register("stay", examples=[{}, {"weight": 0.5, "B": 40.0}])
@dataclass(frozen=True)
class Stay(Regularizer):
    r"""Stay near the image that the run begins with: :math:`R(x) = \frac{w}{HWB^2}\sum_{uvk} (x_{uvk} - a_{uvk})^2`.

    x: (B, C, H, W) grey levels less the mean -> (B,), no unit. weight: w, the value where every pixel's colour is B from a. a is what a
    task's `start` says, so the start is an image; before a task has said so it is the mean colour. Source: the ‖r‖ of Szegedy et al. 2014,
    squared; Hamblin et al. 2024 measure the same distance in features.

    >>> import torch
    >>> a = torch.full((1, 3, 2, 2), 60.0)
    >>> Stay(weight=2.0).begin(a)(a)
    tensor([0.])
    """

    weight: float = 1.0
    B: float = 80.0
    image: Tensor | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_positive("weight", self.weight)
        check_positive("B", self.B)

    def begin(self, x: Tensor) -> Stay:
        """Return the same for runs that begin with these canvases, (B, C, H, W) or (1, C, H, W)."""
        return replace(self, image=x)

    def part(self, samples: slice) -> Stay:
        """See `OfSamples`."""
        return self if self.image is None or len(self.image) == 1 else replace(self, image=self.image[samples])

    def __call__(self, x: Tensor) -> Tensor:
        return squared_norm(self._apart(x)).mean(dim=(1, 2, 3)) * (self.weight / (self.B**2 * colours(x)))

    def add_gradient(self, x: Tensor, gradient: Tensor) -> Tensor:
        """See `Differentiated`: the formula and its derivative."""
        gradient.add_(self._apart(x), alpha=2 * self.weight / (self.B**2 * colours(x) * x.shape[-2] * x.shape[-1]))
        return self(x)

    def _apart(self, x: Tensor) -> Tensor:
        if self.image is None:
            return x
        image = self.image.to(x)
        top, left = (image.shape[-2] - x.shape[-2]) // 2, (image.shape[-1] - x.shape[-1]) // 2  # a crop at the end has no border
        return x - image[..., top : top + x.shape[-2], left : left + x.shape[-1]]
