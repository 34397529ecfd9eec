"""`preimage demo`: one photograph, three depths, four classes, one caricature, and a page with all of it."""

from __future__ import annotations

import time
from pathlib import Path

from .networks.network import load_network
from .pixels.images import reference_images
from .report import Section, write_page
from .tasks import caricature, invert, maximize
from .tasks.result import Result

DEPTHS = ("fire2", "fire4", "fire9")
CLASSES = ("black swan", "goose", "tree frog", "cheeseburger")
CARICATURE = "fire6"


def run(out: Path, progress: bool = True) -> Path:
    """Write the result folders and index.html into `out` (earlier ones of the demo are replaced); print where they are."""
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)

    def kept(name: str, result: Result) -> Result:
        result.save(out / name, overwrite=True)
        return result

    photograph = next(p for p in reference_images() if "chelsea" in p)
    net = load_network("squeezenet1_1")
    print(f"Inverting {', '.join(DEPTHS)} of SqueezeNet 1.1 for the photograph {Path(photograph).name} …", flush=True)
    inversions = [kept(f"invert-{d}", invert(net.layer(d), photograph, progress=progress)) for d in DEPTHS]
    print(f"Maximizing the classes {', '.join(CLASSES)} …", flush=True)
    classes = kept("maximize", maximize(net.layer("pool10"), list(CLASSES), progress=progress))
    print(f"Exaggerating what {CARICATURE} sees …", flush=True)
    exaggerated = kept("caricature", caricature(net.layer(CARICATURE), photograph, progress=progress))
    page = write_page(
        out / "index.html",
        "preimage: a first look",
        "What SqueezeNet 1.1, trained on ImageNet, has kept of a photograph, and what it looks for. Every picture was "
        "found by minimising an energy over images x: C·loss(Φ(x), Φ0) + range + variation for early layers, for deep ones and classes the "
        "loss of a view that moves at every step, within the range of pictures (recipe preimage2026).",
        [
            Section(
                "Inversion",
                "Each image was reconstructed from the output of one layer alone, starting from noise. The error is the distance "
                "of its features from those of the photograph, relative to their norm.",
                inversions,
                originals=True,
            ),
            Section(
                "Activation maximization",
                "Images that excite one class of the last layer most, starting from noise. The network classifies them as: "
                + "; ".join(f"{name}, {p:.1%}" for name, p in (net.top(i - net.space.mean_colour, 1)[0][0] for i in classes.images))
                + ".",
                [classes],
            ),
            Section(
                "Caricature",
                f"The photograph, changed so that what {CARICATURE} already sees in it is seen more strongly. "
                "Activation 1 is the photograph's own.",
                [exaggerated],
                originals=True,
            ),
        ],
    )
    print(f"\nDone in {time.monotonic() - began:.0f} s. The pictures are in the folders of {out}/")
    for folder in sorted(p for p in out.iterdir() if p.is_dir()):
        print(f"  {folder}/")
    print(f"Open the page with all of them: {page.absolute().as_uri()}")
    return page
