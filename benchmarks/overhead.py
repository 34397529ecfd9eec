"""Time of one evaluation against a bare forward and backward pass of the truncated network, interleaved in one run.

python -m benchmarks.overhead [--cases fire2 …] [--rounds 40] [--alone] [--compiled] [--json FILE] [--plot FILE]

bare: features and the gradient of their sum of squares in the image, batch 1, float32, in the memory format of the loop. evaluation: all
that the loop does for a gradient (energy, regularizers, checks, record). step: a whole iteration of each solver, by the difference of a
long and a short run. descent alone: what the descent of `fast` does between evaluations in a whole run from a learned inverse, with a
gradient that costs nothing, in processor time. float32, bfloat16: how many times as fast an evaluation in this type is as the network as
it comes, in float32 with channels first, in the same process; --compiled adds both through torch.compile, its own time not counted.
VGG-16 (conv3_3) has random weights.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from preimage.energy.energy import Energy, Problem
from preimage.energy.losses import Euclidean
from preimage.energy.regularizers import PixelBall
from preimage.energy.terms import FeatureTerm
from preimage.representations.cnn import likes_channels_last
from preimage.solvers.compute import compiled, in_bfloat16
from preimage.solvers.loop import keep_freed_memory, minimize
from preimage.solvers.plans import Asked, plan_for
from preimage.solvers.quasinewton import Curvature, Descent
from preimage.solvers.run import Run, Stage

from .common import figure, parser, photographs, quartiles, save, seconds, show_machine, write
from .convergence import CASES, encoded, representation

Way = Callable[[Any], Any]
TYPES: dict[str, Way] = {"float32": lambda phi: None, "bfloat16": in_bfloat16}  # what gradients are taken of
COMPILED: dict[str, Way] = {
    "float32 compiled": lambda phi: compiled(phi, torch.device("cpu")),
    "bfloat16 compiled": lambda phi: compiled(in_bfloat16(phi), torch.device("cpu")),
}
ALONE = "descent alone"
SOLVERS = {"paper": Stage(1), "fourier-adam": Stage(1), "fast": Stage(1, jitter=False)}


def measure(
    case: str, rounds: int, types: dict[str, Way] = TYPES, lengths: tuple[int, int] = (25, 35), alone: bool = False
) -> dict[str, Any]:
    """Ratios to bare. lengths: iterations of the short and the long run whose difference gives a step's time. alone: the descent's only."""
    phi = representation(case)
    x = encoded(phi, photographs()[:1])
    short, long = lengths
    keep_freed_memory()
    last = likes_channels_last(phi.module)

    def bare() -> None:
        leaf = x.detach().clone().requires_grad_()
        torch.autograd.grad(phi(leaf).square().sum(), leaf)

    def prepared(quick: Any) -> tuple[Energy, Run]:
        energy = Energy(FeatureTerm(Euclidean(), phi, phi(x).detach() * 0.9, gradient_phi=quick))
        return energy, Run(Problem(energy), x, [torch.Generator()], lambda count, energy: False, 1)

    ratios: dict[str, list[float]] = {"evaluation": [], **{s: [] for s in SOLVERS}, ALONE: [], **{t: [] for t in types}}
    with phi.session(channels_last=last):
        energy, run = prepared(None)

        def solve(solver: str, count: int) -> float:
            stages = [Stage(count, jitter=SOLVERS[solver].jitter)]
            plan = plan_for(Asked("invert", float(phi.stride)), solver, stages=stages)
            return seconds(lambda: minimize(energy, x * 0.5, plan=plan))

        for _ in range(3):
            bare(), run.evaluate(x)
        ratios[ALONE] = descent_alone(x, float(phi.stride), bare, max(1, rounds // 4))
        if alone:
            return {ALONE: quartiles(ratios[ALONE])}
        for k in range(rounds):
            before, ours, after = seconds(bare), seconds(lambda: run.evaluate(x)), seconds(bare)
            ratios["evaluation"].append(2 * ours / (before + after))
            if k % 8 == 0:
                for solver in SOLVERS:
                    begun = [seconds(bare) for _ in range(5)]
                    ours = (solve(solver, long) - solve(solver, short)) / (long - short)
                    ended = [seconds(bare) for _ in range(5)]
                    ratios[solver].append(10 * ours / sum(begun + ended))
    with phi.session(channels_last=last):
        ways = {name: way(phi) for name, way in types.items()}
    for _ in range(max(1, rounds // 8)):
        for name, quick in ways.items():
            with phi.session():
                bare()
                begun = [seconds(bare) for _ in range(5)]
            with phi.session(channels_last=last):
                _, run = prepared(quick)
                run.evaluate(x)
                ours = sum(seconds(partial(run.evaluate, x)) for _ in range(5))
            with phi.session():
                ended = [seconds(bare) for _ in range(5)]
            ratios[name].append(sum(begun + ended) / 2 / ours)
    return {name: quartiles(values) for name, values in ratios.items()}


def descent_alone(x: Tensor, stride: float, bare: Callable[[], object], runs: int) -> list[float]:
    """Processor time of the steps of a run of `fast` from a learned inverse, without Φ, over that of as many of bare, for each run."""
    plan = plan_for(Asked("invert", stride, warm=True))
    solver: Any = plan.phases[-1].solver
    weights, ball = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) + 0.1, PixelBall()
    ratios = []
    for _ in range(runs):
        energy, ours, networks = torch.ones(len(x)), 0.0, 0.0
        search = Descent(x * 0.5, energy, weights * x, Curvature(x), solver.memory, solver.first_step)
        for _ in range(plan.iterations):
            began = time.process_time()
            trial = ball(search.ask())
            asked = time.process_time()
            gradient, energy = weights * trial, energy * 0.99
            evaluated = time.process_time()
            search.tell(trial, energy, gradient)
            told = time.process_time()
            bare()
            ours, networks = ours + (asked - began) + (told - evaluated), networks + time.process_time() - told
        ratios.append(ours / networks)
    return ratios


def plot(cases: dict[str, dict[str, tuple[float, float, float]]], path: Path) -> None:
    """Ratios as bars from the first to the third quartile, a group for each case."""
    drawing = figure(max(5.0, 1.7 * len(cases)), 3.2)
    axes = drawing.add_subplot()
    names = ["evaluation", *SOLVERS]
    for k, name in enumerate(names):
        at = [g + 0.2 * (k - (len(names) - 1) / 2) for g in range(len(cases))]
        low, median, high = zip(*(found[name] for found in cases.values()), strict=True)
        error = [[m - a for m, a in zip(median, low, strict=True)], [b - m for m, b in zip(median, high, strict=True)]]
        axes.bar(at, median, 0.18, yerr=error, label=name if name == "evaluation" else f"step of {name}")
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(cases)), list(cases))
    axes.set_ylabel("time / bare forward and backward")
    axes.legend(frameon=False, fontsize="small")
    save(drawing, path)


def options() -> argparse.ArgumentParser:
    found = parser(__doc__ or "", "overhead")
    found.add_argument(
        "--cases", nargs="+", default=["fire2", "fire4", "fire9", "conv3_3"], choices=[c for c in CASES if c not in ("hogb", "dsift")]
    )
    found.add_argument("--rounds", type=int, default=40)
    found.add_argument("--alone", action="store_true", help="the descent alone, and nothing else")
    found.add_argument("--compiled", action="store_true", help="also through torch.compile, which takes a C++ compiler and a minute")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    given = options().parse_args(arguments)
    lengths = (25, 35)
    if given.smoke:
        given.cases, given.rounds, lengths = ["fire2"], 1, (10, 20)
    torch.set_num_threads(given.threads)
    show_machine()
    types = TYPES | (COMPILED if given.compiled else {})
    names = ["case", "evaluation", *(f"step of {s}" for s in SOLVERS), ALONE, *(f"{t}, times as fast" for t in types)]
    if given.alone:
        names, given.plot = ["case", ALONE], None
    print(f"| {' | '.join(names)} |\n|" + "---|" * len(names))
    cases = {}
    for case in given.cases:
        cases[case] = measure(case, given.rounds, types, lengths, given.alone)
        print(f"| {case} | " + " | ".join(f"{m:.2f} [{a:.2f}, {b:.2f}]" for a, m, b in cases[case].values()) + " |", flush=True)
        write(given.json, {"benchmark": "overhead", "ratio to bare, and times as fast: quartiles and median": cases})
    if given.plot is not None:
        plot(cases, given.plot)


if __name__ == "__main__":
    main()
