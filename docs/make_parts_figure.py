"""The figure of docs/parts.md, computed anew: python docs/make_parts_figure.py (some seconds on one core)

What each transform shows of a photograph, what each parameterization begins with or makes of it, and what steps against each
regularizer do to it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from preimage import PixelSpace
from preimage.energy.deep_prior import DeepPrior
from preimage.energy.fourier import FixedMagnitude, Fourier
from preimage.energy.levels import MultiResolution
from preimage.energy.parameterizations import Parameterization
from preimage.energy.priors import L2
from preimage.energy.regularizers import AlphaNorm, Regularizer, TVBeta, add_gradient
from preimage.energy.resampling import Affine, Crops, RandomView
from preimage.energy.transforms import Jitter, Transform
from preimage.energy.views import Colour, Noise
from preimage.pixels.images import reference_images

OUT = Path(__file__).parent / "images" / "parts.jpg"
SIZE = 128
SPACE = PixelSpace(SIZE, "rgb", 255.0, (124.0, 117.0, 104.0))


def main() -> None:
    cat = SPACE.encode(next(p for p in reference_images() if "chelsea" in p))
    rows = [
        [("the photograph", cat), *((type(t).__name__, view(cat, t)) for t in TRANSFORMS)],
        [(name, image) for name, image in written(cat)],
        [("the photograph and noise", noisy(cat)), *((name, descended(noisy(cat), r)) for name, r in REGULARIZERS)],
    ]
    figure = Figure(figsize=(12.6, 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 7)
    for line, (title, row) in zip(axes, zip(("transforms", "parameterizations", "regularizers"), rows, strict=True), strict=True):
        for ax in line:
            ax.set_axis_off()
        for ax, (name, image) in zip(line, row, strict=False):
            ax.imshow(SPACE.decode(image)[0].permute(1, 2, 0).clamp(0, 255).numpy() / 255)
            ax.set_title(name, fontsize=9)
        line[0].text(-0.1, 0.5, title, rotation=90, va="center", ha="right", transform=line[0].transAxes, fontsize=10)
    figure.savefig(OUT, dpi=90, pil_kwargs={"quality": 88})


TRANSFORMS: list[Transform] = [Jitter(16), Crops(), Affine(degrees=30.0), RandomView(), Noise(), Colour()]
REGULARIZERS: list[tuple[str, Regularizer]] = [
    ("AlphaNorm", AlphaNorm()),
    ("TVBeta(1)", TVBeta(1.0)),
    ("TVBeta(2)", TVBeta()),
    ("L2", L2()),
]


def view(x: Tensor, transform: Transform) -> Tensor:
    """One view of the photograph; a canvas with a border continues it by its mirror image."""
    border = [(a - b) // 2 for a, b in zip(transform.canvas((SIZE, SIZE)), (SIZE, SIZE), strict=True)]
    more = transform.canvas((SIZE, SIZE))[0] - SIZE - border[0]
    canvas = torch.nn.functional.pad(x, (border[1], more, border[0], more), mode="reflect")
    return transform(canvas, transform.draw([torch.Generator().manual_seed(8)], 1)[0][0])


def written(x: Tensor) -> list[tuple[str, Tensor]]:
    """Where runs begin, and what the same step on all coordinates, in the direction of the photograph, makes of that."""
    out = []
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) * 92 - 46
    for name, g in PARAMETERIZATIONS:
        written = g.at(x.shape[1:], SPACE)
        z = written.start(noise, [torch.Generator().manual_seed(2)])
        if name.startswith("FixedMagnitude, "):
            z = written.encode(x)
        elif ", " in name:
            for _ in range(12):  # Adam's first step is the sign of the gradient
                image, pull = written.show(z)
                gradient = pull(image - x)
                z = z - 4.0 * gradient.sign() * (gradient.abs() > 1e-6)
        out.append((name, written.decode(z).detach()))
    return out


PARAMETERIZATIONS: list[tuple[str, Parameterization]] = [
    ("Fourier", Fourier(start=14.0)),
    ("Fourier, 12 steps", Fourier()),
    ("MultiResolution, 12 steps", MultiResolution()),
    ("FixedMagnitude", FixedMagnitude()),
    ("FixedMagnitude, encoded", FixedMagnitude()),
    ("DeepPrior", DeepPrior(width=16)),
    ("DeepPrior, 12 steps", DeepPrior(width=16)),
]


def noisy(x: Tensor) -> Tensor:
    return x + 25 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3))


def descended(x: Tensor, regularizer: Regularizer) -> Tensor:
    """After steps against the regularizer's gradient until its value is a fifth."""
    goal = float(regularizer(x)) / 5
    for _ in range(2000):
        gradient = torch.zeros_like(x)
        if float(add_gradient(regularizer, x, gradient)) <= goal:
            break
        x = x - gradient * (2.0 / gradient.square().mean().sqrt())
    return x


if __name__ == "__main__":
    main()
