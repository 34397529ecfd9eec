"""Linear inverses on photographs that no fit has seen: their PSNR, what they are worth as a start, and staying near them.

python -m benchmarks.inverses [--layers fire4 …] [--images 4] [--lengths 10 20 35] [--near 0 …] [--json FILE] [--picture FILE]

Inverses of SqueezeNet 1.1's layers are fitted on the free photographs, kept in --folder and read from there the next time. Test
photographs are foolbox's. cold and warm: the quasi-Newton descent of "fast" without jitter, from its own start and from the inverse's
answer; energies over that of the solver "paper" after 350. near: the warm descent with `Nearby` of each weight, after --evaluations.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import preimage
from preimage.energy.energy import Energy
from preimage.energy.losses import Euclidean
from preimage.energy.regularizers import AlphaNorm, TVBeta
from preimage.energy.terms import FeatureTerm
from preimage.inverses import LearnedInverse, Nearby, fit_inverse, load_inverse, start_from_inverse
from preimage.representations.base import features_of

from .common import parser, photographs, quartiles, show_machine, write

LAYERS = ("fire2", "fire4", "fire6", "fire9")
C = 100.0


def fitted(phi: Any, layer: str, folder: Path, **options: Any) -> tuple[LearnedInverse, float | None]:
    """The inverse in the folder, or a new one and the seconds that it took."""
    path = folder / f"{layer}.safetensors"
    if path.exists():
        return load_inverse(path, phi), None
    began = time.perf_counter()
    inverse = fit_inverse(phi, progress=False, **options)
    took = time.perf_counter() - began
    folder.mkdir(parents=True, exist_ok=True)
    inverse.save(path)
    return inverse, took


def judged(phi: Any, x: Tensor, target: Tensor, found: Tensor) -> dict[str, list[float]]:
    """PSNR of each image in dB and the normalised error of its features."""
    error = ((features_of(phi, found) - target).flatten(1).norm(dim=1) / target.flatten(1).norm(dim=1)).tolist()
    return {"psnr": preimage.metrics.psnr(phi.space.decode(found), phi.space.decode(x)).tolist(), "error": error}


def descended(phi: Any, target: Tensor, start: Tensor, evaluations: int, near: Nearby | None = None) -> tuple[Tensor, list[float]]:
    """The descent of "fast" without jitter: the images, and the paper's energy at them (without `Nearby`)."""
    regularizers: dict[str, Any] = {"alpha-norm": AlphaNorm(), "tv-beta": TVBeta()}
    energy = Energy(FeatureTerm(Euclidean(), phi, target, C=C), regularizers | ({} if near is None else {"nearby": near}))
    with phi.session():
        found = preimage.minimize(energy, start, solver="fast", stages=[preimage.Stage(evaluations, jitter=False)])
    paper = found.energy["total"] - (found.energy["nearby"] if near is not None else 0)
    return found.x, paper.tolist()


def study(layer: str, paths: list[str], given: argparse.Namespace) -> tuple[dict[str, Any], list[Tensor]]:
    phi = preimage.load_network("squeezenet1_1").layer(layer)
    inverse, took = fitted(phi, layer, given.folder, kind=given.kind, crops=given.crops)
    x = torch.cat([phi.space.encode(p) for p in paths])
    target = features_of(phi, x)
    size = (int(x.shape[2]), int(x.shape[3]))
    start = start_from_inverse(inverse, target, size)
    out: dict[str, Any] = {
        "about": inverse.about["held_out"],
        "chosen": inverse.about.get("chosen") or inverse.about["architecture"],
        "fit seconds": took,
    }
    out["start"] = judged(phi, x, target, start)
    pictures = [phi.space.decode(x), phi.space.decode(start)]
    few = slice(0, given.images)
    if given.lengths:
        paper = preimage.invert(phi, x[few], C=C, solver="paper", iterations=given.paper, progress=False)
        out["paper"] = judged(phi, x[few], target[few], paper.images - phi.space.mean_colour)
        cold = preimage.invert(phi, x[few], C=C, solver="fast", iterations=max(given.lengths), progress=False)
        pictures.append(paper.images)
        out["cold"] = [a / b for a, b in zip(cold.energy["total"].tolist(), paper.energy["total"].tolist(), strict=True)]
        for length in given.lengths:
            images, energy = descended(phi, target[few], start[few], length)
            ratios = [a / b for a, b in zip(energy, paper.energy["total"].tolist(), strict=True)]
            out[f"warm {length}"] = {"ratio": ratios} | judged(phi, x[few], target[few], images)
            pictures.append(phi.space.decode(images))
    for weight in given.near or ():
        images, energy = descended(phi, target, start, given.evaluations, Nearby(weight, image=start))
        out[f"near {weight:g}"] = {"energy": energy} | judged(phi, x, target, images)
        pictures.append(phi.space.decode(images))
    return out, pictures


