"""transformers/FOLDER-OR-ID: vision models of Hugging Face transformers, with the pixels of their image processor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import FetchError, InputError, PreimageError, first_line, missing_extra
from ..pixels.pixelspace import PixelSpace
from .hub_files import PARAMETERS, check_config, check_index, check_processor
from .network import SOURCES, NetworkCard, Source

_PROCESSOR, _INDEX = "preprocessor_config.json", "model.safetensors.index.json"


def open_card(name: str) -> NetworkCard:
    """The card of a folder that save_pretrained wrote, or of a model on the Hugging Face hub (fetched by its own library).

    A classifier keeps its head; of a model of pictures and text (CLIP, SigLIP) this is the image tower. Code that comes with a
    model is never run, and weights are read from safetensors alone. The space is None if there is no image processor's file.
    Raises InputError for models of other things, FetchError for what is not here and cannot be fetched, MissingExtra.
    """
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise missing_extra(f"{name!r} needs transformers, which is not installed", "transformers") from error
    place = name.removeprefix("transformers/")
    config = _config(name, place)
    kind = _kind(name, config)
    vision = getattr(config, "vision_config", config)
    labels = getattr(vision, "id2label", None) if "Classification" in kind.__name__ else None
    return NetworkCard(
        name,
        _space(name, place, vision),
        lambda: _built(name, kind, vision),
        lambda: _trained(name, place, kind, vision).state_dict(),
        classes=(lambda: [str(labels[i]) for i in range(len(labels))]) if labels else None,
        source=place,
        licence="that of the weights; transformers' code is Apache-2.0",
        resize=_resize,
    )


def _config(name: str, place: str) -> Any:
    from transformers import AutoConfig

    folder = Path(place)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"The folder {place!r} has no config.json: it is not one that save_pretrained wrote.")
        if (folder / "adapter_config.json").exists():
            raise InputError(f"The folder {place!r} holds an adapter of another model. Merge it into the model, and save that.")
        check_config(folder / "config.json")
        if (folder / _INDEX).exists():
            check_index(folder / _INDEX)
    else:
        check_config(_fetched(name, place, "config.json"))
    with _fetching(name, place), _quiet():
        return AutoConfig.from_pretrained(place, trust_remote_code=False)


def _kind(name: str, config: Any) -> Any:
    """The class of the model: the image tower, the classifier where the weights are those of one, or the plain model."""
    from transformers import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, MODEL_MAPPING

    vision = getattr(config, "vision_config", config)
    said = getattr(config, "architectures", None)
    built = str(said[0]) if isinstance(said, list) and said else ""
    heads: Any = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING.get(type(config), None) or []
    candidates: list[Any] = [*(heads if isinstance(heads, (tuple, list)) else [heads]), MODEL_MAPPING.get(type(vision), None)]
    for kind in candidates if vision is config else candidates[-1:]:
        if kind is not None and kind.main_input_name == "pixel_values" and (kind is candidates[-1] or kind.__name__ == built):
            return kind
    model = type(config).__name__.removesuffix("Config")
    raise InputError(f"{name} is a {model} model ({built or 'of no architecture'}), which takes no images alone.")


def _space(name: str, place: str, config: Any) -> PixelSpace | None:
    """Read from the processor's file; None if there is none, or it does not normalise."""
    path = Path(place) / _PROCESSOR if Path(place).is_dir() else _fetched_processor(name, place)
    if path is None or not path.is_file():
        return None
    values = check_processor(path)
    size = _size(values.get("crop_size")) if values.get("do_center_crop") else None
    size = size or _size(values.get("size")) or _size(getattr(config, "image_size", None))
    if size is None or not isinstance(values.get("image_mean"), list):
        return None
    normalises = values.get("do_normalize", True)
    factor = values.get("rescale_factor") or 1 / 255
    if not values.get("do_rescale", True) or abs(factor * 255 - 1) > 1e-3:
        raise InputError(
            f"The processor of {name} scales pixels by {factor:g}, which is neither 0–1 nor 0–255: give its space yourself (space=…)."
        )
    mean, std = (values["image_mean"], values["image_std"]) if normalises else ((0.0,), (1.0,))
    return PixelSpace(size, "grey" if len(mean) == 1 and getattr(config, "num_channels", 3) == 1 else "rgb", 1.0, tuple(mean), tuple(std))


