"""The normal equations of a ridge regression as running sums: as many rows as one likes, in the memory of one square matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

BLOCK = 192  # rows of a symmetric product at once


@dataclass
class Sums:
    """Sums over n rows of D inputs x and P outputs y: of x, y, xxᵀ (D, D), xyᵀ (D, P) and y² (P), in float64.

    >>> x, y = torch.randn(2, 50), torch.randn(1, 50)
    >>> halves, whole = Sums.none(2, 1), Sums.none(2, 1)
    >>> halves.add(x[:, :20], y[:, :20]); halves.add(x[:, 20:], y[:, 20:]); whole.add(x, y)
    >>> torch.allclose(halves.xx, whole.xx), halves.n
    (True, 50)
    """

    n: int
    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor
    yy: Tensor

    @staticmethod
    def none(inputs: int, outputs: int, device: torch.device | str = "cpu") -> Sums:
        shapes = [(inputs,), (outputs,), (inputs, inputs), (inputs, outputs), (outputs,)]
        return Sums(0, *(torch.zeros(s, dtype=torch.float64, device=device) for s in shapes))

    def add(self, x: Tensor, y: Tensor) -> None:
        """Rows as columns: x (D, n), y (P, n). Products of one call are taken in the type of x, their sums in float64."""
        self.n += x.shape[1]
        self.x += x.sum(dim=1, dtype=torch.float64)
        self.y += y.sum(dim=1, dtype=torch.float64)
        self.xx += gram(x)
        self.xy += x @ y.T
        self.yy += y.square().sum(dim=1, dtype=torch.float64)

    def merge(self, other: Sums) -> Sums:
        """The sums of both sets of rows."""
        return Sums(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def of_inputs(self, chosen: Tensor) -> Sums:
        """The sums of some of the inputs, by their indices: their regression needs no other look at the rows."""
        return Sums(self.n, self.x[chosen], self.y, self.xx[chosen][:, chosen], self.xy[chosen], self.yy)

    def covariances(self) -> tuple[Tensor, Tensor]:
        """Cov(x, x) (D, D) and Cov(x, y) (D, P) over the rows."""
        xx = self.xx / self.n
        xx.addr_(self.x, self.x, alpha=-1.0 / self.n**2)
        return xx, (self.xy / self.n).addr_(self.x, self.y, alpha=-1.0 / self.n**2)

    def solve(self, strength: float) -> tuple[Tensor, Tensor]:
        """Ridge regression of y on x: weights (P, D) and offsets (P,) that minimise the mean squared error + λ‖weights‖².

        λ is `strength` times the mean variance of an input; offsets are not shrunk.
        """
        xx, xy = self.covariances()
        diagonal = xx.diagonal()
        diagonal += strength * diagonal.mean().clamp(min=1e-30)
        weights = torch.cholesky_solve(xy, torch.linalg.cholesky(xx)).T.contiguous()
        return weights, (self.y - weights @ self.x) / self.n

    def error(self, weights: Tensor, offsets: Tensor) -> float:
        """Mean squared error of weights (P, D) and offsets (P,) over the rows and outputs, without a look at the rows again."""
        total = self.yy.sum() - 2 * (offsets @ self.y + (weights.T * self.xy).sum()) + self.n * offsets.square().sum()
        total = total + 2 * (offsets @ (weights @ self.x)) + ((weights @ self.xx) * weights).sum()
        return float(total) / (self.n * len(offsets))

    def tensors(self) -> dict[str, Tensor]:
        """Everything as tensors by name, for a file; `from_tensors` reads it back."""
        return {f.name: torch.as_tensor(getattr(self, f.name)) for f in fields(self)}

    def to(self, device: torch.device) -> Sums:
        """The same sums on a device."""
        return Sums(self.n, *(t.to(device) for t in (self.x, self.y, self.xx, self.xy, self.yy)))

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> Sums:
        """What `tensors` gave."""
        found = {f.name: tensors[f.name] for f in fields(Sums)}
        return Sums(int(found.pop("n")), **found)


def gram(x: Tensor) -> Tensor:
    """Return x xᵀ (D, D) of x (D, n): in blocks up to the diagonal, beyond it their copies, in two thirds of the time.

    >>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> gram(x).tolist()
    [[5.0, 11.0], [11.0, 25.0]]
    """
    found = x.new_empty(len(x), len(x))
    for first in range(0, len(x), BLOCK):
        rows = slice(first, min(first + BLOCK, len(x)))
        found[rows, : rows.stop] = x[rows] @ x[: rows.stop].T
        found[:first, rows] = found[rows, :first].T
    return found
