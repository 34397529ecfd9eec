"""Units of a representation: which one is meant, or which direction, and the features that stand for it alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, first_line
from .base import Representation, features_of

Unit = int | str | tuple[int, ...] | Mapping[Any, float] | Tensor | np.ndarray


def as_indices(phi: Representation, unit: Unit) -> tuple[int, ...]:
    """Return a unit as a tuple of indices: (channel,) or a full position."""
    if isinstance(unit, str):
        return (phi.unit_named(unit),)
    indices = unit if isinstance(unit, tuple) else (unit,)
    if not all(isinstance(i, (int, np.integer)) and not isinstance(i, bool) for i in indices):
        raise InputError(f"A unit is a channel, (channel, row, column) or a class name; got {unit!r}.")
    return tuple(int(i) for i in indices) or (0,)  # type: ignore[arg-type]  # of one number an image, () is the only one


def is_direction(unit: Any) -> bool:
    """Return whether this is a direction, a vector over channels or a {unit: weight}, and not one unit."""
    return isinstance(unit, (Mapping, Tensor, np.ndarray)) and not (isinstance(unit, np.ndarray) and unit.ndim == 0)


def unit_key(phi: Representation, unit: Unit) -> str:
    """Return what a unit is, for its seed: the same however it is given."""
    if not is_direction(unit):
        return f"unit {as_indices(phi, unit)}"
    return f"direction {unit_digest(unit)}"


def unit_digest(unit: Any) -> str:
    """Return a hash of a direction's values."""
    if isinstance(unit, Mapping):
        return ",".join(f"{k}:{float(v):g}" for k, v in unit.items())
    return hashlib.sha256(_vector(unit).numpy().tobytes()).hexdigest()[:16]


def unit_targets(
    phi: Representation, units: Sequence[Unit], size: tuple[int, int], everywhere: bool, like: Tensor
) -> tuple[Tensor, list[str]]:
    """Return Φ0 of each unit or direction for images of this size (len(units), ...), and its label.

    A channel of a map is its central unit, or with everywhere its mean; a direction over channels is taken in the same places.
    Raises InputError for a unit that is not there, a direction of another length, and a size that Φ cannot take.
    """
    shape = _shape(phi, size, like)
    phi0 = like.new_zeros(len(units), *shape)
    labels = []
    for target, unit in zip(phi0, units, strict=True):
        if is_direction(unit):
            for indices, weight in _weights(phi, unit, shape):
                _add(target, phi, indices, unit, shape, everywhere, weight)
            labels.append(_direction_label(unit))
            continue
        indices = as_indices(phi, unit)
        _add(target, phi, indices, unit, shape, everywhere, 1.0)
        labels.append(unit if isinstance(unit, str) else f"unit {'-'.join(str(i) for i in indices)}")
    return phi0, labels


def _shape(phi: Representation, size: tuple[int, int], like: Tensor) -> tuple[int, ...]:
    try:
        return tuple(features_of(phi, like.new_zeros(1, phi.space.count, *size)).shape[1:])
    except InputError:
        raise
    except Exception as error:  # whatever a module raises on an image that is too small, or not of its own size
        raise InputError(
            f"{phi.name} cannot take a canvas of {size[0]}x{size[1]} pixels ({first_line(error)}). Choose another canvas."
        ) from error


def _add(
    target: Tensor, phi: Representation, indices: tuple[int, ...], unit: Unit, shape: tuple[int, ...], everywhere: bool, weight: float
) -> None:
    spot: tuple[Any, ...] = indices
    if len(indices) == 1 and len(shape) == 3:
        spot = (indices[0], slice(None), slice(None)) if everywhere else (indices[0], shape[1] // 2, shape[2] // 2)
    if not shape and len(indices) == 1:  # one number an image
        spot = ()
    if len(spot) != len(shape):
        raise InputError(f"The features of {phi.name} have shape {shape}: a unit is {len(shape)} numbers, got {indices}.")
    for i, n in zip(indices, shape or (1,), strict=False):
        if not 0 <= i < n:
            raise InputError(f"There is no unit {unit!r} in {phi.name}: its features have shape {shape} (channels first, from 0).")
    target[spot] += weight / target[spot].numel() if everywhere else weight


def _weights(phi: Representation, unit: Any, shape: tuple[int, ...]) -> list[tuple[tuple[int, ...], float]]:
    """A direction as units and their weights."""
    if isinstance(unit, Mapping):
        found = [(as_indices(phi, u), float(w)) for u, w in unit.items()]
    else:
        vector = _vector(unit)
        if not shape or vector.shape != (shape[0],):
            raise InputError(f"A direction of {phi.name} is a vector over its channels, {shape[:1]}; got {tuple(vector.shape)}.")
        found = [((k,), float(w)) for k, w in enumerate(vector.tolist()) if w != 0]
    if not found or not all(np.isfinite(w) for _, w in found):
        raise InputError("A direction has at least one weight that is not 0, and all of them finite.")
    return found


def _vector(unit: Any) -> Tensor:
    return torch.as_tensor(np.asarray(unit.detach().cpu() if isinstance(unit, Tensor) else unit), dtype=torch.float64)


def _direction_label(unit: Any) -> str:
    if isinstance(unit, Mapping):
        return "units " + " ".join(f"{k}x{float(v):g}" for k, v in unit.items())
    return f"direction {unit_digest(unit)[:8]}"
