"""The mean magnitudes of photographs in src/preimage/data/spectrum.json, computed anew: python docs/make_spectrum.py (a minute)

The free photographs that scikit-image and scikit-learn carry, nothing is downloaded: astronaut, rocket (public domain), chelsea, coffee,
retina, camera, brick, grass, gravel (CC0), china, flower (CC-BY 2.0). Each one's short side is brought to 256 pixels and cut into windows
of 128 pixels, under a Hann window; grey ones count for grey alone. Magnitudes of an orthonormal transform of what the sigmoid of `Fourier`
is given, averaged in rings and sectors.
"""

from __future__ import annotations

import json
import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from preimage import PixelSpace
from preimage.energy.colours import Planes

OUT = Path(__file__).parents[1] / "src" / "preimage" / "data" / "spectrum.json"
COLOUR = ("astronaut.png", "rocket.jpg", "chelsea.png", "coffee.png", "retina.jpg", "china.jpg", "flower.jpg")
GREY = ("camera.png", "brick.png", "grass.png", "gravel.png")
SHORT, SIZE, STEP, RINGS, SECTORS = 256, 128, 64, 16, 12


def main() -> None:
    colours, grey = PixelSpace(None, "rgb"), PixelSpace(None, "grey")
    planes = [Planes(3, colours, "decorrelated", "sigmoid"), Planes(1, grey, "plain", "sigmoid")]
    found: list[list[np.ndarray]] = [[], [], [], []]
    for name in (*COLOUR, *GREY):
        with Image.open(path(name)) as opened:
            picture = opened.convert("RGB") if name in COLOUR else opened.convert("L")
        ratio = SHORT / min(picture.size)
        picture = picture.resize((round(picture.width * ratio), round(picture.height * ratio)), Image.Resampling.LANCZOS)
        if name in COLOUR:
            for k, magnitude in enumerate(magnitudes(planes[0].back(colours.encode(picture).double()))):
                found[k].append(magnitude)
        found[3].append(magnitudes(planes[1].back(grey.encode(picture.convert("L")).double()))[0])
    frequencies = np.geomspace(1.5 / SIZE, 0.5 * math.sqrt(2), RINGS)
    table = [polar(np.mean(f, axis=0), frequencies) for f in found]
    data = {
        "what": "mean magnitude of photographs: [brightness, blue-red, green, grey][frequency in cycles a pixel][direction of 180 degrees]",
        "photographs": [*COLOUR, *GREY],
        "frequencies": [round(float(f), 6) for f in frequencies],
        "magnitudes": [[[float(f"{v:.4g}") for v in row] for row in t] for t in table],
    }
    OUT.write_text(json.dumps(data, separators=(",", ":")) + "\n", encoding="utf-8")


def path(name: str) -> Path:
    package, folder = ("sklearn", "datasets/images") if name in ("china.jpg", "flower.jpg") else ("skimage", "data")
    found = find_spec(package)
    assert found is not None and found.submodule_search_locations, f"install {package}"
    return Path(found.submodule_search_locations[0], folder, name)


def magnitudes(planes: torch.Tensor) -> np.ndarray:
    """The root of the mean power of windows, (C, SIZE, SIZE//2+1)."""
    hann = torch.hann_window(SIZE, periodic=True, dtype=torch.float64)
    window = hann[:, None] * hann
    window = window / window.square().mean().sqrt()
    parts = planes[0].unfold(1, SIZE, STEP).unfold(2, SIZE, STEP).flatten(1, 2)
    parts = parts - parts.mean(dim=(2, 3), keepdim=True)
    power = torch.fft.rfft2(parts * window, norm="ortho").abs().square().mean(dim=1)
    return power.sqrt().numpy()


def polar(magnitude: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """The mean over cells of rings and sectors, even on a log scale; each value counts for the cells next to it."""
    v, h = np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None, :]
    f = np.hypot(v, h)
    ring = (np.log(np.maximum(f, 1e-9)) - np.log(frequencies[0])) / (np.log(frequencies[1]) - np.log(frequencies[0]))
    sector = np.mod(np.arctan2(v, h) / math.pi, 1.0) * SECTORS
    out = np.zeros((RINGS, SECTORS))
    for r in range(RINGS):
        for s in range(SECTORS):
            apart = np.abs(np.mod(sector - s + SECTORS / 2, SECTORS) - SECTORS / 2)
            weight = np.exp(-0.5 * (ring - r) ** 2) * np.exp(-0.5 * apart**2) * (f > 1 / SIZE)
            out[r, s] = math.exp((weight * np.log(np.maximum(magnitude, 1e-12))).sum() / weight.sum())
    return out


if __name__ == "__main__":
    main()