def show(layer: str, found: dict[str, Any]) -> None:
    start, chosen = found["start"], found["chosen"]
    how = ", ".join(f"{name} {value:g}" for name, value in chosen.items())
    seconds = "" if found["fit seconds"] is None else f", {found['fit seconds']:.0f} s"
    print(f"{layer}: {how}{seconds}; held out {found['about']['psnr']:.1f} dB; {len(start['psnr'])} test photographs: {_mean(start)}")
    if "paper" in found:
        print(f"  paper: {_mean(found['paper'])}; cold: {_ratios(found['cold'])}")
    for name, row in found.items():
        if name.startswith("warm"):
            print(f"  {name}: {_ratios(row['ratio'])}; {_mean(row)}")
        elif name.startswith("near"):
            print(f"  {name}: {_mean(row)}")
    print(flush=True)


def _mean(row: dict[str, list[float]]) -> str:
    return f"{sum(row['psnr']) / len(row['psnr']):.2f} dB at feature error {100 * sum(row['error']) / len(row['error']):.1f} %"


def _ratios(ratios: list[float]) -> str:
    low, median, high = quartiles(ratios)
    return f"energy {median:.2f} [{low:.2f}, {high:.2f}] of paper's"


def options() -> argparse.ArgumentParser:
    found = parser(__doc__ or "", "inverses")
    found.add_argument("--layers", nargs="+", default=list(LAYERS))
    found.add_argument("--images", type=int, default=4, help="how many photographs the descents are compared with paper on")
    found.add_argument("--photographs", type=int, default=20, help="how many the inverse and Nearby are judged on")
    found.add_argument("--lengths", type=int, nargs="*", default=[10, 20, 35])
    found.add_argument("--near", type=float, nargs="*", default=[])
    found.add_argument("--evaluations", type=int, default=50, help="of the runs with Nearby")
    found.add_argument("--paper", type=int, default=350)
    found.add_argument("--crops", type=int, default=None, help="to fit on; the kind's own number")
    found.add_argument("--folder", type=Path, default=Path("build/inverses"))
    found.add_argument("--kind", default="linear", help="as of preimage inverse fit")
    found.add_argument("--picture", type=Path, default=None, help="a row each for the photographs, the inverse, paper, the descents")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    given = options().parse_args(arguments)
    if given.smoke:
        given.layers, given.images, given.photographs, given.lengths, given.paper, given.crops = ["fire4"], 1, 1, [2], 2, 2
        given.kind, given.near, given.evaluations, given.folder = "linear:rank=4", [1.0], 2, given.json.parent / "smoke-inverses"
    torch.set_num_threads(given.threads)
    show_machine()
    record: dict[str, Any] = {}
    for layer in given.layers:
        record[layer], pictures = study(layer, photographs()[: given.photographs], given)
        show(layer, record[layer])
        write(given.json, {"benchmark": "inverses", "layers": record})
        if given.picture is not None:
            rows = [torch.cat(list(p[: given.images]), dim=2) for p in pictures]
            preimage.images.write_png(given.picture.with_stem(f"{given.picture.stem}-{layer}"), torch.cat(rows, dim=1))


if __name__ == "__main__":
    main()
