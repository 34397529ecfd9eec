"""Textons: which typical answers of a bank of filters an image's places have, and how often."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..pixels.pixelspace import PixelSpace
from . import gradients
from .base import Representation
from .pyramid import assign, checked_grids, checked_temperature, regions
from .receptive_field import Number
from .vocabulary import Vocabulary


class Textons(nn.Module, Representation):
    r"""Histograms of textons (Leung and Malik, IJCV 2001) in the regions of a pyramid.

    x: grey (B, 1, H, W), levels 0–255 -> (B, K·Σ g²): the share of each texton among the places of each region, row by row.

    Parameters
    ----------
    vocabulary : Vocabulary
        Of textons: `learn_vocabulary(…, sift=LeungMalik())`, `preimage vocabulary --textons`.
    grids : sides of the pyramid's grids, default (1,), the whole image as in the paper
    temperature : float, default 0.2
        T: a place counts for texton k with exp(−‖answers − c_k‖²/T), normalised over the textons; at 0 for the nearest alone, as in
        the paper, and then Φ has no derivative.

    space: grey pixels of any size. stride: the filters' step. jitter: 1. Raises InputError for another vocabulary and wrong settings.

    >>> from .leung_malik import LeungMalik
    >>> from .vocabulary import settings_of
    >>> textons = Vocabulary("kmeans", torch.eye(6, 48), descriptor=settings_of(LeungMalik()))
    >>> phi = Textons(textons, grids=(1, 2))
    >>> phi(torch.rand(2, 1, 64, 64) * 255).shape
    torch.Size([2, 30])
    """

    jitter = 1
    centres: Tensor

    def __init__(self, vocabulary: Vocabulary, grids: Sequence[int] = (1,), temperature: float = 0.2) -> None:
        super().__init__()
        self.grids, self.temperature = checked_grids(grids), checked_temperature(temperature)
        self.bank = vocabulary.filters()
        self.register_buffer("centres", vocabulary.centres)
        self.space = PixelSpace(size=None, channels="grey", scale=255.0, mean=(gradients.MIDDLE,))
        self.name = "textons"
        self.stride: Number = self.bank.step
        self.receptive_field: Number | None = None

    def extra_repr(self) -> str:
        return f"words={len(self.centres)}, grids={self.grids}, temperature={self.temperature:g}"

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) grey levels -> (B, K·Σ g²)."""
        shares = assign(self.bank(x), self.centres.to(x), self.temperature)
        return torch.cat([shares[:, :, r, c].mean(dim=(2, 3)) for side in self.grids for r, c in regions(shares, side)], dim=1)
