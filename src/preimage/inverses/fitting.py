"""What the fits of all inverses share: the size of the crops, the bar, the state on disk, and the numbers on photographs held out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..bars import progress_bar
from ..errors import InputError
from ..pixels.images import atomic_write
from ..representations.base import Representation, device_of, features_of
from .grid import Pair, like_of
from .learned import LearnedInverse
from .photographs import Crops

SIDE = 224  # of crops for representations of any size
HELD_CROPS = 24  # of photographs held out, that give the numbers


class Checkpoint:
    """The state of a fit that has not ended: named sets of tensors, and how many crops are in each; one file, always whole.

    path: of the file; what is there already must be of a fit with the same `about`.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path, self.about = path, json.loads(json.dumps(about))
        self._found: dict[str, tuple[dict[str, Tensor], int]] = self._load() if path.exists() else {}

    def read(self, name: str) -> tuple[dict[str, Tensor], int] | None:
        """The tensors of a name and how many crops are in them, if they are there."""
        return self._found.get(name)

    def write(self, name: str, tensors: Mapping[str, Tensor], done: int) -> None:
        """Keep the tensors of a name; `done` crops are in them."""
        from safetensors.torch import save

        self._found[name] = ({k: t.detach().cpu().contiguous() for k, t in tensors.items()}, done)
        every = {f"{n}/{k}": t for n, (found, _) in self._found.items() for k, t in found.items()}
        record = {"about": self.about, "done": {n: d for n, (_, d) in self._found.items()}}
        with atomic_write(self.path) as file:
            file.write(save(every, metadata={"preimage-inverse-checkpoint": json.dumps(record)}))

    def _load(self) -> dict[str, tuple[dict[str, Tensor], int]]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as file:
                record = json.loads((file.metadata() or {})["preimage-inverse-checkpoint"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            found: dict[str, tuple[dict[str, Tensor], int]] = {n: ({}, int(done)) for n, done in record["done"].items()}
            for key, tensor in tensors.items():
                name, _, part = key.partition("/")
                found[name][0][part] = tensor
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise InputError(f"{str(self.path)!r} is no checkpoint of a fit ({error}). Name another file, or remove it.") from error
        differ = [k for k, v in self.about.items() if record["about"].get(k) != v]
        if differ:
            raise InputError(f"{str(self.path)!r} is of a fit with another {' and '.join(differ)}. Name another file, or remove it.")
        return found


def fit_session(phi: Representation) -> AbstractContextManager[None]:
    """Prepare a representation for a fit: channels last where a task has them too, as max pooling is several times as fast so on a CPU."""
    return phi.session(channels_last=phi.prefers_channels_last and device_of(phi).type == "cpu")


def held_out_numbers(inverse: LearnedInverse, phi: Representation, crops: Crops, count: int = HELD_CROPS) -> dict[str, Any]:
    """Means over crops of photographs held out: PSNR in dB, and the normalised error of the features of the inverse's images."""
    psnr, error = [], []
    for n in range(count):
        x = crops[n].to(like_of(phi))
        f = features_of(phi, x)
        found = inverse(f, (x.shape[2], x.shape[3]))
        levels = phi.space.decode(found.to(x)).clamp(0.0, 255.0)
        psnr.append(10 * torch.log10(255.0**2 / (levels - phi.space.decode(x)).square().mean()).item())
        again = features_of(phi, levels - phi.space.mean_colour.to(x))
        error.append(((again - f).norm() / f.norm()).item())
    return {"crops": count, "psnr": sum(psnr) / count, "feature_error": sum(error) / count}


def canvas_of(phi: Representation, size: int | Pair | None) -> Pair:
    """The size of the crops: the one that was asked for, the one that Φ takes, or 224. Raises InputError for what is none."""
    if size is None:
        return phi.space.size or (SIDE, SIDE)
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(s, int) and s > 0 for s in sides):
        raise InputError(f"size is a whole number of pixels, or (height, width); got {size!r}.")
    return sides[0], sides[1]


@contextmanager
def fit_bar(title: str, length: int, shown: bool) -> Iterator[Callable[[int], Any]]:
    """A bar over the crops of a fit; gives what is called with how many more are done."""
    with progress_bar(total=length, desc=f"inverse of {title}", unit="crop", shown=shown) as bar:
        yield bar.update
