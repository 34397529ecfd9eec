"""Directions in files: vectors over the channels of a layer, in .npy and .safetensors."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, first_line
from ..files import atomic_write

OWN = "preimage-direction"
_LARGEST = 2**31  # bytes of a file of vectors
_ENCODERS = ("encoder.weight", "W_enc")  # of a sparse autoencoder: see `directions.autoencoder`


def load_direction(path: str | os.PathLike[str], which: str | int | None = None) -> Tensor:
    """Read a direction, a vector over the channels of a layer, from a file.

    Parameters
    ----------
    path : path
        `.npy`, or `.safetensors` as `preimage direction` and other tools write them; nothing in either can run code.
    which : str or int, optional
        The name of a tensor in a .safetensors file, or the row of a matrix (K, C). Default the only vector, or of the files of
        `preimage direction` the one that it says. For a sparse autoencoder's state a row is a latent's encoder vector.

    Returns
    -------
    tensor (C,)
        float32.

    Raises
    ------
    InputError
        For a file that holds no such vector, with the names that it has.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/v.npy", np.eye(3, dtype=np.float32))
    ...     load_direction(f"{folder}/v.npy", 1)
    tensor([0., 1., 0.])
    """
    tensors, own = read_vectors(path)
    name = which if isinstance(which, str) else None
    if name is None:
        name = next((n for n in (own.get("use"), "direction", *_ENCODERS) if n in tensors), None)
        name = name or (next(iter(tensors)) if len(tensors) == 1 else None)
    if name not in tensors:
        raise InputError(f"{str(path)!r} has no vector {which or 'of its own choice'!r}. Name one of: {', '.join(sorted(tensors)[:20])}.")
    found = tensors[name]
    if name == "W_enc":  # (C, latents) in the files that name it so
        found = found.T
    return _row(found, which if isinstance(which, int) else None, f"{name} in {str(path)!r}")


def save_direction(path: str | os.PathLike[str], vectors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write vectors with what they are, one .safetensors file, whole or not at all. about: plain values; "use" names the default one."""
    from safetensors.torch import save

    tensors = {name: v.detach().cpu().float().contiguous() for name, v in vectors.items()}
    with atomic_write(path) as file:
        file.write(save(tensors, metadata={OWN: json.dumps(dict(about))}))


def read_vectors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read all floating-point tensors of a file, and what the file says of itself. Raises InputError for another kind of file."""
    from safetensors import SafetensorError, safe_open

    place = Path(path)
    try:
        if place.stat().st_size > _LARGEST:
            raise InputError(f"{str(path)!r} has more than {_LARGEST:,} bytes.")
        if place.suffix == ".npy":
            array = np.load(place, allow_pickle=False)
            return {"direction": torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))}, {}
        if place.suffix != ".safetensors":
            raise InputError(f"A direction is read from .npy or .safetensors; got {str(path)!r}.")
        with safe_open(place, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            own = json.loads((file.metadata() or {}).get(OWN, "{}"))
        return {k: v.float() for k, v in found.items() if v.is_floating_point()}, own if isinstance(own, dict) else {}
    except InputError:
        raise
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise InputError(f"{str(path)!r} holds no vectors ({first_line(error)}).") from error


def parse_direction(text: str) -> Tensor:
    """Read a direction as the command line names it: FILE, FILE:NAME or FILE:ROW. Raises InputError."""
    if Path(text).is_file():
        return load_direction(text)
    path, colon, which = text.rpartition(":")
    if not colon or not Path(path).is_file():
        raise InputError(f"There is no file of directions {text!r}. Give FILE, FILE:NAME or FILE:ROW.")
    return load_direction(path, int(which) if which.isdecimal() else which)


def _row(found: Tensor, row: int | None, name: str) -> Tensor:
    if found.ndim == 2 and len(found) == 1 and row is None:
        row = 0
    if found.ndim == 2 and row is not None:
        if not 0 <= row < len(found):
            raise InputError(f"There is no row {row} in {name}: it has {len(found)}, from 0.")
        found = found[row]
    if found.ndim != 1 or (row not in (None, 0) and len(found) <= (row or 0)):
        raise InputError(f"{name} has shape {tuple(found.shape)}: a direction is a vector, or a row of a matrix, FILE:ROW.")
    if not bool(found.isfinite().all()) or not bool(found.any()):
        raise InputError(f"{name} is no direction: all of its values are 0, or some are not finite.")
    return found.clone()
