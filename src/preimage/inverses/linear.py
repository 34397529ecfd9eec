"""A linear inverse: what each cell of a map of features, and those around it, tell about the pixels under it."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..networks.network import weights_hash
from ..pixels.images import atomic_write
from ..pixels.pixelspace import PixelSpace
from ..representations.base import Representation, RepresentationLike, as_representation
from .grid import Grid, Pair, like_of

FORMAT = 1
PROBE_TOLERANCE = 0.02  # of the norm: other devices and precisions round, another layer is another thing altogether
_TENSORS = ("mean", "projection", "weights", "offsets", "probe")


@dataclass(frozen=True, eq=False)
class LinearInverse:
    r"""An image from features in one convolution: patch of cell u = W · P(Φ(u + k x k neighbourhood) − mean) + b, patches blended.

    Made by `fit_inverse`, read by `load_inverse`. Applies to a map of any number of cells.

    Parameters
    ----------
    grid : Grid
        Where the patches lie.
    mean : tensor (C,)
        Of each channel, taken out first.
    projection : tensor (r, C)
        P: the combinations of channels that are used.
    weights : tensor (N·side·side, r, k, k)
        W, for the N channels of the image, of which `offsets` (N·side·side,) is b.
    probe : tensor (C,)
        The mean answer of each channel to the test picture, by which the layer is recognised.
    about : mapping
        Layer, network, weights' hash, pixel space, photographs' digest, settings and held-out numbers, as plain values.
    """

    grid: Grid
    mean: Tensor
    projection: Tensor
    weights: Tensor
    offsets: Tensor
    probe: Tensor
    about: Mapping[str, Any] = field(repr=False)

    def __post_init__(self) -> None:
        C, r, k = len(self.mean), len(self.projection), self.kernel
        patch = self.channels * math.prod(self.grid.side)
        wanted = {"mean": (C,), "projection": (r, C), "weights": (patch, r, k, k), "offsets": (patch,), "probe": (C,)}
        for name, shape in wanted.items():
            tensor: Tensor = getattr(self, name)
            if tuple(tensor.shape) != shape or not tensor.is_floating_point() or 0 in shape or k % 2 == 0:
                raise InputError(f"{name} of an inverse has shape {shape} with an odd k; got {tuple(tensor.shape)}, {tensor.dtype}.")
            if not bool(torch.isfinite(tensor).all()):
                raise InputError(f"{name} of an inverse holds NaN or infinite values.")

    @property
    def kernel(self) -> int:
        """k: how many cells of the map along each side tell about a patch."""
        return self.weights.shape[-1]

    @property
    def channels(self) -> int:
        """N: of the image."""
        return PixelSpace.from_dict(self.about["space"]).count

    def __call__(self, features: Tensor, size: Pair | None = None) -> Tensor:
        """Features (B, C, h, w) -> canonical images (B, N, H, W) of the wanted size, not clipped.

        size: that of the images whose features these are; it may be left out for a map of the size that was fitted.
        Raises InputError for other features and NaN.
        """
        if features.ndim != 4 or features.shape[1] != len(self.mean) or not features.is_floating_point():
            raise InputError(
                f"This inverse is of {self.about['layer']} and takes features (B, {len(self.mean)}, h, w); got {tuple(features.shape)}."
            )
        if not bool(torch.isfinite(features).all()):
            raise InputError("The features hold NaN or infinite values. Mend them first.")
        cells = (features.shape[2], features.shape[3])
        if size is None:
            if list(cells) != list(self.about["cells"]):
                fitted = "x".join(map(str, self.about["cells"]))
                raise InputError(f"A map of {cells[0]}x{cells[1]} cells needs the size of its image; this inverse was fitted on {fitted}.")
            size = (self.about["size"][0], self.about["size"][1])
        dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
        mean, projection, weights, offsets = (
            t.to(features.device, dtype) for t in (self.mean, self.projection, self.weights, self.offsets)
        )
        z = reduced(features.to(dtype), mean, projection)
        patches = F.conv2d(framed(z, self.kernel), weights, offsets)
        return self.grid.blend(patches.flatten(2), cells, size).to(dtype)

    def __repr__(self) -> str:
        held = self.about.get("held_out", {})
        numbers = f", {held['psnr']:.1f} dB on photographs held out" if "psnr" in held else ""
        return f"LinearInverse(of {self.about['layer']}, {self.kernel}x{self.kernel} cells, rank {len(self.projection)}{numbers})"

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
        """Return features (B, C, h, w) with each channel's mean in the place of those whose weight is 0, and between for a weight between.

        weights: (C, h, w) or what broadcasts to it, from 0 to 1.
        """
        mean = self.mean.to(features)[:, None, None]
        return mean + weights.to(features).clamp(0.0, 1.0) * (features - mean)

    def record(self) -> dict[str, Any]:
        """Return which inverse this is, as plain values for a result."""
        held = self.about.get("held_out", {})
        return {"sha256": self.digest, "layer": self.about["layer"], "held_out_psnr": held.get("psnr")}

    @property
    def digest(self) -> str:
        """sha256 of the tensors and the places of the patches: what decides its images."""
        total = hashlib.sha256(repr(self.grid).encode())
        for name in _TENSORS[:-1]:
            total.update(getattr(self, name).contiguous().numpy().tobytes())
        return total.hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, whole or not at all; weights in half precision, as `fit_inverse` rounds them."""
        from safetensors.torch import save

        record = {"version": FORMAT, "grid": asdict(self.grid), "about": dict(self.about)}
        parts = {name: getattr(self, name).contiguous() for name in _TENSORS}
        parts["weights"] = parts["weights"].half() if half_is_exact(parts["weights"]) else parts["weights"]
        with atomic_write(path) as file:
            file.write(save(parts, metadata={"preimage-inverse": json.dumps(record)}))


