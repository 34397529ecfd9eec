"""A second, plain numpy writing of the original's formulas and loop (tv.m, the range prior, nnpreimage.m), loops where it loops."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def alpha_norm(x, alpha=6.0, B=80.0):
    """x (C, H, W) -> value, gradient: (1/N) (1/B)^alpha sum over pixels of (sum over colours x^2)^(alpha/2)."""
    _, height, width = x.shape
    weight = (1.0 / B) ** alpha / (height * width)
    square = (x**2).sum(axis=0)
    return weight * (square ** (alpha / 2)).sum(), weight * alpha * square ** (alpha / 2 - 1) * x


def total_variation(x, beta=2.0, V=80.0 / 6.5):
    """x (C, H, W) -> value, gradient, pixel by pixel, last row and column without an outgoing difference."""
    channels, height, width = x.shape
    weight = (1.0 / V) ** beta / (height * width)
    value, gradient = 0.0, np.zeros_like(x)
    for k in range(channels):
        for u in range(height):
            for v in range(width):
                dh = x[k, u, v + 1] - x[k, u, v] if v + 1 < width else 0.0
                dv = x[k, u + 1, v] - x[k, u, v] if u + 1 < height else 0.0
                square = dh**2 + dv**2
                value += weight * square ** (beta / 2)
                if square == 0.0:
                    continue
                factor = weight * beta * square ** (beta / 2 - 1)
                gradient[k, u, v] -= factor * (dh + dv)
                if v + 1 < width:
                    gradient[k, u, v + 1] += factor * dh
                if u + 1 < height:
                    gradient[k, u + 1, v] += factor * dv
    return value, gradient


def euclidean(features, target, mask=1.0):
    """-> ||M(f - t)||^2 / ||M t||^2 and its gradient in f."""
    divisor = ((mask * target) ** 2).sum()
    return ((mask * (features - target)) ** 2).sum() / divisor, 2 * mask**2 * (features - target) / divisor


def inner_product(features, target, Z=1.0, mask=1.0):
    """-> -<M f, t> / Z and its gradient in f."""
    return -(mask * features * target).sum() / Z, -mask * target / Z


def convolution(x, weight, bias, stride):
    """x (C, H, W), weight (O, C, k, k): a correlation without padding."""
    windows = sliding_window_view(x, weight.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("chwij,ocij->ohw", windows, weight) + bias[:, None, None]


def convolution_backward(grad, x, weight, stride):
    """The gradient in x of a sum weighted by grad (O, h, w)."""
    out = np.zeros_like(x)
    size = weight.shape[2]
    for u in range(grad.shape[1]):
        for v in range(grad.shape[2]):
            patch = np.einsum("o,ocij->cij", grad[:, u, v], weight)
            out[:, u * stride : u * stride + size, v * stride : v * stride + size] += patch
    return out


class SmallNetwork:
    """conv 3x3 stride 2 - ReLU - conv 3x3, with the weights of the torch module of the same shape."""

    def __init__(self, first, second, dtype):
        self.w1, self.b1, self.w2, self.b2 = [
            p.detach().numpy().astype(dtype) for p in (first.weight, first.bias, second.weight, second.bias)
        ]

    def forward(self, x):
        self.x = x
        self.before = convolution(x, self.w1, self.b1, 2)
        self.after = np.maximum(self.before, 0)
        return convolution(self.after, self.w2, self.b2, 1)

    def backward(self, grad):
        grad = convolution_backward(grad, self.after, self.w2, 1) * (self.before > 0)
        return convolution_backward(grad, self.x, self.w1, 2)


def paper_loop(network, target, x, offsets, size, C, rate, rho=0.9, bound=160.0):
    """nnpreimage.m for one image: x (C, H+j-1, W+j-1), offsets a list of (row, column). Returns x and the energies by iteration."""
    momentum, accumulator = np.zeros_like(x), np.zeros_like(x)
    lr = size[0] * size[1] * rate
    energies = []
    for top, left in offsets:
        window = x[:, top : top + size[0], left : left + size[1]]
        loss, grad_features = euclidean(network.forward(window), target)
        e_alpha, gradient = alpha_norm(x)
        e_tv, g_tv = total_variation(x)
        gradient = gradient + g_tv
        gradient[:, top : top + size[0], left : left + size[1]] += network.backward(C * grad_features)
        energies.append((C * loss, e_alpha, e_tv))
        accumulator = rho * accumulator + gradient**2
        momentum = rho * momentum - gradient / (1 / lr + np.sqrt(accumulator))
        x = x + momentum
        norm = np.sqrt((x**2).sum(axis=0, keepdims=True))
        x = x * np.minimum(bound / np.maximum(norm, 1e-30), 1.0)
        x = x.astype(target.dtype)
    return x, np.array(energies)
