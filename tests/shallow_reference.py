"""HOG and dense SIFT once more: plain numpy in double precision, one pixel after the other, after the description of VLFeat."""

from __future__ import annotations

import math

import numpy as np


def nearest(gx: float, gy: float, n: int) -> list[tuple[int, float]]:
    """All of the gradient in the directed bin it is nearest to; the first of the undirected ones, where two are as near."""
    scores = [gx * math.cos(math.pi * k / n) + gy * math.sin(math.pi * k / n) for k in range(n)]
    best = 0
    for k in range(1, n):
        if abs(scores[k]) > abs(scores[best]) * (1 + 1e-14):  # cosines of mirrored directions differ in the last bit
            best = k
    return [(best + (n if scores[best] < 0 else 0), 1.0)]


def shared(gx: float, gy: float, n: int) -> list[tuple[int, float]]:
    """The gradient in two of 2n directed bins, by the angle to the lower one."""
    turns = math.atan2(gy, gx) / (math.pi / n)
    lower = math.floor(turns)
    return [(lower % (2 * n), lower + 1 - turns), ((lower + 1) % (2 * n), turns - lower)]


def hog(x: np.ndarray, cell: int, n: int, bilinear: bool) -> np.ndarray:
    """(H, W) -> (3n + 4, h, w), as vl_hog."""
    height, width = x.shape
    h, w = (height + cell // 2) // cell, (width + cell // 2) // cell
    cells = np.zeros((2 * n, h, w))
    for y in range(1, height - 1):
        for c in range(1, width - 1):
            gx, gy = x[y, c + 1] - x[y, c - 1], x[y + 1, c] - x[y - 1, c]
            length = math.hypot(gx, gy)
            if length == 0:
                continue
            top, left = (y + 0.5) / cell - 0.5, (c + 0.5) / cell - 0.5
            for bin_, share in (shared if bilinear else nearest)(gx, gy, n):
                for i in (math.floor(top), math.floor(top) + 1):
                    for j in (math.floor(left), math.floor(left) + 1):
                        if 0 <= i < h and 0 <= j < w:
                            cells[bin_, i, j] += length * share * (1 - abs(top - i)) * (1 - abs(left - j))
    undirected = cells[:n] + cells[n:]
    energy = (undirected**2).sum(axis=0)
    out = np.zeros((3 * n + 4, h, w))
    for i in range(h):
        for j in range(w):
            for corner, (di, dj) in enumerate([(-1, -1), (-1, 1), (1, -1), (1, 1)]):
                i2, j2 = min(max(i + di, 0), h - 1), min(max(j + dj, 0), w - 1)
                norm = math.sqrt(energy[i, j] + energy[i2, j] + energy[i, j2] + energy[i2, j2] + 1e-4)
                directed = np.minimum(cells[:, i, j] / norm, 0.2)
                both = np.minimum(undirected[:, i, j] / norm, 0.2)
                out[: 2 * n, i, j] += directed / 2
                out[2 * n : 3 * n, i, j] += both / 2
                out[3 * n + corner, i, j] = both.sum() / math.sqrt(18)
    return out


def dsift(x: np.ndarray, size: int, step: int, window: float, margin: int) -> np.ndarray:
    """(H, W) -> (128, h, w), as vl_dsift with a flat window and bounds `margin` pixels inside the image."""
    height, width = x.shape
    maps = np.zeros((8, height, width))
    for y in range(height):
        for c in range(width):
            above, below, left, right = max(y - 1, 0), min(y + 1, height - 1), max(c - 1, 0), min(c + 1, width - 1)
            gx, gy = (x[y, right] - x[y, left]) / (right - left), (x[below, c] - x[above, c]) / (below - above)
            for t, share in shared(gx, gy, 4):
                maps[t, y, c] += share * math.hypot(gx, gy)

    def place(t: int, y: int, c: int) -> float:
        total = 0.0
        for dy in range(1 - size, size):
            for dx in range(1 - size, size):
                value = maps[t, min(max(y + dy, 0), height - 1), min(max(c + dx, 0), width - 1)]
                total += value * (1 - abs(dy) / size) * (1 - abs(dx) / size)
        return total

    pixels = np.arange(1 - size, size)
    weights = [np.exp(-0.5 * ((pixels - size * (i - 1.5)) / (size * window)) ** 2).mean() for i in range(4)]
    tops = range(margin, height - margin - 3 * size, step)
    lefts = range(margin, width - margin - 3 * size, step)
    out = np.zeros((128, len(tops), len(lefts)))
    for a, top in enumerate(tops):
        for b, left in enumerate(lefts):
            for i in range(4):
                for j in range(4):
                    for t in range(8):
                        out[32 * i + 8 * j + t, a, b] = weights[i] * weights[j] * place(t, top + i * size, left + j * size)
            for clamp in (0.2, np.inf):
                out[:, a, b] = np.minimum(out[:, a, b] / (np.linalg.norm(out[:, a, b]) + 2.0**-23), clamp)
    return out
