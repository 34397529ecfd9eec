"""T, what Φ is shown of an image: a view drawn anew at each step, from each sample's own generator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..registry import Registry
from ..representations.receptive_field import paper_jitter
from .pull import pull

TRANSFORMS: Registry[type[Transform]] = Registry("transform", see="docs/parts.md")

Draw = Any  # what one sample's generator gave for one view, as plain values: numbers, tuples of them
View = Sequence[Draw]  # one draw for each sample


class Transform(ABC):
    """T: canvas (B, C, H, W) -> what Φ is shown (B, C, h, w); x itself never moves, and sample b depends on x[b] and its own draw alone.

    views: how many a step; the loss is their mean. revision: raised when the values change, so that stores compute anew.
    A member is a frozen dataclass of plain values with `sample` and `__call__`; the rest has defaults: no border, the adjoint by autograd.
    """

    views: int = 1
    revision: int = 1

    @abstractmethod
    def sample(self, generator: torch.Generator, count: int) -> list[Draw]:
        """Return `count` draws for one sample, in plain values."""

    @abstractmethod
    def __call__(self, x: Tensor, view: View) -> Tensor:
        """Return what Φ is shown of each canvas, differentiable in x. view: one draw a sample."""

    @property
    @abstractmethod
    def still(self) -> Draw:
        """The draw of the view without chance, in which the energy of a result is given."""

    @property
    def fixed(self) -> bool:
        """Whether every view is the still one."""
        return False

    @property
    def whole(self) -> bool:
        """Whether the still view is the canvas itself."""
        return True

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size of x for an input of Φ of this size."""
        return size

    def crop(self, x: Tensor) -> Tensor:
        """Return what a task gives of the canvas: what Φ sees of it in the still view."""
        return self(x, [self.still] * len(x))

    def draw(self, generators: Sequence[torch.Generator], steps: int) -> list[list[View]]:
        """Return [step][view][sample]: each sample's draws from its own generator."""
        draws = [self.sample(g, steps * self.views) for g in generators]
        return [[[d[t * self.views + v] for d in draws] for v in range(self.views)] for t in range(steps)]

    def show(self, x: Tensor, view: View) -> tuple[Tensor, Callable[[Tensor, Tensor], None]]:
        """Return what Φ is shown, without a graph, and the adjoint: it adds to a gradient in x, in place, what one in that is."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            seen = self(leaf, view)

        def add(gradient: Tensor, of_seen: Tensor) -> None:
            gradient += pull([seen], leaf, [of_seen])

        return seen.detach(), add


@TRANSFORMS.register("jitter", examples=[{"amount": 1}, {"amount": 3}])
@dataclass(frozen=True)
class Jitter(Transform):
    """A fresh random shift of each sample at each step (IJCV Sect. 3.4): Φ sees a window of x, x itself never moves.

    amount: j >= 1; x is j - 1 pixels larger than Φ's input in both directions and the window starts at 0..j-1.
    The paper's rule for a layer is j = max(round(stride / 4), 1). j = 1 is no jitter.

    >>> jitter = Jitter(3)
    >>> jitter.canvas((8, 8))
    (10, 10)
    >>> jitter(torch.zeros(2, 3, 10, 10), [(0, 2), (1, 1)]).shape
    torch.Size([2, 3, 8, 8])
    """

    amount: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.amount, int) or isinstance(self.amount, bool) or self.amount < 1:
            raise InputError(f"The jitter amount is a whole number of pixels, 1 for none; got {self.amount!r}")

    @staticmethod
    def for_stride(stride: float) -> Jitter:
        """Return the paper's rule, halves rounded up as MATLAB does.

        >>> [Jitter.for_stride(s).amount for s in (1, 2, 4, 6, 8, 16, 32)]
        [1, 1, 1, 2, 2, 4, 8]
        """
        return Jitter(paper_jitter(stride))

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        return size[0] + self.amount - 1, size[1] + self.amount - 1

    @property
    def fixed(self) -> bool:
        return self.amount == 1

    @property
    def whole(self) -> bool:
        return self.amount == 1

    @property
    def still(self) -> tuple[int, int]:
        """Where the centre crop starts: floor((j - 1) / 2) both ways."""
        return (self.amount - 1) // 2, (self.amount - 1) // 2

    def sample(self, generator: torch.Generator, count: int) -> list[tuple[int, int]]:
        return [(row, column) for row, column in torch.randint(self.amount, (count, 2), generator=generator).tolist()]

    def __call__(self, x: Tensor, view: View) -> Tensor:
        """x (B, C, H+j-1, W+j-1), one offset a sample -> (B, C, H, W); the gradient goes back into each window."""
        if self.amount == 1:
            return x.view_as(x)
        if all(o == view[0] for o in view):
            (top, left), height, width = view[0], *self._inner(x)
            return x[..., top : top + height, left : left + width]
        return _Windows.apply(x, tuple(view), self._inner(x))  # type: ignore[no-any-return]

    def show(self, x: Tensor, view: View) -> tuple[Tensor, Callable[[Tensor, Tensor], None]]:
        """See `Transform.show`: a window needs no graph."""
        return self(x, view).detach(), lambda gradient, of_seen: _add_windows(gradient, of_seen, view)

    def _inner(self, x: Tensor) -> tuple[int, int]:
        return x.shape[-2] - self.amount + 1, x.shape[-1] - self.amount + 1


class _Windows(torch.autograd.Function):
    """One window of each sample. Slicing sample by sample under autograd would make B canvases of zeros."""

    @staticmethod
    def forward(ctx, x, offsets, size):  # type: ignore[no-untyped-def]
        ctx.shape, ctx.offsets = x.shape, offsets
        out = x.new_empty(*x.shape[:2], *size)
        for sample, (top, left) in enumerate(offsets):
            out[sample] = x[sample, :, top : top + size[0], left : left + size[1]]
        return out

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        out = grad.new_zeros(ctx.shape)
        _add_windows(out, grad, ctx.offsets)
        return out, None, None


def _add_windows(canvas: Tensor, window: Tensor, offsets: Sequence[tuple[int, int]]) -> None:
    """Add to each sample of a canvas, in place, what belongs to its window."""
    height, width = window.shape[-2:]
    for sample, (top, left) in enumerate(offsets):
        canvas[sample, :, top : top + height, left : left + width] += window[sample]
