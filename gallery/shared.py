"""What the scripts of the gallery share: their three arguments, images side by side, and pictures shown in a notebook."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from preimage.pixels.images import write_png


def arguments(text: str | None, *, name: str, size: int, iterations: int) -> argparse.Namespace:
    """The command line of a script; in a notebook, where there is none, the values that stand there.

    text: its docstring. size: side of the images in pixels.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out", name), help="folder for the pictures (%(default)s)")
    parser.add_argument("--iterations", type=int, default=iterations, help="gradients for each image (%(default)s)")
    parser.add_argument("--size", type=int, default=size, help="side of the images in pixels (%(default)s)")
    given = parser.parse_args([] if in_notebook() else None)
    given.out.mkdir(parents=True, exist_ok=True)
    return given


def side_by_side(path: Path, images: Sequence[Tensor], gap: int = 6) -> Path:
    """Images (C, H, W) of levels 0–255 in a row, with white between them; grey ones become colour where they are mixed."""
    colours = max(len(image) for image in images)
    tiles = [image.expand(colours, -1, -1) for image in images]
    white = torch.full((colours, tiles[0].shape[1], gap), 255.0)
    write_png(path, torch.cat([part for tile in tiles for part in (tile, white)][:-1], dim=2))
    show(path)
    return path


def show(path: Path) -> None:
    """The picture below the cell, in a notebook."""
    if in_notebook():
        from IPython.display import Image, display

        display(Image(filename=str(path)))


def in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    return shell is not None and shell.get_ipython() is not None
