"""torchvision/NAME[:WEIGHTS]: torchvision's classifiers, with the pixels and classes that their weights come with."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import FetchError, InputError
from ..pixels.pixelspace import PixelSpace
from ..registry import unknown
from .checkpoints import no_pickled_code
from .network import SOURCES, NetworkCard, Source, same_name

# the trained weights of these two were made for inputs that the module itself normalises again
_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "transform_input": True},
    "inception_v3": {"transform_input": True},
}


def open_card(name: str) -> NetworkCard:
    """The card of "torchvision/resnet50" (the library's default weights) or "torchvision/resnet50:IMAGENET1K_V1".

    Raises UnknownName for a model or weights that torchvision does not have.
    """
    from torchvision import models

    model, _, tag = name.removeprefix("torchvision/").partition(":")
    known = models.list_models(module=models)
    if model not in known:
        raise unknown("classifier of torchvision", model, known, "torchvision.models.list_models(module=torchvision.models)")
    choices = models.get_model_weights(model).__members__
    if tag and tag not in choices:
        raise unknown(f"weights of torchvision/{model}", tag, list(choices), f"torchvision.models.get_model_weights({model!r})")
    chosen = choices[tag or "DEFAULT"]
    classes = chosen.meta.get("categories")

    def build() -> nn.Module:
        random = {"init_weights": True} if model in _OPTIONS else {}
        module: nn.Module = models.get_model(model, weights=None, **_OPTIONS.get(model, {}), **random)
        return module

    def weights() -> Mapping[str, Tensor]:
        _fetch(chosen.url)
        with no_pickled_code():
            module: nn.Module = models.get_model(model, weights=chosen, **_OPTIONS.get(model, {}))
        return module.state_dict()

    return NetworkCard(
        name,
        _space(chosen.transforms()),
        build,
        weights,
        classes=(lambda: list(classes)) if classes else None,
        source=str(chosen.url),
        licence="that of the weights; torchvision's code is BSD-3-Clause",
        paper=str(chosen.meta.get("recipe", "")),
    )


def _space(preset: Any) -> PixelSpace:
    """The space of torchvision.transforms._presets.ImageClassification: scaled to 0–1, mean, std, a square crop."""
    crop = preset.crop_size
    return PixelSpace(int(crop[0] if isinstance(crop, (list, tuple)) else crop), "rgb", 1.0, tuple(preset.mean), tuple(preset.std))


def _fetch(url: str) -> None:
    """See that the file is in torch hub's own cache and is the one its name says (the name ends in the sha256's first digits).

    Raises FetchError if it is not there and cannot be fetched, InputError for another content.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / url.rsplit("/", 1)[-1]
    digits = re.search(r"-([a-f0-9]{8,})\.", path.name)
    prefix = digits[1] if digits else None
    if not path.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), prefix, progress=True)
        except (OSError, RuntimeError) as error:
            raise FetchError(
                f"The weights {path.name} could not be fetched ({' '.join(str(error).split())}). "
                f"Get them from {url} and put them into {folder}, or give a file of your own (weights=PATH, --weights PATH)."
            ) from error
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if prefix and not digest.startswith(prefix):
        raise InputError(f"{path} has sha256 {digest}, wanted {prefix}…: delete it, and it is fetched again from {url}.")


def _alike(name: str) -> list[str]:
    """The classifier of this name, where torchvision has one."""
    from torchvision import models

    return [f"torchvision/{n}" for n in same_name(name, models.list_models(module=models))]


SOURCES.register("torchvision")(
    Source(
        form="torchvision/NAME[:WEIGHTS]",
        matches=lambda name: name.startswith("torchvision/"),
        open=open_card,
        about="a classifier of torchvision, as torchvision/vgg16 or torchvision/resnet50:IMAGENET1K_V1",
        alike=_alike,
    )
)
