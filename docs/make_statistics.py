"""The statistics of SqueezeNet's later layers on photographs, in src/preimage/data, computed anew: python docs/make_statistics.py

The ten free photographs of `preimage.inverses.photographs`, nothing is downloaded; crops of 40 to 100 % of their short sides, every other
one mirrored, at the size of the views that the recipe preimage2026 shows. About a minute.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

import preimage
from preimage.inverses.photographs import Crops, free_photographs
from preimage.networks.network import weights_hash
from preimage.representations.passes import features_together

LAYERS = ("fire5", "fire6", "fire7", "fire8", "fire9")
CROPS, SIDE, SEED = 400, 163, 20161101
OUT = Path(__file__).parents[1] / "src" / "preimage" / "data" / "statistics-squeezenet1_1.safetensors"


def main() -> None:
    torch.set_num_threads(1)  # the order of sums
    network = preimage.load_network("squeezenet1_1")
    layers = [network.layer(name) for name in LAYERS]
    crops = Crops(free_photographs(), network.space, (SIDE, SIDE), SEED)
    sums = [torch.zeros(2, layer.shape[0], dtype=torch.float64) for layer in layers]
    with torch.no_grad():
        for n in range(CROPS):
            for total, features in zip(sums, features_together(layers, crops[n]), strict=True):
                values = features[0].double().flatten(1)
                total += torch.stack([values.mean(dim=1), values.square().mean(dim=1)]) / CROPS
    tensors = {}
    for name, (mean, square) in zip(LAYERS, sums, strict=True):
        tensors |= {f"mean:{name}": mean.float(), f"deviation:{name}": (square - mean**2).clamp(min=0).sqrt().float()}
    about = {"layers": json.dumps(LAYERS), "weights_sha256": weights_hash(network.module), "photographs": str(len(free_photographs()))}
    save_file(tensors, OUT, metadata={**about, "crops": str(CROPS), "side": str(SIDE)})


if __name__ == "__main__":
    main()
