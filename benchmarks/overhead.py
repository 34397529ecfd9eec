"""Time of one evaluation against a bare forward and backward pass of the truncated network, interleaved in one run.

python -m benchmarks.overhead [--cases fire2 …] [--rounds 40] [--json FILE]

bare: features and the gradient of their sum of squares in the image, batch 1, float32. evaluation: all that the loop does for a gradient
(energy, regularizers, checks, record). step: a whole iteration of each solver, by the difference of a long and a short run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from preimage.energy import Energy, Euclidean
from preimage.optimize import Run, Stage, minimize
from preimage.regularizers import Jitter, PixelBall

from .common import photographs, quartiles, write
from .convergence import CASES, encoded, representation

SOLVERS = {"paper": Stage(1), "fourier-adam": Stage(1), "fast": Stage(1, jitter=False)}


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measure(case: str, rounds: int) -> dict[str, Any]:
    phi = representation(case)
    x = encoded(phi, photographs()[:1])
    with phi.session() if hasattr(phi, "session") else torch.enable_grad():
        energy = Energy(Euclidean(), phi, phi(x).detach() * 0.9)
        run = Run(energy, x, Jitter(1), PixelBall(), [torch.Generator()], lambda count, energy: False, 0, 1)

        def bare() -> None:
            leaf = x.detach().clone().requires_grad_()
            torch.autograd.grad(phi(leaf).square().sum(), leaf)

        def solve(solver: str, count: int) -> float:
            stage = SOLVERS[solver]
            stages = [Stage(count, jitter=stage.jitter)]
            return seconds(lambda: minimize(energy, x * 0.5, solver=solver, stages=stages))

        for _ in range(3):
            bare(), run.evaluate(x)
        ratios: dict[str, list[float]] = {"evaluation": [], **{s: [] for s in SOLVERS}}
        for k in range(rounds):
            before, ours, after = seconds(bare), seconds(lambda: run.evaluate(x)), seconds(bare)
            ratios["evaluation"].append(2 * ours / (before + after))
            if k % 8 == 0:
                for solver in SOLVERS:
                    begun = [seconds(bare) for _ in range(5)]
                    ours = (solve(solver, 35) - solve(solver, 25)) / 10
                    ended = [seconds(bare) for _ in range(5)]
                    ratios[solver].append(10 * ours / sum(begun + ended))
    return {name: quartiles(values) for name, values in ratios.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=["fire2", "fire4", "fire9", "conv3_3"], choices=CASES)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("build/overhead.json"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print("| case | evaluation | " + " | ".join(f"step of {s}" for s in SOLVERS) + " |\n|" + "---|" * (2 + len(SOLVERS)))
    cases = {}
    for case in given.cases:
        cases[case] = measure(case, given.rounds)
        print(f"| {case} | " + " | ".join(f"{m:.2f} [{a:.2f}, {b:.2f}]" for a, m, b in cases[case].values()) + " |", flush=True)
        write(given.json, {"benchmark": "overhead", "ratio to bare: quartiles and median": cases})


if __name__ == "__main__":
    main()
