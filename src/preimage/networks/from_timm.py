"""timm/NAME[.TAG]: timm's models, with the pixels of their pretrained configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..errors import FetchError, InputError, missing_extra
from ..pixels.pixelspace import PixelSpace
from ..registry import unknown
from .checkpoints import no_pickled_code
from .imagenet import class_names
from .network import SOURCES, NetworkCard, Source, same_name


def open_card(name: str) -> NetworkCard:
    """The card of "timm/resnet50" (timm's default weights of it) or "timm/resnet50.a1_in1k".

    Raises UnknownName for a model or tag that timm does not have, MissingExtra without timm.
    """
    try:
        import timm
    except ImportError as error:
        raise missing_extra(f"{name!r} needs timm, which is not installed", "timm") from error
    model = name.removeprefix("timm/")
    architecture, _, tag = model.partition(".")
    if not timm.is_model(architecture):
        raise unknown("model of timm", architecture, timm.list_models(), "timm.list_models()")
    tagged = timm.list_pretrained(f"{architecture}.*") if tag else []
    if tag and model not in tagged:
        raise unknown(f"weights of timm/{architecture}", model, tagged, f"timm.list_pretrained('{architecture}.*')")
    config: Any = timm.get_pretrained_cfg(model)
    if config is None:
        raise InputError(
            f"timm knows {architecture!r} but not its pixels. Build it yourself: preimage.Layer(timm.create_model(…), …, space=…)"
        )
    values = config.to_dict()

    def build() -> nn.Module:
        module: nn.Module = timm.create_model(model, pretrained=False)
        return module

    return NetworkCard(
        name,
        _space(values),
        build,
        _weights(name, model, values) if config.has_weights else None,
        classes=class_names if values.get("num_classes") == 1000 and "in1k" in (values.get("tag") or "") else None,
        source=_place(values),
        licence=str(values.get("license") or "that of the weights; timm's code is Apache-2.0"),
        paper=" ".join(values.get("paper_ids") or []) if not isinstance(values.get("paper_ids"), str) else values["paper_ids"],
        resize=_resize,
    )


def _space(config: Mapping[str, Any]) -> PixelSpace:
    count, height, width = config["input_size"]
    if count == 3:
        return PixelSpace((height, width), "rgb", 1.0, config["mean"], config["std"])
    return PixelSpace((height, width), "grey" if count == 1 else count, 1.0, config["mean"][:1], config["std"][:1])


def _weights(name: str, model: str, config: Mapping[str, Any]) -> Any:
    def weights() -> Mapping[str, Tensor]:
        import timm

        try:
            with no_pickled_code():
                module: nn.Module = timm.create_model(model, pretrained=True)
        except Exception as error:
            raise FetchError(
                f"The weights of {name} could not be fetched or read ({' '.join(str(error).split())[:300]}). Get {_file(config)} from "
                f"{_place(config)} and give it (weights=PATH, --weights PATH), or put it into the library's cache ({_cache(config)})."
            ) from error
        return module.state_dict()

    return weights


def _file(config: Mapping[str, Any]) -> str:
    if config.get("hf_hub_id"):
        return str(config.get("hf_hub_filename") or "model.safetensors")
    return str(config.get("url") or "the file").rsplit("/", 1)[-1]


def _cache(config: Mapping[str, Any]) -> str:
    if config.get("hf_hub_id"):
        from huggingface_hub.constants import HF_HUB_CACHE

        return f"hf download {config['hf_hub_id']}, which fills {HF_HUB_CACHE}"
    import torch

    return f"{torch.hub.get_dir()}/checkpoints"


def _place(config: Mapping[str, Any]) -> str:
    if config.get("hf_hub_id"):
        return f"huggingface.co/{config['hf_hub_id']}"
    return str(config.get("url") or "")


def _resize(module: nn.Module, size: tuple[int, int]) -> nn.Module:
    """timm's transformers interpolate their position embeddings themselves; convolutional networks need nothing."""
    change = getattr(module, "set_input_size", None)
    if change is not None:
        change(img_size=size)
    return module


def _alike(name: str) -> list[str]:
    """The model of this name, where timm is here and has one."""
    try:
        import timm
    except ImportError:
        return []
    return [f"timm/{n}" for n in same_name(name, timm.list_models())]


SOURCES.register("timm")(
    Source(
        form="timm/NAME[.TAG]",
        matches=lambda name: name.startswith("timm/"),
        open=open_card,
        about="a model of timm, as timm/vit_base_patch16_224 or timm/resnet50.a1_in1k (extra: timm)",
        alike=_alike,
    )
)
