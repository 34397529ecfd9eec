"""The pictures of the README, from the result folders of `make demo`: python docs/make_pictures.py demo-out"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from preimage import load_result
from preimage.pixels.images import write_png


def main(demo: Path) -> None:
    """Strips of images side by side, a gap of 6 white pixels between them."""
    here = Path(__file__).parent / "images"
    inversions = [load_result(demo / f"invert-{layer}") for layer in ("fire2", "fire4", "fire9")]
    caricature = load_result(demo / "caricature")
    strip(here / "inversion.png", [inversions[0].originals[0], *(r.images[0] for r in inversions)])
    strip(here / "classes.png", list(load_result(demo / "maximize").images))
    strip(here / "caricature.png", [caricature.originals[0], caricature.images[0]])


def strip(path: Path, tiles: list[torch.Tensor]) -> None:
    gap = torch.full((3, tiles[0].shape[1], 6), 255.0)
    parts = [part for tile in tiles for part in (tile, gap)][:-1]
    write_png(path, torch.cat(parts, dim=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
