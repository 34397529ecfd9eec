"""The picture and the table of two images of one HOG in docs/shallow.md: python docs/make_twins.py (two minutes of one processor)

Five photographs that scikit-image, scikit-learn and matplotlib carry, grey, 128x128 pixels: each is given the HOG of the next one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image

import preimage
from preimage.inverses.photographs import free_photographs
from preimage.methods.tatu2011 import PastCeiling, disguise

SIDE = 128
PHOTOGRAPHS = ("camera.png", "rocket.jpg", "china.jpg", "flower.jpg", "grace_hopper.jpg")


def photograph(name: str) -> np.ndarray:
    """The middle square of a photograph, grey, reduced."""
    picture = PIL.Image.open(next(p for p in free_photographs(shown=True) if p.name == name)).convert("L")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return np.asarray(picture.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), PIL.Image.Resampling.LANCZOS))


def alike(a: np.ndarray, b: np.ndarray) -> float:
    """The correlation of two images."""
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def main() -> None:
    rows = []
    print("| looks like | has the HOG of | apart | undirected | of 8 bits | like it | directed | like it |\n|" + "---|" * 8)
    photographs = [photograph(n) for n in PHOTOGRAPHS]
    for k, name in enumerate(PHOTOGRAPHS):
        shown, wanted = photographs[k], photographs[(k + 1) % len(photographs)]
        row, said = [shown, wanted], [Path(name).stem, Path(PHOTOGRAPHS[(k + 1) % len(photographs)]).stem]
        for directed in (False, True):
            phi = preimage.HOG(bilinear=True, directed=directed)
            found = preimage.invert(PastCeiling(phi), wanted, recipe=disguise(), start=shown, progress=False)
            assert found.error is not None
            picture = found.images[0, 0].round().byte().numpy()

            def apart(image: np.ndarray, phi: preimage.HOG = phi, wanted: np.ndarray = wanted) -> float:
                features, target = phi(phi.space.encode(image)), phi(phi.space.encode(wanted))
                return float((features - target).norm() / target.norm())

            said += [] if directed else [f"{100 * apart(shown):.0f} %"]
            said += [f"{100 * float(found.error):.1f} %"] + ([] if directed else [f"{100 * apart(picture):.1f} %"])
            said += [f"{alike(picture, shown):.2f}, {alike(picture, wanted):.2f}"]
            row.append(picture)
        print(f"| {' | '.join(said)} |", flush=True)
        rows.append(np.concatenate([np.pad(tile, 2, constant_values=255) for tile in row], axis=1))
    PIL.Image.fromarray(np.concatenate(rows)).save(Path(__file__).parent / "images" / "twins.jpg", quality=90)


if __name__ == "__main__":
    main()
