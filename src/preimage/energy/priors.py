"""What related methods ask of an image beside the paper's two regularizers."""

from __future__ import annotations

from dataclasses import dataclass

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