def load_inverse(path: str | os.PathLike[str], phi: RepresentationLike) -> LinearInverse:
    """Read back an inverse, for the representation that it was made of.

    Parameters
    ----------
    path : path
        A file that `LinearInverse.save` or `preimage inverse fit` wrote.
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


def read(path: str | os.PathLike[str]) -> LinearInverse:
    """Read an inverse, without a look at what it is to be used for. Raises InputError as `load_inverse`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})["preimage-inverse"])
            parts = {name: file.get_tensor(name) for name in _TENSORS}
        if record["version"] != FORMAT:
            raise InputError(f"version {record['version']}, and this preimage reads version {FORMAT}.")
        about = record["about"]
        if not {"layer", "network", "weights_sha256", "space", "size", "cells", "held_out"} <= set(about):
            raise InputError("its record is not complete.")
        # copied, as sums of tensors that lie in a file at odd addresses come out other in their last bits
        grid = Grid(**{name: (int(v[0]), int(v[1])) for name, v in record["grid"].items()})
        inverse = LinearInverse(grid, **{name: t.to(torch.float32, copy=True) for name, t in parts.items()}, about=about)
    except InputError as error:
        raise InputError(f"{str(path)!r} holds no usable inverse: {error}") from error
    except (OSError, KeyError, TypeError, ValueError, IndexError, AttributeError, SafetensorError) as error:
        raise InputError(f"{str(path)!r} holds no inverse ({error}). Make one: preimage inverse fit NET --layers NAME -o FILE") from error
    return inverse


def reduced(features: Tensor, mean: Tensor, projection: Tensor) -> Tensor:
    """Features (B, C, h, w) without their mean, in the r combinations of channels: (B, r, h, w)."""
    return F.conv2d(features, projection[:, :, None, None], -(projection @ mean))


def framed(z: Tensor, kernel: int) -> Tensor:
    """A map with its border repeated outwards, so that the outermost cells have neighbours too."""
    return F.pad(z, [kernel // 2] * 4, mode="replicate")


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
    """The mean answer of each channel (C,) to a test picture, a smooth one of all frequencies and colours."""
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(1, phi.space.count, *size)
    for scale in (4, 16, 64):
        coarse = torch.randn(1, phi.space.count, *(max(2, s // scale) for s in size), generator=generator) * 30
        x = x + F.interpolate(coarse, size, mode="bilinear", align_corners=False)
    with torch.no_grad(), phi.session():
        features = phi(x.to(like_of(phi)))
    if features.ndim != 4:
        raise InputError(f"An inverse needs a map of features (B, C, h, w); {phi.name} gives {tuple(features.shape)}.")
    return features.flatten(2).mean(dim=(0, 2)).float().cpu()


def half_is_exact(weights: Tensor) -> bool:
    """Whether half precision holds these weights to the last bit."""
    return bool((weights.half().to(weights.dtype) == weights).all())


def _named(about: Mapping[str, Any]) -> str:
    sha = about["weights_sha256"]
    return f"{about['network'] or 'a network'} with weights {sha[:12]}…" if sha else f"{about['layer']}, which has no weights"
