"""Time of a step of inversion in this tree against that of another tree of this repository, by turns in one run.

python -m benchmarks.against TREE [--cases small fire2 fire4 fire9 conv3_3] [--solver paper] [--steps 20] [--rounds 25] [--json FILE]

Each tree is served by a process of its own (SqueezeNet 1.1; VGG-16 with random weights for conv3_3; small: one convolution to four
channels, where our own work is nearly all there is; one photograph), which is asked for a run of 1 + steps iterations and one of 1, by
turns with the other; the difference over the steps is a step's processor time, which a busy machine changes less than the wall's, and the
ratio of two neighbours is one value. TREE is a checkout of the other commit, as `git worktree add --detach TREE COMMIT` makes it. Ratios
above 1: this tree is slower. fastest: the ratio of the two fastest steps, for machines whose other work comes and goes.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .common import parser, photographs, quartiles, show_machine, write

_SERVER = """
import sys, time, warnings
import torch, preimage
warnings.simplefilter("ignore")
torch.set_num_threads(1)
picture, layers = sys.argv[1], {}
def representation(case):
    if case == "small":
        torch.manual_seed(0)
        return preimage.Layer(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)), "0", space=preimage.PixelSpace.caffe(227))
    if case != "conv3_3":
        return preimage.load_network("squeezenet1_1").layer(case)
    import torchvision
    torch.manual_seed(0)
    return preimage.Layer(torchvision.models.vgg16(weights=None).features, "14", space=preimage.PixelSpace.caffe(112))
print("ready", preimage.__file__, flush=True)
for line in sys.stdin:
    layer, solver, count = line.split()
    phi = layers[layer] = layers.get(layer) or representation(layer)
    began = time.process_time()
    preimage.invert(phi, picture, solver=solver, iterations=int(count), progress=False)
    print(time.process_time() - began, flush=True)
"""


class Server:
    """A tree that runs inversions on request."""

    def __init__(self, tree: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", _SERVER, photographs()[0]]
        self._process = subprocess.Popen(command, cwd=tree, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        ready = self._read()
        if str(tree / "src") not in ready:
            raise SystemExit(f"{tree} is no tree of this repository with src/preimage: its server said {ready!r}.")

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def step(self, case: str, solver: str, steps: int) -> float:
        """Processor seconds of one step."""
        short, long = (self._ask(f"{case} {solver} {count}") for count in (1, 1 + steps))
        return (long - short) / steps

    def _ask(self, line: str) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return float(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def measure(ours: Server, theirs: Server, case: str, solver: str, steps: int, rounds: int) -> tuple[list[float], float]:
    """Ratios of neighbouring steps, ours over theirs, and that of the fastest; who goes first changes from round to round."""
    for server in (ours, theirs):
        server.step(case, solver, 2)
    found, fastest = [], {id(ours): math.inf, id(theirs): math.inf}
    for k in range(rounds):
        pair = (ours, theirs) if k % 2 else (theirs, ours)
        times = {id(server): server.step(case, solver, steps) for server in pair}
        found.append(times[id(ours)] / times[id(theirs)])
        fastest = {server: min(fastest[server], times[server]) for server in fastest}
    return found, fastest[id(ours)] / fastest[id(theirs)]


def options() -> argparse.ArgumentParser:
    found = parser(__doc__ or "", "against")
    found.add_argument("tree", type=Path, metavar="TREE")
    found.add_argument("--cases", nargs="+", default=["small", "fire2", "fire4", "fire9", "conv3_3"])
    found.add_argument("--solver", default="paper")
    found.add_argument("--steps", type=int, default=20)
    found.add_argument("--rounds", type=int, default=25)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    given = options().parse_args(arguments)
    if given.smoke:
        given.cases, given.steps, given.rounds = ["fire2"], 2, 2
    show_machine()
    print("| case | this tree's step over the other's: median [quartiles] | fastest |\n|---|---|---|")
    cases: dict[str, Any] = {}
    with Server(Path(__file__).parents[1].resolve()) as ours, Server(given.tree.resolve()) as theirs:
        for case in given.cases:
            ratios, fastest = measure(ours, theirs, case, given.solver, given.steps, given.rounds)
            low, median, high = quartiles(ratios)
            cases[case] = {"quartiles and median": [low, median, high], "fastest": fastest}
            print(f"| {case} | {median:.3f} [{low:.3f}, {high:.3f}] | {fastest:.3f} |", flush=True)
            write(given.json, {"benchmark": "against", "solver": given.solver, "ratio": cases})


if __name__ == "__main__":
    main()
