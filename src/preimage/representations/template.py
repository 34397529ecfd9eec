"""A linear template over a representation, as one feature: what a sliding-window detector scores."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..pixels.pixelspace import PixelSpace
from ..untrusted import check_unpacked, is_file
from . import gradients
from .base import Representation
from .hog import HOG
from .receptive_field import Number

LAYOUTS = {27: "HOG", 31: "HOG with texture", 32: "the DPM's, whose last channel says that a cell is outside the image"}


class HOGTemplate(nn.Module, Representation):
    r"""Score of a linear template: :math:`\Phi(x) = \langle w, \mathrm{HOG}(x)\rangle` (exp_hog_model_viz).

    template: w (C, h, w), C = 27 or 31. x: grey (B, 1, H, W) with `size` pixels -> (B, 1). Each side of the image has one cell more
    than the template; the features of this outer ring are left out, so that no border is in the score.

    >>> phi = HOGTemplate(torch.ones(27, 4, 3))
    >>> phi.size, phi(torch.zeros(2, 1, 48, 40)).shape
    ((48, 40), torch.Size([2, 1]))
    """

    jitter = 1

    def __init__(self, template: Tensor, cell: int = 8) -> None:
        super().__init__()
        if template.ndim != 3 or template.shape[0] not in (27, 31) or 0 in template.shape:
            raise InputError(f"A HOG template is (27 or 31, height, width) numbers; got {tuple(template.shape)}.")
        if not bool(torch.isfinite(template).all()) or not bool(template.any()):
            raise InputError("A HOG template holds finite numbers, not all of them 0.")
        self.hog = HOG(cell, texture=template.shape[0] == 31)
        self.register_buffer("template", template.detach().clone())
        self.size = (cell * (template.shape[1] + 2), cell * (template.shape[2] + 2))
        self.space = PixelSpace(size=self.size, channels="grey", scale=255.0, mean=(gradients.MIDDLE,))
        self.name = "hog-template"
        self.stride: Number = cell
        self.receptive_field: Number | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) grey levels -> (B, 1)."""
        features = self.hog(x)[:, :, 1:-1, 1:-1]
        if features.shape[1:] != self.template.shape:
            raise InputError(f"This template scores images of {self.size} pixels (height, width); got {tuple(x.shape[2:])}.")
        score: Tensor = (features * self.template.to(x)).flatten(1).sum(dim=1, keepdim=True)
        return score


def load_template(path: str | os.PathLike[str]) -> Tensor:
    """A template from a .npy or .npz file (one array, or the one named "template" or "w") as (27 or 31, height, width) float32.

    The array is (height, width, C) or (C, height, width) with C = 27, 31 or 32 (a DPM's, whose truncation channel is dropped);
    directions as `HOG` counts them. Pickled objects are refused. Raises InputError for anything else.
    """
    name = repr(str(path))
    if not is_file(Path(path)):
        raise InputError(f"There is no file {name}. Check the path.")
    check_unpacked(Path(path))
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            with found:
                keys = [k for k in ("template", "w") if k in found.files] or found.files
                if len(keys) != 1:
                    raise InputError(f"{name} holds {len(keys)} arrays ({', '.join(keys[:8])}): call the template's 'template'.")
                found = found[keys[0]]
    except InputError:
        raise
    except Exception as error:  # numpy raises many kinds on damaged files
        raise InputError(f"{name} is no .npy or .npz file of plain numbers, or damaged. Write the array with numpy.save.") from error
    if found.ndim != 3 or found.dtype.kind not in "fiu":
        raise InputError(f"{name} holds {found.dtype} of shape {found.shape}; wanted numbers (height, width, 27, 31 or 32).")
    first, last = found.shape[0] in LAYOUTS, found.shape[2] in LAYOUTS
    if first == last:
        problem = "which side is the channels is not clear: make it 27 or 31 cells no side" if first else "no side is 27, 31 or 32"
        raise InputError(f"{name} has shape {found.shape}: {problem}. Wanted (height, width, channels).")
    planes = found if first else found.transpose(2, 0, 1)
    planes = planes[:31] if len(planes) == 32 else planes
    return torch.from_numpy(np.ascontiguousarray(planes, dtype=np.float32))
