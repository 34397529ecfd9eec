"""Evaluations that each solver needs to reach the energy at which the paper's solver ends, and the images' PSNR.

python -m benchmarks.convergence [--cases fire2 …] [--images 4] [--lengths 35 …] [--json FILE] [--plot FILE] [--pictures DIR]

Each solver runs afresh at each length, as a schedule depends on it. Energies are those of the returned image, without jitter. All
begin with noise but "warm", the descent of "fast" from the layer's learned inverse with the paper's own energy, and "default",
`preimage.invert` with nothing chosen; its energy is the paper's at its images, what it minimises beside it left out.
VGG-16 (conv3_3; He, seed 0) and timm's ViT-Ti/16 (vit: the patches after its fourth block) have random weights and a canvas of 112 pixels.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import preimage
from preimage.energy.energy import Energy
from preimage.energy.losses import Euclidean
from preimage.energy.terms import FeatureTerm, total

from .common import figure, parser, photographs, quartiles, save, show_machine, write

LENGTHS = (35, 50, 70, 100)
SOLVERS = ("default", "warm", "fast", "fourier-adam", "lbfgs")
CASES = ("fire2", "fire4", "fire6", "fire9", "conv10", "conv3_3", "vit", "hogb", "dsift")


def representation(case: str) -> Any:
    if case == "hogb":
        return preimage.HOG(cell=8, bilinear=True)
    if case == "dsift":
        return preimage.DenseSIFT(bin=8)
    if case == "conv3_3":
        import torchvision

        torch.manual_seed(0)
        return preimage.Layer(torchvision.models.vgg16(weights=None).features, "14", space=preimage.PixelSpace.caffe(112), title=case)
    if case == "vit":
        return preimage.load_network("timm/vit_tiny_patch16_224", weights=None, size=112).layer("blocks.3:grid")
    return preimage.load_network("squeezenet1_1").layer(case)


def encoded(phi: Any, paths: list[str]) -> Tensor:
    size = (256, 256) if phi.space.size is None else None
    return torch.cat([phi.space.encode(p, size=size) for p in paths])


def run(phi: Any, x: Tensor, solver: str, iterations: int | None, C: float) -> tuple[dict[str, Any], Tensor]:
    options: dict[str, Any] = {"solver": solver, "start": "noise"}
    if solver in ("default", "warm"):
        options = {} if solver == "default" else {"start": "inverse"}
    r = preimage.invert(phi, x, C=C, iterations=iterations, progress=False, **options)
    assert r.error is not None
    psnr = preimage.metrics.psnr(r.images, r.originals).tolist()
    energy = papers_energy(phi, x, r.images - phi.space.mean_colour, C)
    found = {"energy": energy.tolist(), "error": r.error.tolist(), "psnr": psnr, "seconds": r.config["seconds"]}
    return found | {"evaluations": r.evaluations}, r.images


def papers_energy(phi: Any, x0: Tensor, x: Tensor, C: float) -> Tensor:
    """The paper's energy of canonical images x (B, C, H, W) as pre-images of x0, whatever it was that they minimise, (B,)."""
    with torch.no_grad():
        return total(Energy(FeatureTerm(Euclidean(), phi, phi(x0), C=C))(x))


def study(
    case: str, paths: list[str], solvers: tuple[str, ...], C: float, show: Callable[[str], None], lengths: Sequence[int] = LENGTHS
) -> tuple[dict[str, Any], list[Tensor]]:
    """One case: the paper's end, and each solver at each length."""
    phi = representation(case)
    x = encoded(phi, paths)
    paper, images = run(phi, x, "paper", None, C)
    pictures = [phi.space.decode(x), images]
    out: dict[str, Any] = {"C": C, "paper": paper, "solvers": {}}
    for solver in solvers:
        rows = []
        for length in lengths:
            row, images = run(phi, x, solver, length, C)
            row["ratio"] = [a / b for a, b in zip(row["energy"], paper["energy"], strict=True)]
            rows.append(row)
            if solver == "fast" and length in (35, 70, 100):
                pictures.append(images)
        out["solvers"][solver] = rows
        cells = [f"{quartiles(r['ratio'])[1]:.3f} [{quartiles(r['ratio'])[0]:.3f}, {quartiles(r['ratio'])[2]:.3f}]" for r in rows]
        psnr = [f"{sum(r['psnr']) / len(r['psnr']):.1f}" for r in rows]
        reached = needed(rows)
        show(f"| {case} | {solver} | {' | '.join(cells)} | {'–' if reached is None else f'{reached:.0f}'} | {', '.join(psnr)} |")
    gap = " |" * (1 + len(lengths))
    show(f"| {case} | paper, {paper['evaluations']} |{gap} {sum(paper['psnr']) / len(paper['psnr']):.1f} |")
    return out, pictures


