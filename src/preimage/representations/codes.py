"""Codes of dense SIFT under max pooling: locality-constrained linear coding, and sparse coding."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError, whole
from .pyramid import Encoding, checked_grids, regions, unit
from .vocabulary import Vocabulary

CHUNK = 256  # descriptors whose systems of equations are solved at once


class MaxPooled(Encoding):
    """The base of encodings that keep, in every region of a spatial pyramid, the largest code of each word; then the length is 1.

    x: grey (B, 1, H, W), levels 0–255 -> (B, K·Σ g²), region by region, in it word by word. A subclass gives the `codes`.
    space: grey pixels of any size. stride: the descriptors' step. jitter: 1. The largest one alone has a derivative.
    """

    def __init__(self, name: str, vocabulary: Vocabulary, grids: Sequence[int]) -> None:
        super().__init__()
        self.grids = checked_grids(grids)
        self.attach(vocabulary, "kmeans", name)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) grey levels -> (B, K·Σ g²)."""
        descriptors = self.sift(x)
        count, _, height, width = descriptors.shape
        rows = descriptors.flatten(2).mT.flatten(0, 1)
        codes = torch.cat([self.codes(part, self.centres.to(x)) for part in rows.split(CHUNK)])
        maps = codes.view(count, height, width, -1).permute(0, 3, 1, 2)
        parts = [maps[:, :, r, c].amax(dim=(2, 3)) for side in self.grids for r, c in regions(maps, side)]
        return unit(torch.cat(parts, dim=1), 1)

    @abstractmethod
    def codes(self, descriptors: Tensor, centres: Tensor) -> Tensor:
        """Return the codes (n, K) of descriptors (n, D) over words (K, D); each descriptor's depend on it alone."""


class LLC(MaxPooled):
    r"""Locality-constrained linear coding (Wang et al., CVPR 2010): each descriptor from its nearest words, max-pooled.

    The code of d is the c over its `neighbours` nearest words that minimises :math:`\|d - \sum_j c_j b_j\|^2 + \lambda t\,\|c\|^2` with
    :math:`\sum_j c_j = 1`, t the sum of those words' squared distances to d: the paper's fast form (its Sect. 3), solved exactly.

    Parameters
    ----------
    vocabulary : Vocabulary
        Of kind "kmeans".
    neighbours : int, default 5
        Words of a code, the paper's 5.
    penalty : float, default 1e-4
        λ, the default of the authors' program (LLC_coding_appr.m).
    grids : sides of the pyramid's grids, default (1, 2, 4)

    Raises InputError for wrong settings and more neighbours than words. Where the nearest words change, the derivative jumps.

    >>> phi = LLC(Vocabulary("kmeans", torch.eye(6, 128)), neighbours=3, grids=(1, 2))
    >>> features = phi(torch.rand(2, 1, 40, 40) * 255)
    >>> features.shape, torch.allclose(features.norm(dim=1), torch.ones(()))
    (torch.Size([2, 30]), True)
    """

    def __init__(self, vocabulary: Vocabulary, neighbours: int = 5, penalty: float = 1e-4, grids: Sequence[int] = (1, 2, 4)) -> None:
        super().__init__("llc", vocabulary, grids)
        if not 0 < penalty < math.inf:
            raise InputError(f"penalty is a number above 0; got {penalty!r}.")
        self.neighbours, self.penalty = whole("neighbours", neighbours, 1), float(penalty)
        if self.neighbours > vocabulary.words:
            raise InputError(f"A code of {neighbours} neighbours needs as many words; the vocabulary has {vocabulary.words}.")

    def extra_repr(self) -> str:
        return f"words={len(self.centres)}, neighbours={self.neighbours}, penalty={self.penalty:g}, grids={self.grids}"

    def codes(self, descriptors: Tensor, centres: Tensor) -> Tensor:
        """Return the codes (n, K), each row's sum 1, all but `neighbours` of them 0."""
        distances = centres.square().sum(dim=1) - 2 * descriptors.detach() @ centres.T
        nearest = distances.topk(self.neighbours, dim=1, largest=False).indices
        shifted = centres[nearest] - descriptors.unsqueeze(1)
        covariance = shifted @ shifted.mT
        trace = covariance.diagonal(dim1=1, dim2=2).sum(dim=1)
        ridge = (self.penalty * trace + torch.finfo(trace.dtype).tiny).view(-1, 1, 1) * torch.eye(self.neighbours).to(trace)
        found = torch.linalg.solve(covariance + ridge, torch.ones_like(covariance[..., :1])).squeeze(2)
        found = found / found.sum(dim=1, keepdim=True)
        return torch.zeros_like(distances).scatter(1, nearest, found)


