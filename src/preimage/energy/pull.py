"""A gradient in what functions give, as one in what they were given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def pull(outputs: Sequence[Tensor], given: Tensor, slopes: Sequence[Tensor]) -> Tensor:
    """Return the gradient in `given` of a function whose gradients in the outputs of a graph are `slopes`.

    The same bits as `torch.autograd.grad(outputs, given, slopes)`, which imports all of SymPy at its first call to compare the shapes: half
    of the time of a short run. Raises RuntimeError, as that does, where the graph does not lead from every output to `given`.

    >>> x = torch.tensor([3.0, 4.0], requires_grad=True)
    >>> pull([x.square(), 2 * x], x, [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])])
    tensor([6., 2.])
    """
    if not all(o.requires_grad and o.shape == s.shape for o, s in zip(outputs, slopes, strict=True)):
        return torch.autograd.grad(outputs, given, slopes)[0]  # which says what is wrong
    with torch.enable_grad():
        end = _End.apply(len(slopes), *slopes, *outputs)
    return torch.autograd.grad(end, given)[0]


class _End(torch.autograd.Function):
    """One number, with no value of its own, whose gradients in the outputs are the slopes."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> Tensor:
        ctx.slopes = tensors[:count]
        return tensors[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[Any, ...]:
        return (None, *(None for _ in ctx.slopes), *ctx.slopes)