def needed(rows: list[dict[str, Any]]) -> float | None:
    """Mean evaluations to the paper's energy over the images, linear between lengths; None where one image does not reach it."""
    counts = []
    for image in range(len(rows[0]["ratio"])):
        before = None
        for row in rows:
            ratio = row["ratio"][image]
            if ratio <= 1:
                gap = 0.0 if before is None else (1 - ratio) / max(before["ratio"][image] - ratio, 1e-12)
                counts.append(row["evaluations"] - gap * (row["evaluations"] - (before or row)["evaluations"]))
                break
            before = row
        else:
            return None
    return sum(counts) / len(counts)


def plot(cases: dict[str, Any], path: Path) -> None:
    """Energy over the paper's against evaluations, one panel a case."""
    columns = min(3, len(cases))
    lines = -(-len(cases) // columns)
    drawing = figure(3.2 * columns, 2.8 * lines)
    for k, (case, found) in enumerate(cases.items()):
        axes = drawing.add_subplot(lines, columns, k + 1)
        for solver, rows in found["solvers"].items():
            at = [r["evaluations"] for r in rows]
            low, median, high = zip(*[quartiles(r["ratio"]) for r in rows], strict=True)
            (line,) = axes.plot(at, median, marker=".", label=solver)
            axes.fill_between(at, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
        axes.axhline(1.0, color="black", linewidth=0.8)
        axes.set(title=case, yscale="log", xlabel="evaluations", ylabel="energy / paper's after 350")
        axes.set_yticks([0.25, 0.5, 1, 2, 4, 8], ["¼", "½", "1", "2", "4", "8"])
        axes.minorticks_off()
        if k == 0:
            axes.legend(frameon=False)
    save(drawing, path)


def options() -> argparse.ArgumentParser:
    found = parser(__doc__ or "", "convergence")
    found.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    found.add_argument("--solvers", nargs="+", default=list(SOLVERS))
    found.add_argument("--images", type=int, default=4, help="how many of the photographs, from the first")
    found.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS), help="evaluations of the runs")
    found.add_argument("--C", type=float, default=100.0)
    found.add_argument("--pictures", type=Path, default=None, help="a folder for originals, paper's, and fast's after 35, 70, 100")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    given = options().parse_args(arguments)
    lengths = tuple(given.lengths)
    if given.smoke:
        given.cases, given.solvers, given.images, lengths = ["hogb"], ["fast"], 1, (3, 6)
    torch.set_num_threads(given.threads)
    show_machine()
    print("| case | solver | " + " | ".join(map(str, lengths)) + " | needed | PSNR, dB |\n|" + "---|" * (len(lengths) + 4), flush=True)
    cases: dict[str, Any] = {}
    for case in given.cases:
        paths, solvers = photographs()[: given.images], tuple(given.solvers)
        cases[case], pictures = study(case, paths, solvers, given.C, lambda s: print(s, flush=True), lengths)
        write(given.json, {"benchmark": "convergence", "lengths": lengths, "cases": cases})
        if given.pictures is not None:
            given.pictures.mkdir(parents=True, exist_ok=True)
            rows = [torch.cat(list(images), dim=2) for images in pictures]  # originals, paper's, fast's: one row each
            preimage.images.write_png(given.pictures / f"{case}.png", torch.cat(rows, dim=1))
    if given.plot is not None:
        plot(cases, given.plot)


if __name__ == "__main__":
    main()
