"""What HOG and SIFT share: image gradients in polar form and their pooling into cells, both safe where the image is flat.

A pixel adds to one or two orientations and at most four cells. It is therefore added where it belongs (one scatter),
instead of being multiplied by zero for all other orientations, as a convolution with one-direction filters does.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError

MIDDLE = 128.0
"""Mean level of the pixel spaces of descriptors that see differences alone: where a pre-image's own mean ends up."""

FLAT = 1e-12
"""Gradients shorter than this (grey levels a pixel) have no direction: their derivative fades to zero there."""


class Axis(NamedTuple):
    """Which cells the pixels of one axis of the image add to, and how much.

    block: (length,) int64, the gap between two cell centres that the pixel lies in: 0 is before the first centre, `cells` after
    the last. weights: (2, length), for the cell before the gap and the cell after it. cells: their number.
    """

    block: Tensor
    weights: Tensor
    cells: int


def grey_planes(x: Tensor, least: tuple[int, int], title: str) -> Tensor:
    """Canonical grey (B, 1, H, W) -> (B, H, W); InputError unless it is one, float32 or float64, and at least (H, W) large."""
    if x.ndim != 4 or x.shape[1] != 1:
        raise InputError(f"{title} takes grey images of shape (B, 1, H, W), levels 0–255; got shape {tuple(x.shape)}.")
    if x.dtype not in (torch.float32, torch.float64):
        raise InputError(f"{title} computes in float32 or float64; got {x.dtype}. Convert the image first.")
    if x.shape[2] < least[0] or x.shape[3] < least[1]:
        raise InputError(
            f"{title} needs an image of at least {least[0]}x{least[1]} pixels (height x width); "
            f"got {x.shape[2]}x{x.shape[3]}. Enlarge the image or take smaller cells."
        )
    return x[:, 0]


def differences(x: Tensor) -> tuple[Tensor, Tensor]:
    """(B, H, W) -> gx, gy (B, H-2, W-2): next pixel less the one before, two pixels apart and not halved.

    A subtraction is exact where both pixels are equal; a filter bank in float32 is not, and normalisation would amplify the rest.
    """
    return x[:, 1:-1, 2:] - x[:, 1:-1, :-2], x[:, 2:, 1:-1] - x[:, :-2, 1:-1]


def modulus(gx: Tensor, gy: Tensor) -> Tensor:
    """Gradient length. Its derivative is the unit vector along the gradient, and zero where there is none.

    >>> g = torch.zeros(2, requires_grad=True)
    >>> modulus(g, g).sum().backward(); g.grad
    tensor([0., 0.])
    """
    return _Modulus.apply(gx, gy)  # type: ignore[no-any-return]


