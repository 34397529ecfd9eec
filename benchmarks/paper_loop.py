"""The loop of the paper's code in plain PyTorch, as a user without this library would write it: autograd for everything.

Written from the method (IJCV Sect. 3; nnpreimage.m), not from `preimage.solvers`: a second opinion on what `solver="paper"` computes,
and the time that such a loop takes. One image, uniform noise to begin with, decayed AdaGrad with momentum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

ALPHA, BETA, B = 6.0, 2.0, 80.0
V = B / 6.5
RATE = 0.05 * B**2 / ALPHA
RHO = 0.9


@dataclass(frozen=True)
class Phase:
    """So many iterations at a multiple of the rate, with or without jitter."""

    iterations: int
    rate: float = 1.0
    jitter: bool = True


INVERT = (Phase(300), Phase(50, rate=0.1, jitter=False))
MAXIMIZE = (Phase(300),)


def energy(loss: Callable[[Tensor], Tensor], canvas: Tensor, window: Tensor) -> Tensor:
    """loss of the window, and the two regularizers of the whole canvas, both divided by its number of pixels."""
    pixels = canvas.shape[-2] * canvas.shape[-1]
    range_ = ((canvas**2).sum(1) ** (ALPHA / 2)).sum() / B**ALPHA / pixels
    down, right = canvas[..., 1:, :] - canvas[..., :-1, :], canvas[..., :, 1:] - canvas[..., :, :-1]
    variation = ((down**2).sum() + (right**2).sum()) / V**BETA / pixels
    return loss(window) + range_ + variation


def run(
    loss: Callable[[Tensor], Tensor],
    size: tuple[int, int],
    jitter: int,
    phases: tuple[Phase, ...],
    seed: int = 0,
    see: Callable[[Tensor], object] = lambda x: None,
    device: str = "cpu",
    start: Tensor | None = None,
) -> Tensor:
    """Minimise the energy; the centre of the canvas, (1, 3, H, W), in levels less the mean.

    loss: window (1, 3, H, W) -> a number, C included. see: called with the centre after each step. start: a canvas instead of noise.
    """
    generator = torch.Generator().manual_seed(seed)
    canvas = torch.rand(1, 3, size[0] + jitter - 1, size[1] + jitter - 1, generator=generator) * 2 - 1
    canvas = (canvas / canvas.flatten().quantile(0.95) * B / 3**0.5).to(device) if start is None else start
    middle = (jitter - 1) // 2
    for phase in phases:
        if not phase.jitter:
            canvas, jitter, middle = canvas[..., middle : middle + size[0], middle : middle + size[1]].clone(), 1, 0
        accumulated, momentum = torch.zeros_like(canvas), torch.zeros_like(canvas)
        rate = RATE * phase.rate * size[0] * size[1]
        for _ in range(phase.iterations):
            top, left = (int(torch.randint(jitter, (1,), generator=generator)) for _ in range(2))
            canvas.requires_grad_()
            value = energy(loss, canvas, canvas[..., top : top + size[0], left : left + size[1]])
            (slope,) = torch.autograd.grad(value, canvas)
            with torch.no_grad():
                accumulated = RHO * accumulated + slope**2
                momentum = RHO * momentum - slope / (1 / rate + accumulated.sqrt())
                canvas = canvas + momentum
                canvas = canvas * (2 * B / canvas.norm(dim=1, keepdim=True)).clamp(max=1.0)
                see(canvas[..., middle : middle + size[0], middle : middle + size[1]])
    return canvas[..., middle : middle + size[0], middle : middle + size[1]].detach()
