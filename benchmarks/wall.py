"""Wall time to the energy at which the paper's loop ends, in one run: `solver="paper"` in float32 against `fast`.

python -m benchmarks.wall [--cases conv3_3] [--size 224] [--precision bf16] [--rounds 1] [--threads 2] [--json FILE] [--plot FILE]

The paper's solver runs to its end (300 evaluations with jitter and 50 without). `fast` runs afresh at each length, as its schedule
depends on it, and the shortest run that ends at or below the paper's energy counts, with all of its own preparations. Energies are
those of the returned images, in float32, without jitter, whatever precision the run had. The same for `paper_loop`, the paper's loop
in plain PyTorch with autograd regularizers (--plain). ratio: of the wall times. Rounds take other photographs. VGG-16 has random
weights (He, seed 0), so it says nothing of a trained one; fire4 and fire9 are SqueezeNet's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import preimage
from preimage.energy.energy import Energy
from preimage.energy.losses import Euclidean
from preimage.energy.terms import FeatureTerm, total
from preimage.energy.transforms import Jitter

from . import paper_loop
from .common import add_precision, devices, figure, parser, photographs, precision, save, seconds, show_machine, spread, vgg16, write

LENGTHS = (25, 35, 50, 70, 100)
CASES = ("conv3_3", "fire4", "fire9")
C = 100.0


def network(case: str, size: int, device: str) -> tuple[Any, nn.Module]:
    """The representation, and the truncated network by itself."""
    if case == "conv3_3":
        phi, part = vgg16(size)
        part.requires_grad_(False)
        phi.module.to(device)
        return phi, part
    net = preimage.load_network("squeezenet1_1", device=device)
    return net.layer(case), net.module.features[: {"fire4": 7, "fire9": 13}[case]]


def energy_of(phi: Any, x0: Tensor, images: Tensor) -> float:
    """In float32 and without jitter, of levels 0–255 (1, 3, H, W)."""
    x = images.to(x0) - phi.space.mean_colour.to(x0)
    with torch.no_grad():
        return float(total(Energy(FeatureTerm(Euclidean(), phi, phi(x0), C=C))(x)))


def timed(phi: Any, x0: Tensor, **more: Any) -> dict[str, Any]:
    """One call of invert: seconds, evaluations, energy."""
    found: list[Any] = []
    took = seconds(lambda: found.append(preimage.invert(phi, x0, C=C, progress=False, **more)))
    return {"seconds": took, "evaluations": found[0].evaluations, "energy": energy_of(phi, x0, found[0].images)}


def plain(phi: Any, part: nn.Module, x0: Tensor) -> dict[str, Any]:
    """`paper_loop` on the truncated network, with the jitter of the layer."""
    with torch.no_grad():
        target = part(phi.space.to_network(x0))
    norm = target.square().sum()

    def loss(window: Tensor) -> Tensor:
        return C * (part(phi.space.to_network(window)) - target).square().sum() / norm

    found: list[Tensor] = []
    size, jitter = (x0.shape[-2], x0.shape[-1]), Jitter.for_stride(float(phi.stride)).amount
    took = seconds(lambda: found.append(paper_loop.run(loss, size, jitter, paper_loop.INVERT, device=str(x0.device))))
    evaluations = sum(phase.iterations for phase in paper_loop.INVERT)
    return {"seconds": took, "evaluations": evaluations, "energy": energy_of(phi, x0, phi.space.decode(found[0]))}


def race(phi: Any, part: nn.Module, x0: Tensor, lengths: Sequence[int], more: dict[str, Any], loop: bool, papers: int | None) -> Any:
    """One photograph: the paper's run, `fast` at each length up to the first that is as good, and the plain loop if asked for."""
    timed(phi, x0, solver="fast", iterations=2, **more)
    found: dict[str, Any] = {"paper": timed(phi, x0, solver="paper", iterations=papers), "fast": []}
    for length in lengths:
        found["fast"].append(timed(phi, x0, solver="fast", iterations=length, **more))
        if found["fast"][-1]["energy"] <= found["paper"]["energy"]:
            break
    if loop:
        found["plain"] = plain(phi, part, x0)
    end = found["fast"][-1]
    found["reached"] = end["energy"] <= found["paper"]["energy"]
    found["ratio"] = found["paper"]["seconds"] / end["seconds"] if found["reached"] else None
    return found


