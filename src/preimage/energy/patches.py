"""Small patches of photographs as a mixture of Gaussians, as a prior of images."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, whole
from ..pixels.images import atomic_write
from ..plain import FILE
from .regularizers import REGULARIZERS, check_positive

FORMAT = "preimage-patches"
LARGEST = 32  # pixels of a side: beyond it a covariance has a million numbers


@dataclass(frozen=True, eq=False)
class PatchMixture:
    """K Gaussians of mean 0 that patches of photographs, less their own mean, are drawn from.

    Parameters
    ----------
    weights : tensor (K,)
        How often each is drawn, of sum 1.
    covariances : tensor (K, D, D)
        In squared grey levels; D is the number of pixels of a square patch, row by row.
    about : mapping
        Where it came from, plain values.

    Raises
    ------
    InputError : for parts that do not belong together, are not finite, or are no covariances

    >>> PatchMixture(torch.ones(1), 9 * torch.eye(4)[None]).side
    2
    """

    weights: Tensor
    covariances: Tensor
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count, shape = self.weights.numel(), tuple(self.covariances.shape)
        if self.weights.ndim != 1 or len(shape) != 3 or shape[0] != count or shape[1] != shape[2] or count == 0:
            raise InputError(f"A mixture has weights (K,) and covariances (K, D, D); got {tuple(self.weights.shape)} and {shape}.")
        if not 2 <= self.side <= LARGEST or self.side**2 != shape[1]:
            raise InputError(f"The patches of a mixture are squares of 2 to {LARGEST} pixels a side; got {shape[1]} pixels.")
        for name, part in (("weights", self.weights), ("covariances", self.covariances)):
            if not part.is_floating_point() or not bool(torch.isfinite(part).all()):
                raise InputError(f"The {name} of a mixture are finite numbers; got {part.dtype}.")
        if not bool((self.weights > 0).all()) or abs(float(self.weights.double().sum()) - 1) > 1e-3:
            raise InputError(f"The weights of a mixture are above 0 and sum to 1; got a sum of {float(self.weights.sum()):g}.")
        covariances = self.covariances.double()
        if not bool(torch.allclose(covariances, covariances.mT, rtol=1e-3, atol=1e-3)):
            raise InputError("The covariances of a mixture are symmetric matrices.")
        if float(torch.linalg.eigvalsh(covariances).min()) <= 0:
            raise InputError("The covariances of a mixture are positive definite: a variance is not above 0.")

    @property
    def side(self) -> int:
        """Of a patch, in pixels."""
        return math.isqrt(self.covariances.shape[-1])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, whole or not at all."""
        from safetensors.torch import save

        tensors = {"weights": self.weights.float().contiguous(), "covariances": self.covariances.float().contiguous()}
        with atomic_write(path) as file:
            file.write(save(tensors, metadata={FORMAT: json.dumps({"version": 1, **self.about})}))


def load_patch_mixture(path: str | os.PathLike[str]) -> PatchMixture:
    """Read back what `PatchMixture.save` wrote.

    Raises
    ------
    InputError : for a file that is not there, is damaged, or holds something else
    """
    from safetensors import SafetensorError, safe_open

    how = "Make one: preimage.fit_patch_prior('photos/').save(FILE)"
    if not Path(path).is_file():
        raise InputError(f"There is no file {str(path)!r} of a mixture of patches. {how}")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[FORMAT])
            if not isinstance(about, dict) or about.pop("version", None) != 1 or set(file.keys()) != {"weights", "covariances"}:
                raise KeyError(FORMAT)
            weights, covariances = file.get_slice("weights"), file.get_slice("covariances")
            if max((*weights.get_shape(), *covariances.get_shape()), default=0) > LARGEST**2:
                raise ValueError("it is too large")
            return PatchMixture(weights[:], covariances[:], about)
    except InputError as error:
        raise InputError(f"{str(path)!r} is no usable mixture of patches: {error}") from error
    except (OSError, KeyError, TypeError, ValueError, RecursionError, SafetensorError) as error:
        raise InputError(f"{str(path)!r} holds no mixture of patches ({type(error).__name__}). {how}") from error


