"""Bag of visual words, VLAD and Fisher vector: what an image's dense SIFT descriptors are over a vocabulary, differentiably."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ..errors import InputError
from .pyramid import TINY, Encoding, assign, checked_grids, checked_temperature, regions, unit
from .vocabulary import Vocabulary


class BagOfWords(Encoding):
    r"""Histograms of visual words in a spatial pyramid (Lazebnik, Schmid & Ponce, CVPR 2006).

    x: grey (B, 1, H, W), levels 0–255 -> (B, K·Σ g²): for each grid g x g of the pyramid, for each word, its share in each of the
    grid's regions, row by row. A histogram counts the descriptors of its region over those of the image, times the grid's weight:
    with L + 1 grids 1/2^L for the first and 1/2^(L-l+1) for the l-th after it, as in the pyramid match kernel.

    vocabulary: of kind "kmeans". grids: sides of the grids. temperature T, in squares of SIFT distances: a descriptor d counts for
    word k with exp(-‖d - c_k‖²/T), normalised over the words. At 0 it counts for the nearest word alone, as scikit-learn's
    `KMeans.predict`; then Φ has no derivative and cannot be inverted.

    space: grey pixels of any size. stride: the descriptors' step. jitter: 1. Raises InputError for a vocabulary of another kind,
    wrong settings, or an image with fewer descriptors along a side than the finest grid has regions.

    >>> phi = BagOfWords(Vocabulary("kmeans", torch.eye(6, 128)), grids=(1, 2))
    >>> phi(torch.rand(2, 1, 40, 40) * 255).shape
    torch.Size([2, 30])
    """

    def __init__(self, vocabulary: Vocabulary, grids: Sequence[int] = (1, 2, 4), temperature: float = 0.05) -> None:
        super().__init__()
        self.grids, self.temperature = checked_grids(grids), checked_temperature(temperature)
        self.attach(vocabulary, "kmeans", "bow")
        last = len(self.grids) - 1
        self.level_weights = [2.0 ** -(last - max(level - 1, 0)) for level in range(last + 1)]

    def extra_repr(self) -> str:
        return f"words={len(self.centres)}, grids={self.grids}, temperature={self.temperature:g}"

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) grey levels -> (B, K·Σ g²)."""
        shares = assign(self.sift(x), self.centres.to(x), self.temperature)
        total = shares.shape[2] * shares.shape[3]
        levels = []
        for side, weight in zip(self.grids, self.level_weights, strict=True):
            counts = [shares[:, :, rows, columns].sum(dim=(2, 3)) for rows, columns in regions(shares, side)]
            levels.append(torch.stack(counts, dim=2).flatten(1) * (weight / total))
        return torch.cat(levels, dim=1)


class VLAD(Encoding):
    r"""Vector of locally aggregated descriptors (Jégou et al., CVPR 2010): :math:`v_k = \sum_i a_{ik} (d_i - c_k)`.

    x: grey (B, 1, H, W), levels 0–255 -> (B, K·128·Σ g²), region by region, in it word by word. vocabulary, grids, temperature as
    for `BagOfWords`; at temperature 0 each descriptor is its nearest word's alone, and Φ has a derivative almost everywhere.
    normalise: "intra" gives each word's residual length 1, then the whole (Arandjelović & Zisserman, CVPR 2013); "global" only the
    whole; "none" leaves the sums as they are.

    >>> phi = VLAD(Vocabulary("kmeans", torch.eye(6, 128)))
    >>> features = phi(torch.rand(2, 1, 40, 40) * 255)
    >>> features.shape, torch.allclose(features.norm(dim=1), torch.ones(()))
    (torch.Size([2, 768]), True)
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        grids: Sequence[int] = (1,),
        temperature: float = 0.05,
        normalise: Literal["intra", "global", "none"] = "intra",
    ) -> None:
        super().__init__()
        if normalise not in ("intra", "global", "none"):
            raise InputError(f"normalise is 'intra', 'global' or 'none'; got {normalise!r}.")
        self.grids, self.temperature, self.normalise = checked_grids(grids), checked_temperature(temperature), normalise
        self.attach(vocabulary, "kmeans", "vlad")

    def extra_repr(self) -> str:
        return f"words={len(self.centres)}, grids={self.grids}, temperature={self.temperature:g}, normalise={self.normalise!r}"

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) grey levels -> (B, K·128·Σ g²)."""
        descriptors, centres = self.sift(x), self.centres.to(x)
        shares = assign(descriptors, centres, self.temperature)
        parts = []
        for side in self.grids:
            for rows, columns in regions(shares, side):
                a, d = shares[:, :, rows, columns].flatten(2), descriptors[:, :, rows, columns].flatten(2)
                residuals = a @ d.mT - a.sum(dim=2, keepdim=True) * centres
                parts.append(unit(residuals, 2) if self.normalise == "intra" else residuals)
        features = torch.stack(parts, dim=1).flatten(1)
        return features if self.normalise == "none" else unit(features, 1)