def _fetched_processor(name: str, place: str) -> Path | None:
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return _fetched(name, place, _PROCESSOR)
    except FetchError as error:  # without a connection it is not known whether the model has such a file
        if isinstance(error.__cause__, EntryNotFoundError) and not isinstance(error.__cause__, LocalEntryNotFoundError):
            return None
        raise


def _fetched(name: str, place: str, file: str) -> Path:
    from huggingface_hub import hf_hub_download

    with _fetching(name, place):
        return Path(hf_hub_download(place, file))


def _built(name: str, kind: Any, config: Any) -> nn.Module:
    """The module with random weights, once it is clear that it is no larger than a model can be."""
    try:
        try:
            with torch.device("meta"):
                count = sum(p.numel() for p in kind(config).parameters())
        except (RuntimeError, NotImplementedError) as error:
            if "meta" not in str(error):
                raise
            count = 0  # some models of older versions of the library compute while they are made
        if count > PARAMETERS:
            raise InputError(f"The config.json of {name} asks for {count:.3g} parameters; at most {PARAMETERS:.3g} are taken.")
        with torch.device("cpu"):
            module: nn.Module = kind(config)
    except InputError:
        raise
    except Exception as error:  # whatever a value that does not fit the others leads to
        raise InputError(f"No {kind.__name__} can be made of the config.json of {name} ({first_line(error)}).") from error
    return module


def _size(value: Any) -> tuple[int, int] | None:
    """(height, width) of the forms that processors write: a number, {"height", "width"} or {"shortest_edge"}."""
    if isinstance(value, Mapping):
        value = (value["height"], value["width"]) if "height" in value else value.get("shortest_edge")
    if isinstance(value, int):
        value = (value, value)
    return (int(value[0]), int(value[1])) if isinstance(value, (tuple, list)) and len(value) == 2 else None


def _trained(name: str, place: str, kind: Any, config: Any) -> nn.Module:
    with _fetching(name, place), _quiet():
        found, info = kind.from_pretrained(place, config=config, use_safetensors=True, output_loading_info=True, trust_remote_code=False)
    module: nn.Module = found
    wrong = [f"missing {k}" for k in sorted(info["missing_keys"])] + [f"mis-shaped {k}" for k in map(str, info["mismatched_keys"])]
    tower = kind.__name__.endswith("VisionModel")  # the rest of the file is the text's
    wrong += [] if tower else [f"unexpected {k}" for k in sorted(info["unexpected_keys"])]
    if wrong:
        more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise InputError(f"The weights of {name} do not fit {kind.__name__}: {'; '.join(wrong[:8])}{more}.")
    return module


def _resize(module: nn.Module, size: tuple[int, int]) -> nn.Module:
    """Position embeddings are interpolated where the model can do so."""
    if "interpolate_pos_encoding" in signature(module.forward).parameters:
        module.forward = partial(module.forward, interpolate_pos_encoding=True)
    return module


@contextmanager
def _fetching(name: str, place: str) -> Iterator[None]:
    try:
        yield
    except PreimageError:
        raise
    except Exception as error:  # the library raises whatever a wrong value leads to
        reason = " ".join(str(error).split())[:300]
        if Path(place).is_dir():
            raise InputError(f"{name} cannot be read ({reason}). Weights are read from .safetensors files alone.") from error
        raise FetchError(
            f"{name} is no folder here and could not be fetched ({reason}). Download huggingface.co/{place} (config.json, {_PROCESSOR}, "
            "model.safetensors) into a folder and name that: transformers/FOLDER."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own progress bars and reports; what matters of them is raised."""
    from transformers.utils import logging as library

    logging: Any = library

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


SOURCES.register("transformers")(
    Source(
        form="transformers/FOLDER-OR-ID",
        matches=lambda name: name.startswith("transformers/"),
        open=open_card,
        about="a vision model of Hugging Face transformers, from a folder or the hub (extra: transformers)",
    )
)
