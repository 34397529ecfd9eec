"""LPIPS (Zhang et al. 2018), where its true weights are: those of its backbone are torchvision's, and do not come with any package."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import InputError, missing_extra
from ..registry import unknown


@dataclass(frozen=True)
class _Net:
    """file: torchvision's checkpoint, whose name ends in the first digits of its sha256. compared: the ReLUs (or fires) that are compared.
    linear: sha256 of the weights of the channels, in the package lpips."""

    model: str
    file: str
    compared: tuple[int, ...]
    linear: str


_NETS = {
    "alex": _Net(
        "alexnet", "alexnet-owt-7be5be79.pth", (1, 4, 7, 9, 11), "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"
    ),
    "vgg": _Net("vgg16", "vgg16-397923af.pth", (3, 8, 15, 22, 29), "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
    "squeeze": _Net(
        "squeezenet1_1",
        "squeezenet1_1-b8a52dc0.pth",
        (1, 4, 7, 9, 10, 11, 12),
        "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76",
    ),
}
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of LPIPS, for pixels from -1 to 1


class LPIPS:
    """The distance of Zhang et al. 2018, version 0.1: (B, 3, H, W) levels 0–255 twice -> (B,), 0 for the same image.

    net: "alex" (the authors' choice for a metric), "vgg" or "squeeze". weights: torchvision's checkpoint of that network, whose
    sha256 is checked; by default it is looked for where torch.hub keeps downloads. Nothing is downloaded. The weights of the channels
    come with the PyPI package lpips (the extra `lpips`); only its data files are read. Other weights of the same architecture, as
    those of Caffe's SqueezeNet, would give another number by the same name, and are refused.
    Raises MissingExtra if lpips is not installed, and InputError if the checkpoint is not there or another.
    """

    def __init__(self, net: str = "alex", weights: str | os.PathLike[str] | None = None) -> None:
        if net not in _NETS:
            raise unknown("LPIPS network", net, list(_NETS), "preimage.metrics.LPIPS")
        self.net, found = net, _NETS[net]
        self._linear = _linear_weights(net, found)
        self._features = _backbone(found, Path(weights) if weights is not None else _cached(found))
        self._compared = set(found.compared)

    def __repr__(self) -> str:
        return f"LPIPS({self.net!r})"

    def __call__(self, images: Tensor, reference: Tensor) -> Tensor:
        """Of levels 0–255, clipped. Raises InputError for images that are not RGB or of different shapes."""
        if images.shape != reference.shape or images.ndim != 4 or images.shape[1] != 3:
            raise InputError(f"LPIPS compares RGB images of one shape (B, 3, H, W); got {tuple(images.shape)}, {tuple(reference.shape)}.")
        return torch.cat([self._one(x[None], y[None]) for x, y in zip(images, reference, strict=True)])

    def _one(self, image: Tensor, reference: Tensor) -> Tensor:
        """One pair: the last bits must not depend on the batch."""
        x = torch.cat([image, reference]).float().cpu().clamp(0, 255) / 127.5 - 1.0
        x = (x - x.new_tensor(_SHIFT).view(1, 3, 1, 1)) / x.new_tensor(_SCALE).view(1, 3, 1, 1)
        distance, linear = torch.zeros(1), iter(self._linear)
        with torch.no_grad():
            for k, layer in enumerate(self._features):
                x = layer(x)
                if k in self._compared:
                    unit = x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
                    distance = distance + ((unit[:1] - unit[1:]).square() * next(linear)).sum(dim=1).mean()
        return distance


def _linear_weights(net: str, found: _Net) -> list[Tensor]:
    """One weight a channel, (1, C, 1, 1), for each layer compared."""
    name = f"lpips/weights/v0.1/{net}.pth"
    try:
        file = next((f for f in files("lpips") or [] if f.as_posix() == name), None)
    except PackageNotFoundError:
        file = None
    if file is None:
        raise missing_extra("LPIPS needs the weights in the PyPI package lpips 0.1.4", "lpips")
    state = _checked(Path(str(file.locate())), found.linear)
    return [state[f"lin{k}.model.1.weight"] for k in range(len(found.compared))]


def _backbone(found: _Net, path: Path) -> nn.Sequential:
    """The features of torchvision's network, as far as the last layer compared."""
    import torchvision

    state = _checked(path, found.file.rpartition("-")[2].removesuffix(".pth"))
    model: nn.Module = getattr(torchvision.models, found.model)(weights=None)
    model.load_state_dict(dict(state))
    features = model.get_submodule("features")
    assert isinstance(features, nn.Sequential)
    return features[: found.compared[-1] + 1].eval().requires_grad_(False)


def _cached(found: _Net) -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / found.file
    if not path.is_file():
        raise InputError(
            f"LPIPS needs torchvision's weights of {found.model}, which are not here. Fetch them once: "
            f"python -c \"from torchvision.models import {found.model}; {found.model}(weights='IMAGENET1K_V1')\""
        )
    return path


def _checked(path: Path, sha256: str) -> Mapping[str, Tensor]:
    """A checkpoint, read without running code. sha256: all of its digits, or the first ones."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error
    digest = hashlib.sha256(data).hexdigest()
    if not digest.startswith(sha256):
        raise InputError(f"{str(path)!r} is not the file that is wanted: its sha256 begins with {digest[:8]}, not with {sha256[:8]}.")
    state: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
