"""The figures of the site, computed anew: python docs/make_figures.py (some minutes on one core)

Those of docs/energy.md are inversions of one packaged photograph at 128 pixels; those of docs/gallery.md are what the scripts of the
gallery write at their own settings.
"""

from __future__ import annotations

import runpy
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

import preimage
from preimage.pixels.images import to_pil

HERE = Path(__file__).parent
IMAGES = HERE / "images"
SIZE = 128
NO_RANGE = {"tv-beta": preimage.TVBeta()}
NO_VARIATION = {"alpha-norm": preimage.AlphaNorm()}
GALLERY = {
    "film": "result/frames.gif",
    "hog_detector": "detector.png",
    "many_units": "units.png",
    "metamers": "metamers.png",
    "objectives": "objectives.png",
    "own_model": "inversion.png",
    "own_regularizer": "mirror.png",
    "vit_tokens": "tokens.png",
}
MORE = {"objectives": ("diversity.png",)}  # further pictures of a script


def main() -> None:
    terms: list[tuple[str, dict[str, Any]]] = [
        ("neither", {"regularizers": {}}),
        ("range only", {"regularizers": NO_VARIATION}),
        ("variation only", {"regularizers": NO_RANGE}),
        ("both", {}),
        ("neither, on pixels", {"regularizers": {}, "solver": "adam"}),
    ]
    row("energy-terms.png", "fire4", terms)
    row("energy-C.png", "fire4", [(f"C = {C:g}", {"C": C}) for C in (1.0, 10.0, 100.0, 1000.0)])
    row("energy-beta.png", "fire2", [(f"β = {b:g}", {"C": 20.0, "regularizers": paper(beta=b)}) for b in (1.0, 1.5, 2.0, 3.0)])
    row("energy-depth.png", None, [(layer, {}) for layer in ("conv1", "fire2", "fire4", "fire6", "fire9")])
    restarts()
    gallery()


def paper(beta: float) -> dict[str, Any]:
    return {"alpha-norm": preimage.AlphaNorm(), "tv-beta": preimage.TVBeta(beta=beta)}


def row(name: str, layer: str | None, settings: list[tuple[str, dict[str, Any]]]) -> None:
    """The photograph and an inversion for each of the settings, with its error. layer: None where the titles are layers."""
    net = preimage.load_network("squeezenet1_1", size=SIZE)
    found = [preimage.invert(net.layer(layer or title), cat(), progress=False, **options) for title, options in settings]
    assert found[0].originals is not None
    titles = [f"{title}\nerror {r.error.item():.1%}" for (title, _), r in zip(settings, found, strict=True) if r.error is not None]
    panels(name, [found[0].originals[0], *(r.images[0] for r in found)], ["photograph", *titles])


def restarts() -> None:
    """Four starts for one late layer."""
    net = preimage.load_network("squeezenet1_1", size=SIZE)
    result = preimage.invert(net.layer("fire8"), cat(), restarts=4, solver="fast", progress=False)
    assert result.error is not None and result.originals is not None
    titles = [f"restart {k}\nerror {error:.1%}" for k, error in enumerate(result.error.tolist())]
    panels("energy-restarts.png", [result.originals[0], *result.images], ["photograph", *titles])


def gallery() -> None:
    """Run the scripts as a reader would, and keep a picture of each."""
    folder = HERE.parent / "gallery"
    sys.path.insert(0, str(folder))
    (IMAGES / "gallery").mkdir(exist_ok=True)
    for name, picture in GALLERY.items():
        with tempfile.TemporaryDirectory() as out:
            sys.argv = [f"{name}.py", "--out", out]
            runpy.run_path(str(folder / f"{name}.py"), run_name="__main__")
            shutil.copyfile(Path(out, picture), IMAGES / "gallery" / f"{name}{Path(picture).suffix}")
            for more in MORE.get(name, ()):
                shutil.copyfile(Path(out, more), IMAGES / "gallery" / f"{name}-{more}")


def cat() -> str:
    return next(path for path in preimage.images.reference_images() if "chelsea" in path)


def panels(name: str, images: list[Tensor], titles: list[str]) -> None:
    figure = Figure(figsize=(1.7 * len(images), 2.15), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (image, title) in enumerate(zip(images, titles, strict=True), start=1):
        axes = figure.add_subplot(1, len(images), place)
        axes.imshow(to_pil(image))
        axes.set_title(title, fontsize=9)
        axes.axis("off")
    figure.savefig(IMAGES / name, dpi=110)
    print(name, "; ".join(title.replace("\n", ", ") for title in titles), flush=True)


if __name__ == "__main__":
    main()
