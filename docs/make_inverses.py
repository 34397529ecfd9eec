"""Draw docs/images/inverses.jpg: two photographs and what linear inverses of SqueezeNet's layers, fitted on other ones, make of them.

python docs/make_inverses.py
"""

from __future__ import annotations

import io
from pathlib import Path

import torch

import preimage
from preimage.pixels.images import atomic_write, to_pil

SHOWN = ("chelsea.png", "coffee.png")
LAYERS = ("fire2", "fire4", "fire6", "fire9")


def main() -> None:
    """Put the photographs and each layer's answers side by side; the inverses are fitted on other photographs."""
    net = preimage.load_network("squeezenet1_1")
    shown = [p for p in preimage.free_photographs(shown=True) if p.name in SHOWN]
    x = torch.cat([net.space.encode(p) for p in shown])
    columns = [net.space.decode(x)]
    for name in LAYERS:
        phi = net.layer(name)
        inverse = preimage.inverse_of(phi)
        with torch.no_grad():
            columns.append(net.space.decode(inverse(phi(x))))
    picture = torch.cat([torch.cat(list(images), dim=1) for images in columns], dim=2)  # a column each
    buffer = io.BytesIO()
    to_pil(picture).save(buffer, format="JPEG", quality=88)
    with atomic_write(Path(__file__).parent / "images" / "inverses.jpg") as file:
        file.write(buffer.getvalue())


if __name__ == "__main__":
    main()