class SparseCodes(MaxPooled):
    r"""Sparse coding with max pooling (ScSPM; Yang, Yu, Gong, Huang, CVPR 2009), as scikit-learn's lasso codes.

    The code of d is the u that minimises :math:`\frac12\|d - \sum_k u_k v_k\|^2 + \lambda\sum_k |u_k|`, v the words at length 1; magnitudes
    are pooled. Which words take part is found by `rounds` steps of FISTA, how much by solving for them exactly, which also gives the
    derivative. (The paper has no ½: its λ of 0.3 to 0.4 is 0.15 to 0.2 here; the authors' sc_pooling.m has the ½, and magnitudes too.)

    Parameters
    ----------
    vocabulary : Vocabulary
        Of kind "kmeans"; the paper learns its words by sparse coding itself.
    penalty : float, default 0.15
        λ.
    grids : sides of the pyramid's grids, default (1, 2, 4)
    rounds : int, default 200
        Steps in which the words of a code are found.

    Raises InputError for wrong settings. Where a word joins or leaves a code, its weight is 0 and the derivative jumps.

    >>> phi = SparseCodes(Vocabulary("kmeans", torch.eye(6, 128)), penalty=0.01, grids=(1, 2))
    >>> phi(torch.rand(2, 1, 40, 40) * 255).shape
    torch.Size([2, 30])
    """

    def __init__(self, vocabulary: Vocabulary, penalty: float = 0.15, grids: Sequence[int] = (1, 2, 4), rounds: int = 200) -> None:
        super().__init__("scspm", vocabulary, grids)
        if not 0 < penalty < math.inf:
            raise InputError(f"penalty is a number above 0; got {penalty!r}.")
        self.penalty, self.rounds = float(penalty), whole("rounds", rounds, 1)

    def extra_repr(self) -> str:
        return f"words={len(self.centres)}, penalty={self.penalty:g}, grids={self.grids}, rounds={self.rounds}"

    def codes(self, descriptors: Tensor, centres: Tensor) -> Tensor:
        """Return the magnitudes of the codes (n, K)."""
        words = unit(centres, 1)
        products, gram = descriptors @ words.T, words @ words.T
        with torch.no_grad():
            signs = self._lasso(products, gram).sign()
        taken = signs.abs()
        system = taken.unsqueeze(2) * gram * taken.unsqueeze(1) + torch.diag_embed(1 - taken + 1e-6 * taken)
        found: Tensor = torch.linalg.solve(system, (taken * products - self.penalty * signs).unsqueeze(2)).squeeze(2)
        return found * signs

    def _lasso(self, products: Tensor, gram: Tensor) -> Tensor:
        """FISTA (Beck and Teboulle 2009)."""
        step = 1 / torch.linalg.matrix_norm(gram, 2)
        code = ahead = torch.zeros_like(products)
        t = 1.0
        for _ in range(self.rounds):
            moved = ahead - step * (ahead @ gram - products)
            before, code = code, moved.sign() * (moved.abs() - step * self.penalty).clamp(min=0)
            faster = (1 + math.sqrt(1 + 4 * t * t)) / 2
            ahead, t = code + (t - 1) / faster * (code - before), faster
        return code