def rows(case: str, rounds: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of a case: the paper's run, the plain loop, and fast where it was as good."""

    def line(name: str, runs: Sequence[dict[str, Any]], ratio: str) -> str:
        parts = [spread([r["seconds"] for r in runs], 1), spread([r["evaluations"] for r in runs], 0), spread([r["energy"] for r in runs])]
        return f"| {case} | {name} | {' | '.join(parts)} | {ratio} |"

    paper = [r["paper"] for r in rounds]
    lines = [line("paper, float32", paper, "1.00")]
    if "plain" in rounds[0]:
        loops = [r["plain"] for r in rounds]
        lines.append(
            line("the paper's loop, plain PyTorch", loops, spread([p["seconds"] / q["seconds"] for p, q in zip(paper, loops, strict=True)]))
        )
    there = [r for r in rounds if r["reached"]]
    text = spread([r["ratio"] for r in there]) if there else ""
    missed = "" if len(there) == len(rounds) else f" not reached on {len(rounds) - len(there)} of {len(rounds)}"
    return [*lines, line("fast", [r["fast"][-1] for r in rounds], (text + missed).strip())]


def plot(cases: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Energy over the paper's against seconds, one panel a case, the first photograph."""
    drawing = figure(4.2 * len(cases), 3.2)
    for axes, (case, rounds) in zip(drawing.subplots(1, len(cases), squeeze=False)[0], cases.items(), strict=True):
        paper, fast = rounds[0]["paper"], rounds[0]["fast"]
        axes.plot([r["seconds"] for r in fast], [r["energy"] / paper["energy"] for r in fast], ".-", label="fast, each length anew")
        for r in fast:
            axes.annotate(
                str(r["evaluations"]), (r["seconds"], r["energy"] / paper["energy"]), fontsize=7, xytext=(3, 3), textcoords="offset points"
            )
        axes.plot([paper["seconds"]], [1.0], "s", label=f"paper, {paper['evaluations']} evaluations")
        if "plain" in rounds[0]:
            loop = rounds[0]["plain"]
            axes.plot([loop["seconds"]], [loop["energy"] / paper["energy"]], "^", label="the paper's loop, plain PyTorch")
        axes.axhline(1.0, color="black", linewidth=0.6)
        axes.set(title=case, xlabel="seconds", ylabel="energy / paper's at its end")
        axes.set_xlim(left=0.0)
        axes.legend(frameon=False, fontsize="small")
    save(drawing, path)


def options() -> argparse.ArgumentParser:
    found = parser(__doc__ or "", "wall", threads=2)
    found.add_argument("--cases", nargs="+", default=["conv3_3"], choices=CASES)
    found.add_argument("--size", type=int, default=224, help="of VGG-16's canvas")
    found.add_argument("--rounds", type=int, default=1)
    found.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS))
    found.add_argument("--plain", action="store_true", help="the paper's loop in plain PyTorch too: as long again as the paper's")
    add_precision(found)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    given = options().parse_args(arguments)
    papers = None
    if given.smoke:
        given.cases, given.size, given.rounds, given.lengths, papers = ["conv3_3"], 32, 1, [4, 8], 6
    torch.set_num_threads(given.threads)
    show_machine()
    device = devices()[-1]
    more = {"compute": preimage.Compute(**precision(given.precision))}
    cases: dict[str, list[dict[str, Any]]] = {}
    print("| case | run | seconds | evaluations | energy | paper's seconds / its own |\n|---|---|---|---|---|---|")
    for case in given.cases:
        phi, part = network(case, given.size, device)
        cases[case] = []
        for photo in photographs()[: given.rounds]:
            x0 = phi.space.encode(photo).to(device)
            cases[case].append(race(phi, part, x0, given.lengths, more, given.plain, papers))
        print("\n".join(rows(case, cases[case])), flush=True)
        record = {"benchmark": "wall", "device": device, "size": given.size, "precision": given.precision, "C": C, "cases": cases}
        write(given.json, record)
    if given.plot is not None:
        plot(cases, given.plot)


if __name__ == "__main__":
    main()
