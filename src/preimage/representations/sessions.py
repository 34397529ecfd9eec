"""A module made ready for many evaluations, and given back as it was: eval mode, frozen weights, device and type."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode and weights without gradients, each module's and each weight's own setting restored afterwards."""
    training = [(m, m.training) for m in module.modules()]
    wanted = [(p, p.requires_grad) for p in module.parameters()]
    module.eval()
    try:
        for p, _ in wanted:
            p.requires_grad_(False)
        yield
    finally:
        for m, flag in training:
            m.training = flag
        for p, flag in wanted:
            p.requires_grad_(flag)


@contextmanager
def placed(module: nn.Module, device: torch.device | None, dtype: torch.dtype | None) -> Iterator[None]:
    """The module on a device and in a floating-point type for a while; its own tensors come back untouched."""
    tensors = [*module.parameters(), *module.buffers()]
    if all((device is None or t.device == device) and (dtype is None or not t.is_floating_point() or t.dtype == dtype) for t in tensors):
        yield
        return
    with _replaced(tensors, lambda t: t.to(device=device, dtype=dtype if t.is_floating_point() else None)):
        yield


@contextmanager
def channels_last_kernels(module: nn.Module, without: Sequence[str] = ()) -> Iterator[None]:
    """The kernels of a module with channels last for a while, but for those of the modules named in `without`."""
    modules = [m for n, m in module.named_modules() if n not in without]
    kernels = [p for m in modules for p in m.parameters(recurse=False) if p.dim() == 4]
    with _replaced(kernels, lambda t: t.contiguous(memory_format=torch.channels_last)):
        yield


@contextmanager
def _replaced(tensors: Sequence[Tensor], change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    own = [(t, t.data) for t in tensors]
    try:
        for t, data in own:
            t.data = change(data)
        yield
    finally:
        for t, data in own:
            t.data = data


def likes_channels_last(module: nn.Module) -> bool:
    """Whether a network of this kind is faster with channels last on a CPU: one with a convolution that overlaps, not only patches.

    >>> likes_channels_last(nn.Conv2d(3, 8, 3)), likes_channels_last(nn.Conv2d(3, 8, 16, stride=16))
    (True, False)
    """
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.groups < m.in_channels]
    return any(kernel > stride for m in convolutions for kernel, stride in zip(m.kernel_size, m.stride, strict=True))