@REGULARIZERS.register("patch-prior", examples=[])
@dataclass(frozen=True)
class PatchPrior:
    r"""Patches like those of photographs: their mean :math:`\min_k \tfrac12 p^\top\Sigma_k^{-1}p + \tfrac12\log|\Sigma_k| - \log w_k`.

    x: (B, C, H, W) grey levels -> (B,), times `weight`, for each pixel of a patch, and less its least value, so that a flat image has 0.
    p: a patch of one channel less its own mean; channels count by themselves, so that any number of them is taken. Brightness and contrast
    are those of photographs, in grey levels. Where k does not change the energy is a square: the choice of the component is made anew in
    each evaluation, and the step after it is the solver's. This is the half-quadratic way of the source with β = ∞, without copies of the
    patches. Samples are evaluated one by one, so that none depends on another.

    Parameters
    ----------
    weight : float, default 1
        Of the mean negative log likelihood of a pixel; the photographs
        of a cat and of a cup have 1.9 and 1.5, white noise of the cat's contrast 4.5.
    every : int, default 3
        Pixels between patches, in both directions; the last row and column of patches are at the border.
    file : path or None
        Of the mixture, as `preimage.fit_patch_prior("photos/").save(FILE)` writes it; by default the one that the package carries, of ten
        free photographs.

    Raises
    ------
    InputError : for a weight or a distance that is none, a file that holds no mixture, and images that are smaller than a patch

    Source: Zoran, Weiss, From learning models of natural image patches to whole image restoration, ICCV 2011 (EPLL).

    >>> noise = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 40
    >>> bool(PatchPrior()(noise) > 3), PatchPrior()(torch.zeros(1, 3, 32, 32)).tolist()
    (True, [0.0])
    """

    weight: float = 1.0
    every: int = 3
    file: str | None = field(default=None, metadata=FILE)

    def __post_init__(self) -> None:
        check_positive("weight", self.weight)
        whole("every", self.every, 1)

    def begin(self, x: Tensor) -> PatchPrior:
        """Look at the file before a run begins, and not before: who may name no file is told so without one being opened."""
        self._forms(x)
        return self

    def __call__(self, x: Tensor) -> Tensor:
        forms, constants, side = self._forms(x)
        values = []
        for one in x:
            patches, _, _ = self._patches(one, side)
            values.append(_chosen(patches, forms, constants)[0].mean())
        return torch.stack(values) * (self.weight / side**2)

    def add_gradient(self, x: Tensor, gradient: Tensor) -> Tensor:
        """See `Differentiated`: of each patch the derivative of the square that was chosen."""
        forms, constants, side = self._forms(x)
        values = []
        for one, slope in zip(x, gradient, strict=True):
            patches, rows, columns = self._patches(one, side)
            value, which, seen = _chosen(patches, forms, constants)
            back = torch.zeros_like(patches)
            for k in range(len(forms)):
                (mine,) = torch.where(which == k)
                back[mine] = seen[mine, k] @ forms[k]
            back -= back.mean(dim=1, keepdim=True)
            back *= self.weight / (side**2 * len(patches))
            grid = back.view(len(one), len(rows), len(columns), side, side)
            for i in range(side):
                for j in range(side):
                    slope[:, (rows + i).unsqueeze(1), columns + j] += grid[..., i, j]
            values.append(value.mean())
        return torch.stack(values) * (self.weight / side**2)

    def _forms(self, x: Tensor) -> tuple[Tensor, Tensor, int]:
        forms, constants = _forms_of(self.file)
        side = math.isqrt(forms.shape[-1])
        if min(x.shape[-2:]) < side:
            raise InputError(f"An image of {x.shape[-2]} x {x.shape[-1]} pixels has no patch of {side} x {side}.")
        return forms.to(x), constants.to(x), side

    def _patches(self, one: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of (C, H, W) the patches less their means, (N, side²), and where their first rows and columns are."""
        rows, columns = (torch.tensor(list(_places(n, side, self.every)), device=one.device) for n in one.shape[1:])
        all_ = one.unfold(1, side, 1).unfold(2, side, 1)
        found = all_[:, rows][:, :, columns].reshape(-1, side * side)
        return found - found.mean(dim=1, keepdim=True), rows, columns


def _places(length: int, side: int, every: int) -> Iterator[int]:
    yield from range(0, length - side, every)
    yield length - side


def _chosen(patches: Tensor, forms: Tensor, constants: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The least value of each patch (N,), which component has it (N,), and the whitened patches (N, K, D)."""
    seen = (patches @ forms.flatten(0, 1).T).view(len(patches), *forms.shape[:2])
    value, which = (seen.square().sum(dim=2) / 2 + constants).min(dim=1)
    return value, which, seen


def _forms_of(file: str | None) -> tuple[Tensor, Tensor]:
    if file is None:
        return _carried()
    try:
        about = Path(file).stat()
    except (OSError, ValueError):
        return _whitened(load_patch_mixture(file))  # which says that it is not there
    return _kept(str(Path(file).resolve()), about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=1)
def _carried() -> tuple[Tensor, Tensor]:
    with as_file(files("preimage").joinpath("data/patches.safetensors")) as path:
        return _whitened(load_patch_mixture(path))


@lru_cache(maxsize=8)
def _kept(file: str, _when: int, _size: int) -> tuple[Tensor, Tensor]:
    return _whitened(load_patch_mixture(file))


def _whitened(mixture: PatchMixture) -> tuple[Tensor, Tensor]:
    """Matrices Wₖ with ‖Wₖp‖² = pᵀΣₖ⁻¹p, (K, D, D), and what is added to half of it, (K,), of which the least is 0; in float64."""
    variances, axes = torch.linalg.eigh(mixture.covariances.double())
    forms = axes.mT / variances.sqrt().unsqueeze(2)
    constants = variances.log().sum(dim=1) / 2 - mixture.weights.double().log()
    return forms, constants - constants.min()
