"""What every learned inverse has: it knows what it is of, says what it gives, and is written and read as one file."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..networks.network import weights_hash
from ..pixels.images import atomic_write
from ..pixels.pixelspace import PixelSpace
from ..representations.base import Representation, RepresentationLike, as_representation, features_of
from .grid import Grid, Pair, like_of

FORMAT = 1
PROBE_TOLERANCE = 0.02  # of the norm: other devices and precisions round, another layer is another thing altogether


class LearnedInverse(ABC):
    """An image from features, at once. `LinearInverse` and `UpconvInverse` are the two that there are.

    grid: where the image of a cell lies; None for features without places. mean: of each channel, or of each feature. probe: the
    answer to the test picture, by which the layer is recognised. about: layer, network, weights' hash, pixel space, photographs'
    digest, settings and held-out numbers, as plain values.
    """

    kind: str
    grid: Grid | None
    mean: Tensor
    probe: Tensor
    about: Mapping[str, Any]

    @abstractmethod
    def __call__(self, features: Tensor, size: Pair | None = None) -> Tensor:
        """Features (B, …) -> canonical images (B, N, H, W) of the wanted size, not clipped.

        size: that of the images whose features these are; it may be left out for features of the size that was fitted.
        Raises InputError for other features and NaN.
        """

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What a file of it holds, by name, but for the probe: what decides its images."""

    @property
    def channels(self) -> int:
        """N: of the image."""
        return PixelSpace.from_dict(self.about["space"]).count

    def check(self, phi: RepresentationLike) -> None:
        """Raises InputError unless phi has the weights, the pixels and the layer that this inverse was made of."""
        phi = as_representation(phi)
        mine, found = self.about, identity(phi)
        if mine["weights_sha256"] != found["weights_sha256"]:
            raise InputError(f"This inverse is of {mine['layer']} of {_named(mine)}, and {phi.name} is of {_named(found)}: fit one of it.")
        one, other = ({k: v for k, v in s["space"].items() if k not in ("size", "fit")} for s in (mine, found))
        if one != json.loads(json.dumps(other)):
            raise InputError(f"This inverse was fitted for other pixels, {one}, than {phi.name} takes, {other}.")
        seen = probe(phi, (mine["size"][0], mine["size"][1]))
        norm = self.probe.norm().clamp(min=1e-12)
        if seen.shape != self.probe.shape or not float((seen - self.probe).norm() / norm) < PROBE_TOLERANCE:
            raise InputError(
                f"This inverse is of the layer {mine['layer']}, and {phi.name} answers differently to a test picture: fit one of it."
            )

    def masked(self, features: Tensor, weights: Tensor) -> Tensor:
        """Return features with the fitted means in the place of those whose weight is 0, and between for a weight between.

        weights: of the shape of one sample's features or what broadcasts to it, from 0 to 1.
        """
        mean = self.mean.to(features)
        mean = mean[:, None, None] if features.ndim == 4 else mean.view(features.shape[1:])
        return mean + weights.to(features).clamp(0.0, 1.0) * (features - mean)

    def record(self) -> dict[str, Any]:
        """Return which inverse this is, as plain values for a result."""
        held = self.about.get("held_out", {})
        return {"sha256": self.digest, "layer": self.about["layer"], "held_out_psnr": held.get("psnr")}

    @property
    def digest(self) -> str:
        """sha256 of the tensors and the places of the patches: what decides its images."""
        total = hashlib.sha256(repr(self.grid).encode())
        for tensor in self.tensors().values():
            total.update(tensor.contiguous().numpy().tobytes())
        return total.hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, whole or not at all; weights in half precision, as a fit rounds them."""
        from safetensors.torch import save

        grid = None if self.grid is None else asdict(self.grid)
        record = {"version": FORMAT, "kind": self.kind, "grid": grid, "about": dict(self.about)}
        parts = {name: _small(t.contiguous()) if t.ndim > 1 else t.contiguous() for name, t in self.tensors().items()}
        parts["probe"] = self.probe.contiguous()
        with atomic_write(path) as file:
            file.write(save(parts, metadata={"preimage-inverse": json.dumps(record)}))

    def _features(self, features: Tensor) -> Tensor:
        """The features, looked through."""
        if not features.is_floating_point() or not bool(torch.isfinite(features).all()):
            raise InputError("The features hold NaN or infinite values. Mend them first.")
        return features

    def _size(self, cells: Pair | None, size: Pair | None) -> Pair:
        """The size of the image, where none is given that of the fit, for a map of as many cells."""
        if size is not None:
            return size
        if cells is not None and list(cells) != list(self.about["cells"]):
            fitted = "x".join(map(str, self.about["cells"]))
            raise InputError(f"A map of {cells[0]}x{cells[1]} cells needs the size of its image; this inverse was fitted on {fitted}.")
        return self.about["size"][0], self.about["size"][1]


def identity(phi: Representation) -> dict[str, Any]:
    """What a representation is, as plain values."""
    network: Any = phi.network
    return {
        "layer": phi.name,
        "network": None if network is None else network.card.name,
        "weights_sha256": None if phi.module is None else weights_hash(phi.module),
        "space": phi.space.to_dict(),
    }


def probe(phi: Representation, size: Pair) -> Tensor:
    """The answer to a test picture, a smooth one of all frequencies and colours: each channel's mean over a map, or all features."""
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(1, phi.space.count, *size)
    for scale in (4, 16, 64):
        coarse = torch.randn(1, phi.space.count, *(max(2, s // scale) for s in size), generator=generator) * 30
        x = x + F.interpolate(coarse, size, mode="bilinear", align_corners=False)
    with torch.no_grad(), phi.session():
        features = features_of(phi, x.to(like_of(phi)))
    seen = features.flatten(2).mean(dim=(0, 2)) if is_map(features) else features.flatten()
    return seen.float().cpu()


def is_map(features: Tensor) -> bool:
    """Whether features (B, C, h, w) have places: at least 2 x 2 of them."""
    return features.ndim == 4 and min(features.shape[2:]) >= 2


def _small(weights: Tensor) -> Tensor:
    """The weights in half precision, where it holds them to the last bit."""
    half = weights.half()
    return half if bool((half.to(weights.dtype) == weights).all()) else weights


def rounded(weights: Tensor) -> Tensor:
    """Weights as a file keeps them: what half precision holds, where all of them are within its range."""
    half = weights.half()
    return (half if bool(torch.isfinite(half).all()) else weights).float()


def _named(about: Mapping[str, Any]) -> str:
    sha = about["weights_sha256"]
    return f"{about['network'] or 'a network'} with weights {sha[:12]}…" if sha else f"{about['layer']}, which has no weights"
