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
            tokens = {k: v.to(device) for k, v in dict(self._tokenizer([text], return_tensors="pt", truncation=True)).items()}
            with torch.no_grad():
                found: Tensor = F.normalize(_embedding(self._pair.get_text_features(**tokens)), dim=1)[0]  # type: ignore[operator]
        except Exception as error:  # whatever the two raise
            raise InputError(f"{self.name} cannot take the text {text!r} ({first_line(error)}).") from error
        return found.float().cpu()


def image_text(pair: str | os.PathLike[str] | nn.Module, tokenizer: Any = None, *, space: PixelSpace | None = None) -> ImageText:
    """Take a pair of an image tower and a text tower as a representation whose directions are texts.

    Parameters
    ----------
    pair : folder, name or module
        A CLIP-like model of transformers (`get_image_features`, `get_text_features`), or where `save_pretrained` wrote it with its
        tokenizer.
    tokenizer : callable, optional
        Of a pair that is given as a module: texts to tensors, as transformers' tokenizers.
    space : PixelSpace, optional
        Its pixels; default CLIP's mean and deviation at the image tower's size.

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
    if not callable(getattr(pair, "get_image_features", None)) or not callable(getattr(pair, "get_text_features", None)):
        raise InputError(f"{name} is no pair of an image and a text tower (get_image_features, get_text_features), as CLIP is.")
    if not callable(tokenizer):
        raise InputError("A pair that is given as a module needs its tokenizer=…, which makes tensors of texts.")
    if space is None:
        size = getattr(getattr(getattr(pair, "config", None), "vision_config", None), "image_size", None)
        if not isinstance(size, int):
            raise InputError(f"{name} does not say the size of its images: give space=preimage.PixelSpace(…).")
        space = PixelSpace(size, "rgb", 1.0, CLIP_MEAN, CLIP_STD)
    return ImageText(pair, tokenizer, space, name)


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
