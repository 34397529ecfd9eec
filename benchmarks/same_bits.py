"""Whether this tree finds the same images as another tree of this repository, to the last bit, on this machine.

python -m benchmarks.same_bits TREE [--iterations 40] [--json FILE]

Every request is computed by a process of each tree, one thread each: the three tasks by the paper's solver on layers of SqueezeNet 1.1
and VGG-16 (random weights), and HOG, HOGb, dense SIFT and LBP by the solvers `paper` and `fast`; inversions begin with noise. TREE is a
checkout of the other commit, as `git worktree add --detach TREE COMMIT` makes it. Ends with 1 if a request differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .common import parser, photographs, show_machine, write

_CODE = """
import hashlib, inspect, json, sys, warnings
import torch, torchvision, preimage
from preimage import invert, maximize, caricature
warnings.simplefilter("ignore")
torch.set_num_threads(1)
picture, count = sys.argv[1], int(sys.argv[2])
noise = {"start": "noise"} if "start" in inspect.signature(invert).parameters else {}
net = preimage.load_network("squeezenet1_1")
torch.manual_seed(0)
vgg = preimage.Layer(torchvision.models.vgg16(weights=None).features, "14", space=preimage.PixelSpace.caffe(112))
paper = {"solver": "paper", "iterations": count, "progress": False}
def shallow(name):
    try:
        from preimage.representations.shallow import load_shallow
    except ImportError:
        from preimage.shallow import load_shallow
    return load_shallow(name)
requests = {}
for layer in ("conv1", "fire2", "fire4", "fire6", "fire9", "pool10"):
    requests[f"invert {layer}"] = lambda layer=layer: invert(net.layer(layer), picture, **noise, **paper)
requests["invert conv3_3"] = lambda: invert(vgg, picture, **noise, **paper)
requests["two restarts of fire2"] = lambda: invert(net.layer("fire2"), picture, restarts=2, seed=3, **noise, **paper)
requests["central fire4"] = lambda: invert(net.layer("fire4"), picture, mask=preimage.masks.central(5), **noise, **paper)
for layer, unit in (("fire3", 5), ("fire7", [0, 5]), ("conv10", 31), ("pool10", [7, 980])):
    requests[f"maximize {layer} {unit}"] = lambda layer=layer, unit=unit: maximize(net.layer(layer), unit, **paper)
for layer in ("fire2", "fire6", "conv10"):
    requests[f"caricature {layer}"] = lambda layer=layer: caricature(net.layer(layer), picture, **paper)
for name in ("hog", "hogb", "dsift", "lbp"):
    for solver in ("paper", "fast"):
        x0 = shallow(name).space.encode(picture, size=(96, 96))
        requests[f"invert {name} {solver}"] = lambda name=name, solver=solver, x0=x0: invert(
            shallow(name), x0, **noise, **{**paper, "solver": solver})
for name, ask in requests.items():
    bits = ask().images.contiguous().numpy().tobytes()
    print(json.dumps([name, hashlib.sha256(bits).hexdigest()]), flush=True)
print(json.dumps(["from", preimage.__file__]), flush=True)
"""


def digests(tree: Path, iterations: int) -> dict[str, str]:
    """Return the sha256 of the images of every request, computed by this tree."""
    environment = os.environ | {"PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _CODE, photographs()[0], str(iterations)]
    said = subprocess.run(command, cwd=tree, env=environment, text=True, stdout=subprocess.PIPE, check=True).stdout
    found = dict(json.loads(line) for line in said.splitlines())
    if str(tree / "src") not in found.pop("from"):
        raise SystemExit(f"{tree} is no tree of this repository with src/preimage.")
    return found


def options() -> argparse.ArgumentParser:
    found = parser(__doc__ or "", "same_bits")
    found.add_argument("tree", type=Path, metavar="TREE")
    found.add_argument("--iterations", type=int, default=40)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    given = options().parse_args(arguments)
    show_machine()
    count = 3 if given.smoke else given.iterations
    ours, theirs = (digests(tree.resolve(), count) for tree in (Path(__file__).parents[1], given.tree))
    print("| request | same bits |\n|---|---|")
    for name, digest in ours.items():
        print(f"| {name} | {'yes' if theirs.get(name) == digest else 'NO'} |")
    same = {name: theirs.get(name) == digest for name, digest in ours.items()}
    write(given.json, {"benchmark": "same_bits", "iterations": count, "same": same})
    if not all(same.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
