"""Images from binary descriptors by convex and greedy recovery: d'Angelo, Alahi, Vandergheynst, 2012, and its sequel from bits alone.

Sources: E. d'Angelo, A. Alahi, P. Vandergheynst, Beyond bits: reconstructing images from local binary descriptors, ICPR 2012 (from the
differences); E. d'Angelo, L. Jacques, A. Alahi, P. Vandergheynst, From bits to images: inversion of local binary descriptors,
arXiv:1211.1265 (from their signs), by the iteration of L. Jacques et al., Robust 1-bit compressive sensing via
binary stable embeddings of sparse vectors, 2013.

What differs: all descriptors of an image are inverted at once, where the original inverts the patch of each alone and takes the mean where
patches overlap. The weights, numbers of steps and share of wavelets are ours, chosen on other photographs than those of docs/shallow.md.

This is no recipe: the algorithms are for what is linear but for a sign, as BRIEF and FREAK are, and no energy of a network is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from ..errors import InputError, whole
from ..representations.binary import BinaryDescriptor

MEAN_CONTRAST = 50.0
"""Standard deviation that a picture from bits is given, in grey levels: bits know none. It is about a photograph's."""


def from_differences(phi: BinaryDescriptor, differences: Tensor, size: tuple[int, int], weight: float = 10.0, steps: int = 300) -> Tensor:
    r"""Find the image of least total variation with these differences: minimise :math:`\lambda\|Ax - y\|_1 + \|\nabla x\|_{2,1}`.

    Levels stay between 0 and 255. The steps are Chambolle and Pock's (2011), A and the gradient scaled to one norm.

    Parameters
    ----------
    phi : BinaryDescriptor
        `BRIEF` or `FREAK`; A is its `differences`.
    differences : tensor (B, pairs, ...)
        y, in grey levels, as `phi.differences` gives them.
    size : (height, width)
        Of the image, in pixels.
    weight : float, default 10
        λ. Differences without noise can be followed closely.
    steps : int, default 300
        Evaluations of A and of its adjoint.

    Returns
    -------
    tensor (B, 1, H, W)
        Canonical images, grey levels less 128; `phi.space.decode` gives levels. Their mean is not in the differences.

    Raises
    ------
    InputError
        For differences that phi does not have of such an image, and wrong settings.

    >>> from ..representations.brief import BRIEF
    >>> phi = BRIEF(64, 9, step=4)
    >>> x = torch.zeros(1, 1, 16, 16); x[..., 8:] = 90.0
    >>> found = from_differences(phi, phi.differences(x), (16, 16))
    >>> found.shape, bool((found[..., 10:].mean() - found[..., :6].mean()) > 60)
    (torch.Size([1, 1, 16, 16]), True)
    """
    if not 0 < weight < math.inf:
        raise InputError(f"weight is a number above 0; got {weight!r}.")
    forward, adjoint, norm = _operator(phi, differences, size)
    scale = math.sqrt(8) / norm  # the norm of the gradient is at most √8
    low, high = -float(phi.space.mean_colour.mean()), 255 - float(phi.space.mean_colour.mean())
    x = differences.new_zeros(len(differences), 1, *size)
    ahead, p, q = x, torch.zeros_like(differences), differences.new_zeros(len(x), 2, *size)
    # their product times the squared norm of both operators, 16, is 1; images move by levels, duals by parts of 1
    primal, dual = 10.0, 1 / (16 * 10.0)
    for _ in range(whole("steps", steps, 1)):
        p = (p + dual * scale * (forward(ahead) - differences)).clamp(-weight / scale, weight / scale)
        q = q + dual * _gradient(ahead)
        q = q / q.norm(dim=1, keepdim=True).clamp(min=1)
        before, x = x, (x - primal * (scale * adjoint(p) + _gradient_adjoint(q))).clamp(low, high)
        ahead = 2 * x - before
    return x


def from_bits(phi: BinaryDescriptor, bits: Tensor, size: tuple[int, int], kept: float = 0.1, steps: int = 60) -> Tensor:
    """Find an image of few Haar wavelets whose differences have these signs: binary iterative hard thresholding.

    Parameters
    ----------
    phi : BinaryDescriptor
        `BRIEF` or `FREAK`.
    bits : tensor (B, pairs, ...)
        Of any numbers the sign alone is used.
    size : (height, width)
        Of the image, in pixels.
    kept : float, default 0.1
        Share of the wavelets that an image has.
    steps : int, default 60
        Evaluations of A and of its adjoint.

    Returns
    -------
    tensor (B, 1, H, W)
        Canonical images, grey levels less 128. Mean and contrast, which bits do not have, are 0 and `MEAN_CONTRAST`.

    Raises
    ------
    InputError
        For bits that phi does not have of such an image, and wrong settings.

    >>> from ..representations.brief import BRIEF
    >>> phi = BRIEF(64, 9, step=4)
    >>> x = torch.zeros(1, 1, 16, 16); x[..., 8:] = 90.0
    >>> found = from_bits(phi, phi.differences(x).sign(), (16, 16))
    >>> bool(found[..., 10:].mean() > 20), found.std(correction=0).round()
    (True, tensor(50.))
    """
    if not 0 < kept <= 1:
        raise InputError(f"kept is a share above 0, at most 1; got {kept!r}.")
    forward, adjoint, norm = _operator(phi, bits, size)
    signs, count = bits.sign(), max(1, round(kept * size[0] * size[1]))
    x = bits.new_zeros(len(bits), 1, *size)
    for _ in range(whole("steps", steps, 1)):
        x = x + adjoint(signs - forward(x).sign()) / norm**2
        waves = haar(x)
        least = waves.abs().flatten(1).topk(count, dim=1).values[:, -1].view(-1, 1, 1, 1)
        x = haar_inverse(waves * (waves.abs() >= least))
    x = x - x.mean(dim=(2, 3), keepdim=True)
    found: Tensor = x * (MEAN_CONTRAST / x.square().mean(dim=(2, 3), keepdim=True).sqrt().clamp(min=torch.finfo(x.dtype).tiny))
    return found


