"""Max pooling whose gradient is partly that of mean pooling: a share of it goes to all places of each window."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_POOLING = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
POOLS = {
    place: mean
    for places, mean in (
        ((torch.max_pool1d, F.max_pool1d), F.avg_pool1d),
        ((torch.max_pool2d, F.max_pool2d), F.avg_pool2d),
        ((torch.max_pool3d, F.max_pool3d), F.avg_pool3d),
    )
    for place in places
}


def pooled(func: Any, share: float, args: Any, kwargs: Any) -> Any:
    """Max pooling as it is, and its gradient partly that of mean pooling; where mean pooling has no such windows, all of its own."""
    most = func(*args, **kwargs)
    given: dict[str, Any] = dict(zip(_POOLING, args, strict=False)) | {"input" if k == "self" else k: v for k, v in kwargs.items()}
    x = given["input"]
    spread = given.get("dilation", 1) not in (1, (1,), (1, 1), (1, 1, 1), [1], [1, 1], [1, 1, 1])
    if not isinstance(most, Tensor) or spread or not (torch.is_grad_enabled() and x.requires_grad):
        return most
    windows = [given["kernel_size"], given.get("stride"), given.get("padding", 0), bool(given.get("ceil_mode", False))]
    mean: Any = POOLS[func]
    if mean is F.avg_pool2d and x.dim() == 4:
        kernel, stride, padding = (_two_of(n) for n in (windows[0], windows[1] or windows[0], windows[2]))
        return _Spread.apply(most, x, share, kernel, stride, padding)
    return _Shared.apply(most, mean(x, *windows, count_include_pad=False), share)


class _Spread(torch.autograd.Function):
    """The maxima of windows of x, as they are; of their gradient this share goes to all places of each window evenly, the rest on.

    As the gradient of mean pooling without what is padded, but each place of the windows is added for all of them at once, in about half
    of its time.
    """

    @staticmethod
    def forward(ctx, most, x, share, kernel, stride, padding):  # type: ignore[no-untyped-def]
        ctx.share, ctx.size, ctx.windows = share, x.shape[-2:], (kernel, stride, padding)
        return most.view_as(most)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (kernel, stride, padding), counts, sides = ctx.windows, [], []
        for n, count, k, s, p in zip(ctx.size, grad.shape[-2:], kernel, stride, padding, strict=True):
            first = torch.arange(count, device=grad.device) * s - p
            counts.append(((first + k).clamp(max=n) - first.clamp(min=0)).to(grad))
            sides.append(max(n + p, (count - 1) * s + k))
        each = grad * (ctx.share / (counts[0][:, None] * counts[1]))
        last = grad.is_contiguous(memory_format=torch.channels_last) and not grad.is_contiguous()
        layout = torch.channels_last if last else torch.contiguous_format
        total = torch.empty((*grad.shape[:2], *sides), dtype=grad.dtype, device=grad.device, memory_format=layout).zero_()
        ends = [(count - 1) * s + 1 for count, s in zip(grad.shape[-2:], stride, strict=True)]
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                total[..., i : i + ends[0] : stride[0], j : j + ends[1] : stride[1]] += each
        spread = total[..., padding[0] : padding[0] + ctx.size[0], padding[1] : padding[1] + ctx.size[1]]
        return grad * (1 - ctx.share), spread, None, None, None, None


class _Shared(torch.autograd.Function):
    """The first of two tensors, whose gradient goes to the second with this share."""

    @staticmethod
    def forward(ctx, first, second, share):  # type: ignore[no-untyped-def]
        ctx.share = share
        return first.view_as(first)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        return grad * (1 - ctx.share), grad * ctx.share, None


def _two_of(n: Any) -> tuple[int, int]:
    """A setting of windows for both sides, which may be given once."""
    both = (n, n) if isinstance(n, int) else tuple(n)
    return (both[0], both[-1])
