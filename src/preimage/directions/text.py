"""A text as a direction: the space that a pair of an image tower and a text tower has in common (CLIP, SigLIP)."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError, first_line, missing_extra
from ..pixels.pixelspace import PixelSpace
from ..representations.base import FromCallable

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of the pixels that CLIP takes (Radford et al. 2021, its released code)."""


class _Tower(nn.Module):
    """Pixels to the embedding of unit length."""

    def __init__(self, pair: nn.Module) -> None:
        super().__init__()
        self.pair = pair

    def forward(self, x: Tensor) -> Tensor:
        if _is_open_clip(self.pair):
            return F.normalize(self.pair.encode_image(x), dim=1)  # type: ignore[operator]
        return F.normalize(_embedding(self.pair.get_image_features(pixel_values=x)), dim=1)  # type: ignore[operator]


class ImageText(FromCallable):
    """Φ: the image tower's embedding (B, D) of unit length; `direction(text)` is the text's, whose inner product is their likeness."""

    def __init__(self, pair: nn.Module, tokenizer: Any, space: PixelSpace, name: str) -> None:
        super().__init__(_Tower(pair.eval()), space, name, 1, None)
        self._pair, self._tokenizer = pair, tokenizer

    def direction(self, text: str) -> Tensor:
        """The embedding (D,) of a text, of unit length. Raises InputError for what the tokenizer or the tower cannot take."""
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"A text prompt is a text of at least a word; got {text!r}.")
        device = next(self._pair.parameters()).device
        try:
            with torch.no_grad():
                found: Tensor = F.normalize(self._text(text, device), dim=1)[0]
        except Exception as error:  # whatever the two raise
            raise InputError(f"{self.name} cannot take the text {text!r} ({first_line(error)}).") from error
        return found.float().cpu()

    def _text(self, text: str, device: torch.device) -> Tensor:
        if _is_open_clip(self._pair):
            encoded: Tensor = self._pair.encode_text(self._tokenizer([text]).to(device))  # type: ignore[operator]
            return encoded
        tokens = {k: v.to(device) for k, v in dict(self._tokenizer([text], return_tensors="pt", truncation=True)).items()}
        return _embedding(self._pair.get_text_features(**tokens))  # type: ignore[operator]


def image_text(pair: str | os.PathLike[str] | nn.Module, tokenizer: Any = None, *, space: PixelSpace | None = None) -> ImageText:
    """Take a pair of an image tower and a text tower as a representation whose directions are texts.

    Parameters
    ----------
    pair : folder, name or module
        A CLIP-like model of transformers (`get_image_features`, `get_text_features`), or where `save_pretrained` wrote it with its
        tokenizer; or a model of open_clip (`encode_image`, `encode_text`).
    tokenizer : callable, optional
        Of a pair that is given as a module: texts to tensors, as transformers' tokenizers, or open_clip's (`get_tokenizer`).
    space : PixelSpace, optional
        Its pixels; default the image tower's size, with the mean and deviation that open_clip says or else CLIP's.

    Returns
    -------
    ImageText

    Raises
    ------
    InputError
        For what is no such pair.
    MissingExtra
        Without transformers, for a folder or a name.
    """
    name = type(pair).__name__ if isinstance(pair, nn.Module) else str(pair)
    if not isinstance(pair, nn.Module):
        pair, tokenizer = _opened(str(pair))
    if not _has(pair, "get_image_features", "get_text_features") and not _is_open_clip(pair):
        raise InputError(
            f"{name} is no pair of an image and a text tower (get_image_features and get_text_features, or open_clip's encode_image and "
            "encode_text), as CLIP is."
        )
    if not callable(tokenizer):
        raise InputError("A pair that is given as a module needs its tokenizer=…, which makes tensors of texts.")
    return ImageText(pair, tokenizer, space or _space_of(pair, name), name)


def _space_of(pair: nn.Module, name: str) -> PixelSpace:
    """The pixels that a pair says it takes."""
    mean: Any = CLIP_MEAN
    std: Any = CLIP_STD
    if _is_open_clip(pair):
        tower = getattr(pair, "visual", None)
        size = getattr(tower, "image_size", None)
        mean, std = getattr(tower, "image_mean", None) or mean, getattr(tower, "image_std", None) or std
    else:
        size = getattr(getattr(getattr(pair, "config", None), "vision_config", None), "image_size", None)
    if isinstance(size, (list, tuple)) and len(size) == 2 and all(isinstance(s, int) for s in size):
        size = (size[0], size[1])
    elif not isinstance(size, int):
        raise InputError(f"{name} does not say the size of its images: give space=preimage.PixelSpace(…).")
    return PixelSpace(size, "rgb", 1.0, tuple(mean), tuple(std))


def _is_open_clip(pair: nn.Module) -> bool:
    return _has(pair, "encode_image", "encode_text")


def _has(pair: nn.Module, *names: str) -> bool:
    return all(callable(getattr(pair, name, None)) for name in names)


def _opened(place: str) -> tuple[nn.Module, Any]:
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError:
        raise missing_extra(f"The pair {place!r} needs transformers", "transformers") from None
    try:
        model = AutoModel.from_pretrained(place, use_safetensors=True, trust_remote_code=False)
        return model, AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except Exception as error:  # whatever that library raises
        raise InputError(f"The pair {place!r} cannot be opened ({first_line(error)}).") from error


def _embedding(found: Any) -> Tensor:
    """The tensor of an answer: itself, or what newer versions of transformers wrap it in."""
    pooled: Tensor = found if isinstance(found, Tensor) else found.pooler_output
    return pooled
