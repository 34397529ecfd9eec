"""The mixture of patches in src/preimage/data/patches.safetensors, fitted anew: python docs/make_patches.py (half a minute)

The ten free photographs of `preimage.free_photographs`, nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path

import torch

import preimage

OUT = Path(__file__).parents[1] / "src" / "preimage" / "data" / "patches.safetensors"


def main() -> None:
    torch.set_num_threads(1)
    preimage.fit_patch_prior(progress=True).save(OUT)


if __name__ == "__main__":
    main()