class SuperVector(Encoding):
    r"""Super-vector coding (Zhou et al., ECCV 2010): :math:`\big[s\sqrt{p_k},\ \frac{1}{N\sqrt{p_k}}\sum_i a_{ik}(d_i-c_k)\big]`.

    x: grey (B, 1, H, W), levels 0–255 -> (B, K·129·Σ g²), region by region, in it word by word. N is the number of descriptors of the
    region, p_k = Σ a_ik / N the share of word k, a as for `BagOfWords` (1 for the nearest word at temperature 0, as in the paper).
    constant: s, above or at 0, which the paper leaves open; here 1 by default. Two images' product compares words and, in each, residuals,
    so that a word that is seen rarely counts for more than in VLAD. vocabulary, grids, temperature as for `VLAD`.

    >>> phi = SuperVector(Vocabulary("kmeans", torch.eye(6, 128)))
    >>> phi(torch.rand(2, 1, 40, 40) * 255).shape
    torch.Size([2, 774])
    """

    def __init__(self, vocabulary: Vocabulary, grids: Sequence[int] = (1,), temperature: float = 0.05, constant: float = 1.0) -> None:
        super().__init__()
        if not 0 <= constant < math.inf:
            raise InputError(f"constant is a number, 0 or more; got {constant!r}.")
        self.grids, self.temperature, self.constant = checked_grids(grids), checked_temperature(temperature), float(constant)
        self.attach(vocabulary, "kmeans", "super-vector")

    def extra_repr(self) -> str:
        return f"words={len(self.centres)}, grids={self.grids}, temperature={self.temperature:g}, constant={self.constant:g}"

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) grey levels -> (B, K·129·Σ g²)."""
        descriptors, centres = self.sift(x), self.centres.to(x)
        shares = assign(descriptors, centres, self.temperature)
        parts = []
        for side in self.grids:
            for rows, columns in regions(shares, side):
                a, d = shares[:, :, rows, columns].flatten(2), descriptors[:, :, rows, columns].flatten(2)
                p = a.mean(dim=2, keepdim=True) + TINY
                residuals = a @ d.mT / d.shape[2] - p * centres
                parts.append(torch.cat((self.constant * p.sqrt(), residuals * p.rsqrt()), dim=2).flatten(1))
        return torch.cat(parts, dim=1)


class FisherVector(Encoding):
    r"""Fisher vector of a Gaussian mixture (Perronnin & Dance, CVPR 2007), as scikit-image's `fisher_vector`.

    x: grey (B, 1, H, W), levels 0–255 -> (B, (K + 2·K·128)·Σ g²): in each region the derivatives of the descriptors' mean
    log-likelihood in the weights, the means and the variances, each over the root of its Fisher information (of the variances
    with scikit-image's sign). vocabulary: of kind "gmm". grids as for `BagOfWords`.
    improved: signed power `alpha`, then length 1 (Perronnin et al., ECCV 2010), for each region. The power is taken as
    v·(v² + 1e-12)^((alpha-1)/2), which has a derivative at 0.

    >>> words = Vocabulary("gmm", torch.eye(6, 128) / 5, torch.full((6, 128), 0.01), torch.full((6,), 1 / 6))
    >>> FisherVector(words)(torch.rand(2, 1, 40, 40) * 255).shape
    torch.Size([2, 1542])
    """

    variances: Tensor
    weights: Tensor

    def __init__(self, vocabulary: Vocabulary, grids: Sequence[int] = (1,), improved: bool = True, alpha: float = 0.5) -> None:
        super().__init__()
        if not 0 < alpha <= 1:
            raise InputError(f"alpha is a power above 0, at most 1; got {alpha!r}.")
        self.grids, self.improved, self.alpha = checked_grids(grids), bool(improved), float(alpha)
        self.attach(vocabulary, "gmm", "fisher")
        self.register_buffer("variances", vocabulary.variances)
        self.register_buffer("weights", vocabulary.weights)

    def extra_repr(self) -> str:
        return f"words={len(self.centres)}, grids={self.grids}, improved={self.improved}, alpha={self.alpha:g}"

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) grey levels -> (B, (K + 2·K·128)·Σ g²)."""
        descriptors = self.sift(x)
        means, variances, weights = (t.to(x) for t in (self.centres, self.variances, self.weights))
        posteriors = _posteriors(descriptors, means, variances, weights)
        parts = []
        for side in self.grids:
            for rows, columns in regions(posteriors, side):
                q, d = posteriors[:, :, rows, columns].flatten(2), descriptors[:, :, rows, columns].flatten(2)
                vector = _fisher(q, d, means, variances, weights)
                if self.improved:
                    vector = unit(vector * (vector.square() + TINY).pow((self.alpha - 1) / 2), 1)
                parts.append(vector)
        return torch.cat(parts, dim=1)


def _posteriors(descriptors: Tensor, means: Tensor, variances: Tensor, weights: Tensor) -> Tensor:
    """(B, D, h, w) -> (B, K, h, w): the probability of each component, given the descriptor."""
    precision = 1 / variances
    constant = weights.log() - 0.5 * (variances.log() + means.square() * precision).sum(dim=1)
    linear = torch.einsum("kd,bdhw->bkhw", means * precision, descriptors)
    square = torch.einsum("kd,bdhw->bkhw", precision, descriptors.square())
    return torch.softmax(constant.view(1, -1, 1, 1) + linear - 0.5 * square, dim=1)


def _fisher(q: Tensor, d: Tensor, means: Tensor, variances: Tensor, weights: Tensor) -> Tensor:
    """Posteriors (B, K, n) and descriptors (B, D, n) -> (B, K + 2KD)."""
    share = q.mean(dim=2, keepdim=True)
    first, second = q @ d.mT / d.shape[2], q @ d.square().mT / d.shape[2]
    root = weights.sqrt().unsqueeze(1)
    in_weights = (share.squeeze(2) - weights) / weights.sqrt()
    in_means = (first - share * means) / (root * variances.sqrt())
    in_variances = (2 * first * means - second - share * means.square() + share * variances) / (math.sqrt(2) * root * variances)
    return torch.cat((in_weights, in_means.flatten(1), in_variances.flatten(1)), dim=1)
