"""The worked example of docs/audit.md: python docs/make_faces.py [FOLDER] (minutes; the same folder goes on where it stopped)

Faces of nobody are drawn, and their features audited with two attackers: one whose inverses have learned from the free photographs, one
whose have learned from other such faces. The picture shows the first four faces and what comes back of them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter

import preimage
from preimage.pixels.images import atomic_write, to_pil
from preimage.studies.store import Store

SIDE = 240
AUDITED, LEARNED, SHOWN = 8, 16, 4  # faces; those of the attacker are others
LAYERS = ("fire2", "fire4", "fire6")
CELL = 120  # pixels of a face in the picture
SKINS = ((244, 208, 177), (224, 172, 135), (198, 134, 94), (141, 85, 54), (92, 58, 40), (255, 224, 196))
HAIRS = ((30, 22, 18), (74, 46, 26), (140, 88, 40), (210, 170, 90), (120, 120, 122), (150, 50, 30))


def face(seed: int) -> Image.Image:
    """Draw the face that this number stands for: colours, proportions and light are drawn at random, nobody's picture is used."""
    rng = np.random.default_rng([2026, seed])
    skin, hair = (np.array(colours[rng.integers(len(colours))], float) + rng.normal(0, 8, 3) for colours in (SKINS, HAIRS))
    top, bottom = rng.integers(60, 230, 3), rng.integers(60, 230, 3)
    rows = np.linspace(0, 1, SIDE)[:, None, None]
    image = Image.fromarray((top * (1 - rows) + bottom * rows + np.zeros((1, SIDE, 1))).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    x, y = SIDE / 2 + rng.normal(0, 8), SIDE * 0.52 + rng.normal(0, 6)
    width, height = rng.uniform(52, 66), rng.uniform(72, 88)

    def oval(dx: float, dy: float, w: float, h: float, colour: np.ndarray | tuple[int, ...]) -> None:
        fill = tuple(int(c) for c in np.clip(np.asarray(colour, float), 0, 255))
        draw.ellipse((x + dx - w, y + dy - h, x + dx + w, y + dy + h), fill=fill)

    long = rng.uniform(0.0, 1.0)
    oval(0, height * (1.35 + 0.5), width * 1.5, height * 0.7, rng.integers(30, 220, 3))  # a shirt
    oval(0, -8 + 30 * long, width * 1.22, height * (1.08 + 0.3 * long), hair)
    oval(0, height * 0.8, width * 0.42, height * 0.55, skin * 0.88)  # the neck
    oval(0, 0, width, height, skin)
    oval(0, -height * 0.86, width * rng.uniform(0.8, 1.0), height * rng.uniform(0.25, 0.42), hair)
    eyes, apart = rng.uniform(-0.2, -0.05) * height, rng.uniform(0.38, 0.48) * width
    iris = rng.integers(20, 140, 3)
    for side in (-1, 1):
        oval(side * apart, eyes, 11, rng.uniform(5, 8), (250, 250, 248))
        oval(side * apart, eyes, 5, 5, iris)
        oval(side * apart, eyes, 2.2, 2.2, (10, 10, 10))
        oval(side * apart, eyes - rng.uniform(13, 19), 14, rng.uniform(2, 4), hair * 0.8)
        oval(side * width * 0.55, height * 0.3, 13, 9, skin * np.array([1.02, 0.9, 0.88]))
    oval(0, height * 0.22, rng.uniform(6, 11), rng.uniform(12, 18), skin * 0.9)
    oval(0, height * 0.55, rng.uniform(16, 27), rng.uniform(4, 10), (170, 70, 70))
    if rng.random() < 0.4:
        for side in (-1, 1):
            box = (x + side * apart - 17, y + eyes - 14, x + side * apart + 17, y + eyes + 14)
            draw.ellipse(box, outline=(25, 25, 30), width=3)
        draw.line((x - apart + 17, y + eyes, x + apart - 17, y + eyes), fill=(25, 25, 30), width=3)
    if rng.random() < 0.3:
        oval(0, height * 0.82, width * 0.55, height * 0.22, hair)  # a beard
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(1.2)), float)
    light = 1 + 0.25 * np.cos(rng.uniform(0, 6.3)) * (np.arange(SIDE) / SIDE - 0.5)[None, :, None]
    return Image.fromarray((soft * light + rng.normal(0, 3, soft.shape)).clip(0, 255).astype(np.uint8))


def drawn(folder: Path, seeds: range) -> list[Path]:
    """The faces of these numbers as files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"face{k:03d}.png" for k in seeds]
    for k, path in zip(seeds, paths, strict=True):
        if not path.exists():
            face(k).save(path)
    return paths


def answers(store: Path, names: Sequence[str]) -> list[torch.Tensor]:
    """What was got back of these images: for each layer a column (N, H, W), one image below the other."""
    opened = Store.open(store)
    by = {(r.config["image"], r.config["layer"]): r.key for r in opened.records()}
    return [torch.cat([opened.result(by[name, layer]).images[0] for name in names], dim=1) for layer in LAYERS]


def main(folder: Path) -> None:
    """Audit the faces by both attackers, print what was found, and write the picture."""
    audited, others = drawn(folder / "audited", range(AUDITED)), drawn(folder / "others", range(AUDITED, AUDITED + LEARNED))
    space, shown = preimage.load_network("squeezenet1_1").space, audited[:SHOWN]
    columns = [torch.cat([space.decode(space.encode(path))[0] for path in shown], dim=1)]
    for name, images in (("photographs", None), ("faces", others)):
        threat = preimage.Threat(["inverse"], images=images)
        found = preimage.audit("squeezenet1_1", audited, LAYERS, threat=threat, out=folder / name, lpips=None, workers=1, progress=False)
        found.save(folder / name)
        print(f"\nThe attacker has learned from {name}:\n{found}", flush=True)
        columns += answers(folder / name, [path.stem for path in shown])
    picture = to_pil(torch.cat(columns, dim=2))
    picture = picture.resize((CELL * len(columns), CELL * SHOWN), Image.Resampling.LANCZOS)
    with atomic_write(Path(__file__).parent / "images" / "audit-faces.jpg") as file:
        picture.save(file, format="JPEG", quality=88)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("out", "faces"))
