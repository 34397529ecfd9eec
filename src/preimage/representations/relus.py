"""ReLUs that let something pass below zero, whatever module or function calls them, in place or not."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_IN_PLACE = (torch.relu_, Tensor.relu_)
_RELUS = (torch.relu, F.relu, Tensor.relu, *_IN_PLACE)


class Leaky(TorchFunctionMode):
    """While entered, every ReLU is one with a slope below zero; with `opened` only for the gradient, and the values stay the ReLU's.

    A ReLU in place stays in place: a tensor that others read, or a slice of one, changes as without it.
    """

    def __init__(self, slope: float, opened: bool = False) -> None:
        super().__init__()
        self.slope, self.opened = slope, opened

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _RELUS:
            return func(*args, **kwargs)
        x = args[0] if args else kwargs["input"]
        in_place = func in _IN_PLACE or bool(args[1] if len(args) > 1 else kwargs.get("inplace", False))
        if self.opened:
            return _OpenReLU.apply(x, self.slope, in_place)
        return F.leaky_relu(x, self.slope, inplace=in_place)


class _OpenReLU(torch.autograd.Function):
    """ReLU forward, leaky ReLU backward."""

    @staticmethod
    def forward(ctx, x, slope, in_place):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x > 0)
        ctx.slope = slope
        if not in_place:
            return x.clamp(min=0)
        ctx.mark_dirty(x)
        return x.clamp_(min=0)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (above,) = ctx.saved_tensors
        return torch.where(above, grad, ctx.slope * grad), None, None