def haar(x: Tensor) -> Tensor:
    """Return the Haar wavelets of images (B, C, H, W) down to one mean: an orthonormal change of basis, also for odd sides.

    >>> x = torch.rand(1, 1, 7, 12, dtype=torch.float64)
    >>> bool((haar_inverse(haar(x)) - x).abs().max() < 1e-12), bool((haar(x).norm() - x.norm()).abs() < 1e-12)
    (True, True)
    """
    out = x.clone()
    for h, w in _blocks(x.shape[2], x.shape[3]):
        out[..., :h, :w] = _pairs(h).to(x) @ out[..., :h, :w] @ _pairs(w).to(x).T
    return out


def haar_inverse(waves: Tensor) -> Tensor:
    """Return the images of Haar wavelets, as `haar` gives them."""
    out = waves.clone()
    for h, w in reversed(_blocks(waves.shape[2], waves.shape[3])):
        out[..., :h, :w] = _pairs(h).to(waves).T @ out[..., :h, :w] @ _pairs(w).to(waves)
    return out


def _blocks(height: int, width: int) -> list[tuple[int, int]]:
    """The sides of what each level divides once more."""
    found = []
    while height > 1 or width > 1:
        found.append((height, width))
        height, width = (height + 1) // 2, (width + 1) // 2
    return found


@lru_cache(maxsize=64)
def _pairs(side: int) -> Tensor:
    """(side, side): sums of neighbours, with the last one by itself if it has none, and their differences, all of length 1."""
    matrix = torch.zeros(side, side, dtype=torch.float64)
    means = (side + 1) // 2
    for k in range(side // 2):
        matrix[k, 2 * k] = matrix[k, 2 * k + 1] = matrix[means + k, 2 * k] = math.sqrt(0.5)
        matrix[means + k, 2 * k + 1] = -math.sqrt(0.5)
    if side % 2:
        matrix[means - 1, side - 1] = 1.0
    return matrix


def _operator(
    phi: BinaryDescriptor, given: Tensor, size: tuple[int, int]
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], float]:
    """A, its adjoint, and its norm by the power method, with a tenth to spare."""
    leaf = given.new_zeros(len(given), 1, *size).requires_grad_()
    with torch.enable_grad():
        value = phi.differences(leaf)
    if value.shape != given.shape:
        raise InputError(
            f"{phi.name} of an image of {size} pixels (height, width) has shape {tuple(value.shape)}; got {tuple(given.shape)}."
        )

    def forward(x: Tensor) -> Tensor:
        with torch.no_grad():
            return phi.differences(x)

    def adjoint(y: Tensor) -> Tensor:
        return torch.autograd.grad(value, leaf, y, retain_graph=True)[0]

    rows, columns = (torch.arange(n, dtype=given.dtype, device=given.device) for n in size)
    probe = torch.cos(0.7 * rows[:, None] + 1.3 * columns + 0.1 * rows[:, None] * columns).expand_as(leaf)
    norm = 0.0
    for _ in range(20):
        probe = adjoint(forward(probe / probe.norm()))
        norm = math.sqrt(float(probe.norm()))
    return forward, adjoint, 1.1 * norm


def _gradient(x: Tensor) -> Tensor:
    """(B, 1, H, W) -> (B, 2, H, W): to the next row and the next column, 0 at the last one."""
    down, right = torch.zeros_like(x), torch.zeros_like(x)
    down[..., :-1, :] = x[..., 1:, :] - x[..., :-1, :]
    right[..., :-1] = x[..., 1:] - x[..., :-1]
    return torch.cat((down, right), dim=1)


def _gradient_adjoint(q: Tensor) -> Tensor:
    down, right = q[:, :1], q[:, 1:]
    out = torch.zeros_like(down)
    out[..., 1:, :] += down[..., :-1, :]
    out[..., :-1, :] -= down[..., :-1, :]
    out[..., 1:] += right[..., :-1]
    out[..., :-1] -= right[..., :-1]
    return out
