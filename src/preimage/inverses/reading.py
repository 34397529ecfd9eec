"""Learned inverses read back from their files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..representations.base import RepresentationLike
from .grid import Grid
from .layerwise import LayerwiseInverse
from .learned import FORMAT, LearnedInverse
from .linear import LinearInverse
from .upconv import UpconvInverse

_NEEDED = {"layer", "network", "weights_sha256", "space", "size", "cells", "held_out"}


def load_inverse(path: str | os.PathLike[str], phi: RepresentationLike) -> LearnedInverse:
    """Read back an inverse, for the representation that it was made of.

    Parameters
    ----------
    path : path
        A file that `LearnedInverse.save` or `preimage inverse fit` wrote.
    phi : representation
        Its weights, pixels and layer must be those that the inverse was fitted to.

    Raises
    ------
    InputError
        For a file that holds something else, is truncated, holds NaN or is of another network, layer or pixel space.
    """
    inverse = read(path)
    try:
        inverse.check(phi)
    except InputError as error:
        raise InputError(f"{str(path)!r} is of no use here: {error}") from error
    return inverse


def read(path: str | os.PathLike[str]) -> LearnedInverse:
    """Read an inverse, without a look at what it is to be used for. Raises InputError as `load_inverse`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})["preimage-inverse"])
            # copied, as sums of tensors that lie in a file at odd addresses come out other in their last bits
            parts = {name: file.get_tensor(name).to(torch.float32, copy=True) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        inverse = _made(record, parts)
    except InputError as error:
        raise InputError(f"{str(path)!r} holds no usable inverse: {error}") from error
    except (OSError, KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{str(path)!r} holds no inverse ({error}). Make one: preimage inverse fit NET --layers NAME -o FILE") from error
    return inverse


def _made(record: Mapping[str, Any], parts: dict[str, Tensor]) -> LearnedInverse:
    if record["version"] != FORMAT:
        raise InputError(f"version {record['version']}, and this preimage reads version {FORMAT}.")
    about, kind = record["about"], record.get("kind", "linear")
    if not set(about) >= _NEEDED:
        raise InputError("its record is not complete.")
    grid = None if record["grid"] is None else _grid(record["grid"])
    probe = parts.pop("probe")
    if kind == "layerwise":
        return LayerwiseInverse(tuple(_step(k, one, parts) for k, one in enumerate(about["steps"])), probe, about)
    if kind == "upconv":
        return UpconvInverse(grid, parts.pop("mean"), parts.pop("deviation"), parts, probe, about)
    if kind != "linear" or grid is None:
        raise InputError(f"its kind is {kind!r}, which this preimage does not know.")
    return LinearInverse(grid, parts["mean"], parts["projection"], parts["weights"], parts["offsets"], probe, about)


def _grid(record: Mapping[str, Any]) -> Grid:
    return Grid(**{name: (int(v[0]), int(v[1])) for name, v in record.items()})


def _step(k: int, about: Mapping[str, Any], parts: Mapping[str, Tensor]) -> LinearInverse:
    """One step of a layerwise inverse; its own probe is not kept, as the whole is recognised by its first."""
    tensors = {name: parts[f"{k}.{name}"] for name in ("mean", "projection", "weights", "offsets")}
    if not {"size", "cut", "to", "space"} <= set(about):
        raise InputError(f"the record of step {k} is not complete.")
    return LinearInverse(_grid(about["grid"]), **tensors, probe=torch.zeros_like(tensors["mean"]), about=about)
