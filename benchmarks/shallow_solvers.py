"""Energy of `fast` after 100 evaluations against `paper` after 300, on HOG, HOGb and dense SIFT.

python -m benchmarks.shallow_solvers IMAGE... (256x256 grey; the test photographs of foolbox if none is named)
"""

from __future__ import annotations

import sys

import torch

import preimage
from preimage.representations.shallow import load_shallow
from preimage.solvers.methods import FourierAdam

from .common import photographs

RUNS = {"paper": ("paper", 300), "fast": ("fast", 100), "fast, rate 14": (FourierAdam(rate=14), 100)}


def main(images: list[str]) -> None:
    for name in ("hog", "hogb", "dsift"):
        phi = load_shallow(name)
        x = torch.cat([phi.space.encode(i, size=(256, 256)) for i in images])
        reference = None
        for title, (solver, evaluations) in RUNS.items():
            result = preimage.invert(phi, x, solver=solver, stages=(preimage.Stage(evaluations),), progress=False)
            energy = result.energy["total"]
            reference = energy if reference is None else reference
            assert result.error is not None
            print(
                f"{name:6} {title:13} {evaluations:4} evaluations: energy {energy.mean():7.3f}, error {result.error.mean():6.1%}, "
                f"at or below paper's on {int((energy <= reference).sum())} of {len(x)}, {result.config['seconds']:.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:] or photographs())