def linear_orientations(gx: Tensor, gy: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Each gradient shared between the two nearest of `count` directions on the full circle: slots, weights.

    slots: (B, H, W) int64, the lower direction plus count/2 (modulo count); weights: (2, B, H, W), the share of the lower
    direction and of the one above it; they sum to the gradient's length. Direction k is the angle 2πk/count of atan2(gy, gx).
    """
    turns = _Turns.apply(gx, gy, count)
    half = count // 2
    with torch.no_grad():  # the clamp is in whole numbers: a NaN must not become an address
        slots = turns.floor().long().add_(half).clamp_(0, count - 1)
        lower = (slots - half).to(turns.dtype)
    length = modulus(gx, gy)
    upper = length * (turns - lower)
    return slots, torch.stack((length - upper, upper))


def fold_slots(slotted: Tensor) -> Tensor:
    """What `pool` made of `linear_orientations` -> one histogram: (2, B, count, h, w) -> (B, count, h, w)."""
    half = slotted.shape[2] // 2
    return slotted[0].roll(half, dims=1) + slotted[1].roll(half + 1, dims=1)


def tents(length: int, cell: int, first: float, spacing: int, count: int, start: int = 0, continued: bool = False) -> np.ndarray:
    """(count, length) weights of the pixels start, start+1, … in tents of half-width `cell` around first, first+spacing, …

    continued=True: pixels beyond both ends repeat the last one, as VLFeat's VL_PAD_BY_CONTINUITY; otherwise there are none.

    >>> tents(5, 2, 1.5, 2, 2).tolist()
    [[0.25, 0.75, 0.75, 0.25, 0.0], [0.0, 0.0, 0.25, 0.75, 0.75]]
    """
    beyond = cell if continued else 0
    pixels = np.arange(start - beyond, start + length + beyond)
    centres = first + spacing * np.arange(count)
    weights = np.maximum(1 - np.abs(pixels - centres[:, None]) / cell, 0)
    if continued:
        weights[:, beyond] += weights[:, :beyond].sum(axis=1)
        weights[:, -beyond - 1] += weights[:, -beyond:].sum(axis=1)
        weights = weights[:, beyond:-beyond]
    return weights


@lru_cache(maxsize=64)
def axis(length: int, cell: int, first: float, count: int, start: int, continued: bool, dtype: torch.dtype, device: torch.device) -> Axis:
    """The `Axis` for cells as far apart as they are wide; see `tents` for the arguments."""
    weights = np.pad(tents(length, cell, first, cell, count, start, continued), ((1, 1), (0, 0)))
    pixels = np.arange(length)
    block = np.clip(np.floor((pixels + start - first) / cell).astype(np.int64) + 1, 0, count)
    with torch.inference_mode(False):  # kept for later calls, which may want gradients
        pair = np.stack((weights[block, pixels], weights[block + 1, pixels]))
        return Axis(torch.as_tensor(block, device=device), torch.as_tensor(pair, dtype=dtype, device=device), count)


def pool(weights: Tensor, slots: Tensor, count: int, rows: Axis, columns: Axis) -> Tensor:
    """Sum pixels into cells by orientation: weights (K, B, H, W), slots (B, H, W) in 0..count-1 -> (K, B, count, h, w).

    A pixel adds its weight to its slot in the four cells around it. All K·4 sums have the same address, the gap between cell
    centres, and are shifted into place afterwards; so the addresses are worked out once. One sum after the other keeps the
    temporaries in the cache. On a GPU the order of the additions, and with it the last bit, may differ from run to run.
    """
    B = slots.shape[0]
    high, wide = rows.cells + 1, columns.cells + 1
    image = torch.arange(B, device=slots.device).view(B, 1, 1) * count
    address = ((slots + image) * (high * wide) + (rows.block.unsqueeze(1) * wide + columns.block)).flatten()
    empty = weights.new_zeros(B * count * high * wide)
    pooled = []
    for weight in weights.unbind():
        cells = []
        for i in (0, 1):  # the cell before the gap, the cell after it
            band = weight * rows.weights[i].unsqueeze(1)
            for j in (0, 1):
                gaps = empty.scatter_add(0, address, (band * columns.weights[j]).flatten()).view(B, count, high, wide)
                cells.append(gaps[..., 1 - i : high - i, 1 - j : wide - j])
        pooled.append(cells[0] + cells[1] + cells[2] + cells[3])
    return torch.stack(pooled)


class _Modulus(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gx, gy):  # type: ignore[no-untyped-def]
        length = (gx * gx + gy * gy).sqrt_()
        ctx.save_for_backward(gx, gy, length)
        return length

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        gx, gy, length = ctx.saved_tensors
        grad = grad / length.clamp(min=FLAT)
        return grad * gx, grad * gy


class _Turns(torch.autograd.Function):
    """atan2(gy, gx) in units of 2π/count. Its derivative grows as 1/length, and what multiplies it here is the length.

    The angle is taken in one quadrant and mirrored, and divided, not multiplied by an inverse: so in float32, too, the axes (and
    for 8 directions the diagonals) are whole numbers where they should be, and nothing leaks into a direction that nothing has.
    """

    @staticmethod
    def forward(ctx, gx, gy, count):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(gx, gy)
        ctx.step = 2 * math.pi / count
        quarter = count / 4
        turns = torch.atan2(gy.abs(), gx.abs()).div_(ctx.step)
        return torch.copysign(quarter - torch.copysign(quarter - turns, gx), gy)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        gx, gy = ctx.saved_tensors
        grad = grad / (gx * gx + gy * gy).clamp(min=FLAT**2) / ctx.step
        return grad * -gy, grad * gx, None
