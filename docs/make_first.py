"""The README's first picture: class images and a deep inversion, beside the published way.

python -m benchmarks.recognition --tasks class --only preimage "preimage, solver paper"
python docs/make_first.py build/recognition

The classes are the first four that the benchmark reports, none left out; the two inversions are kept in the same folder.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

import preimage
from preimage.metrics import recognition
from preimage.pixels.images import to_pil
from preimage.tasks.folders import RECORD

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.recognition import report_classes

OUT = Path(__file__).parent / "images" / "first.png"
WAYS = {"2016, as published": ("preimage-solver-paper", {"solver": "paper"}), "preimage": ("preimage", {})}
PHOTOGRAPH = next(p for p in preimage.images.reference_images() if "chelsea" in p)
LAYER = "fire9"


def main(folder: Path) -> None:
    net, judge = preimage.load_network("squeezenet1_1"), preimage.load_network("efficientnet-lite0")
    classes = report_classes(4)
    drawing = Figure(figsize=(10.6, 3.75), layout="constrained")
    FigureCanvasAgg(drawing)
    grid = drawing.add_gridspec(2, 6)
    for row, (way, (place, chosen)) in enumerate(WAYS.items()):
        for column, c in enumerate(classes):
            levels = np.load(folder / net.card.name / place / f"class-{c:03d}.npy")
            images = torch.from_numpy(levels).permute(2, 0, 1)[None].float()
            rank = int(recognition(images, judge, [c], made_by=net).rank[0])
            axes = drawing.add_subplot(grid[row, column])
            show(axes, images, net.class_name(c) if row == 0 else "", f"place {rank:,}")
            if column == 0:
                axes.set_ylabel(way, fontsize=11, fontweight="bold")
        found = inversion(folder / f"{LAYER}-{place}", net, chosen)
        assert found.originals is not None and found.error is not None
        if row == 0:
            show(drawing.add_subplot(grid[:, 4]), found.originals, "a photograph", "")
        show(drawing.add_subplot(grid[row, 5]), found.images, f"from {LAYER} alone" if row == 0 else "", "")
    drawing.savefig(OUT, dpi=110)


def inversion(folder: Path, net: preimage.Network, chosen: dict[str, Any]) -> preimage.Result:
    """The result in the folder, made if it is not there."""
    if not (folder / RECORD).exists():
        preimage.invert(net.layer(LAYER), PHOTOGRAPH, progress=False, **chosen).save(folder)
    return preimage.load_result(folder)


def show(axes: Any, images: Tensor, above: str, below: str) -> None:
    axes.imshow(to_pil(images[0]))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(above, fontsize=10)
    axes.set_xlabel(below, fontsize=9)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
