"""The pictures of docs/report.md, statistics.md, stimuli.md and directions.md, computed anew; nothing is downloaded.

    python docs/make_page_pictures.py                    # all four, about eight minutes on one core
    python docs/make_page_pictures.py stimuli directions

Each is made by the command that its page shows, from the network and the photographs that come with the package, and for the statistics
from the free ones that scikit-image, scikit-learn and matplotlib carry. The report is photographed by the Chromium of the tests.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import preimage
from preimage.pixels.images import reference_images

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
Picture = tuple[str, Image.Image]


def main(names: Sequence[str]) -> None:
    for name in names or MADE:
        MADE[name]()
        print(name, (IMAGES / f"{name}.jpg").stat().st_size, "bytes", flush=True)


def report() -> None:
    """The first screen of the report of a small study."""
    from playwright.sync_api import sync_playwright
    from tests.browsers import find

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        run("paper", "inversion", cat(), "--layers", "fire2,fire4,fire6,fire9", "--iterations", "60", "-o", "study", "-q", at=folder)
        run("report", "study", at=folder)
        browser = play.chromium.launch(executable_path=find(play.chromium.executable_path), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 1000}, color_scheme="light")
        page.goto((Path(folder) / "study" / "report.html").as_uri())
        page.screenshot(path=IMAGES / "report.jpg", quality=72)
        browser.close()


def statistics() -> None:
    """What excites four units of fire8 most: an image made for it, and parts of photographs, with the values of both."""
    network = preimage.load_network("squeezenet1_1")
    phi = network.layer("fire8")
    stats = preimage.collect_statistics(network, preimage.free_photographs(shown=True), layers=["fire8"], top=5, progress=False)
    fifth = torch.tensor([stats.top("fire8", unit)[4].value for unit in range(phi.shape[0])])
    units = fifth.argsort(descending=True)[:4].tolist()  # those that five photographs excite most
    found = preimage.maximize(phi, units, everywhere=True, progress=False)
    rows = []
    for unit, image in zip(units, found.images, strict=True):
        natural = [(f"{e.value:.0f}", e.pil()) for e in stats.top("fire8", unit)]
        rows.append([(f"fire8/{unit}: {phi_of(phi, unit, image):.0f}", pil(image)), *natural])
    draw(rows, "statistics", ("made for the unit", *["in photographs", "", "", "", ""]))


def phi_of(phi: preimage.Representation, unit: int, image: torch.Tensor) -> float:
    """The unit's largest answer to an image, in the unit of the statistics."""
    with torch.no_grad():
        return float(phi(phi.space.encode(pil(image)))[0, unit].max())


def stimuli() -> None:
    """A photograph and its metamers of three seeds, as they are, and made alike by `preimage export`."""
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        (at / "photos").mkdir()
        (at / "photos" / "cat.jpg").write_bytes(Path(cat()).read_bytes())
        for layer in ("fire4", "fire9"):
            store = f"metamers-{layer}"
            run("invert", "photos/", "--layer", layer, "--start", "noise", "--seeds", "0-2", "-o", store, "-q", at=at)
            run("export", store, "-o", f"{store}-colour", at=at)
            run("export", store, "--grey", "--equal", "-o", f"{store}-grey", at=at)
        rows = []
        for layer in ("fire4", "fire9"):
            files = [(seed, look, at / f"metamers-{layer}-{look}") for look in ("colour", "grey") for seed in range(3)]
            shown = [(f"seed {seed}", Image.open(next(where.glob(f"*seed{seed}.png"))).convert("RGB")) for seed, _, where in files]
            rows.append([(f"{layer} of this", Image.open(cat())), *shown])
        draw(rows, "stimuli", ("photograph", "metamers", "", "", "with --grey --equal", "", ""))


def directions() -> None:
    """Four directions of fire6 found in three photographs: where each is in one of them, and the image that it likes most."""
    phi = preimage.load_network("squeezenet1_1").layer("fire6")
    photographs = reference_images()
    with torch.no_grad():
        features = torch.cat([phi(phi.space.encode(p)) for p in photographs])
    found = preimage.factor_channels(phi, photographs, 4)
    images = preimage.maximize(phi, list(found), everywhere=True, progress=False).images
    rows: list[list[Picture]] = [[], []]
    for k, (direction, image) in enumerate(zip(found, images, strict=True), 1):
        answers = torch.einsum("nchw,c->nhw", features, direction).clamp(min=0)
        best = int(answers.mean(dim=(1, 2)).argmax())
        photograph = phi.space.decode(phi.space.encode(photographs[best]))[0]
        light = (answers[best] / answers[best].max())[None, None]
        light = torch.nn.functional.interpolate(light, photograph.shape[1:], mode="bilinear")[0, 0]
        rows[0].append((f"direction {k}", pil(photograph * (0.15 + 0.85 * light))))
        rows[1].append(("", pil(image)))
    draw(rows, "directions", ("", "", "", ""))


def cat() -> str:
    return next(p for p in reference_images() if "chelsea" in p)


def run(*arguments: str | Path, at: str | Path) -> None:
    """Run the command of the package in a folder."""
    subprocess.run([sys.executable, "-m", "preimage", *map(str, arguments)], cwd=at, check=True)


def pil(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image.clamp(0, 255).round().byte().permute(1, 2, 0).numpy())


def draw(rows: Sequence[Sequence[Picture]], name: str, heads: Sequence[str]) -> None:
    """Rows of pictures with a word above each, as a JPEG of less than 150 KB."""
    across = max(map(len, rows))
    figure = Figure(figsize=(1.55 * across, 1.75 * len(rows) + 0.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), across, squeeze=False)
    for number, (line, row) in enumerate(zip(axes, rows, strict=True)):
        for ax, (word, image), head in zip(line, row, heads, strict=True):
            ax.set_axis_off()
            ax.imshow(image.resize((227, 227), Image.Resampling.LANCZOS))
            ax.set_title("\n".join(filter(None, (head if number == 0 else "", word))), fontsize=8)
    path = IMAGES / f"{name}.jpg"
    for quality in (88, 80, 70, 60):
        figure.savefig(path, dpi=110, pil_kwargs={"quality": quality})
        if path.stat().st_size < 150_000:
            return
    raise SystemExit(f"{path} has {path.stat().st_size} bytes, more than 150,000.")


MADE = {"report": report, "statistics": statistics, "stimuli": stimuli, "directions": directions}

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(sys.argv[1:])
