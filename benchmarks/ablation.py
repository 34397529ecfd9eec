"""What a part of the recipe for classes is worth: the same classes with one part changed, judged by a network that made none of them.

python -m benchmarks.ablation [--sets quality views written parts] [--count 8] [--net NET] [--judge NET] [--folder DIR] [--pictures PNG]

The classes are drawn by a fixed seed from 0 to 99, which are those for choosing: none of them is reported in `benchmarks.recognition`.
quality: draft, normal and best. views: 1, 2, 4, 8 and 16 views a step at equal evaluations, so that 16 views make 9 steps. written: how the
image is written, with the recipe's other parts as they are. parts: the recipe without one of its own parts or with one more, and with none
of what makes it general. One seed. Pictures are kept one by one, and what is there is not made again.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import preimage
from preimage.energy.fourier import FixedMagnitude, Fourier
from preimage.energy.levels import MultiResolution
from preimage.energy.parameterizations import Pixels
from preimage.energy.patches import PatchPrior
from preimage.energy.regularizers import TVBeta
from preimage.energy.scores import Score
from preimage.methods.recipe import NATURAL, Parts, recipe_named
from preimage.solvers.plans import QUALITIES

from .common import parser, show_machine, write
from .peer_tools import Tool
from .recognition import CLASS_LAYERS, SEED, Case, ours, row_of, sheet, table

VIEWS = (1, 2, 4, 8, 16)
SETS = ("quality", "views", "written", "parts")


def tuning_classes(count: int) -> list[int]:
    """Return classes on which parts are chosen, none of which is reported; a smaller count is a part of a larger one."""
    return random.Random(SEED).sample(range(100), 100)[:count]


def variants(name: str) -> list[Tool]:
    """Return the runs of a set, each the default but for one part."""
    if name == "quality":
        return [Tool(quality, ours(quality=quality)) for quality in QUALITIES]
    recipe = recipe_named(NATURAL)
    parts = recipe.parts("maximize")
    if name == "parts":
        return [Tool(title, ours(recipe=replace(recipe, maximize=replace(parts, **change)))) for title, change in changes(parts).items()]
    if name == "views":
        steps = sum(s.iterations for s in parts.stages or ())
        found = {n: {"transform": replace(parts.transform, views=n), "iterations": round(steps / n)} for n in VIEWS}  # type: ignore[type-var]
        return [Tool(f"{n} views a step", ours(recipe=NATURAL, **chosen)) for n, chosen in found.items()]
    written: dict[str, Any] = {"fourier": parts.parameterization, "fixed magnitude": FixedMagnitude()}
    written |= {"multi-resolution": MultiResolution(), "pixels": Pixels()}
    return [Tool(title, ours(recipe=NATURAL, parameterization=way)) for title, way in written.items()]


def changes(parts: Parts) -> dict[str, dict[str, Any]]:
    """Return what each variant of the set "parts" changes in the parts of the recipe."""
    margin, natural = parts.objective
    plain = {"closed_slope": 0.0, "pool_share": 0.0}
    alone: dict[str, Any] = {"objective": (Score(),), **plain}
    return {
        "without statistics": {"objective": (margin,)},
        "the score, not the margin": {"objective": (Score(), natural)},
        "the network's own gradient": plain,
        "colours not decorrelated": {"parameterization": Fourier(colours="plain", start=1.4)},
        "none of the four": {**alone, "parameterization": Fourier(colours="plain", start=1.4)},
        "statistics alone": {"objective": (Score(), natural), **plain},
        "with total variation": {"regularizers": {"tv-beta": TVBeta()}},
        "with the prior of patches": {"regularizers": {"patch-prior": PatchPrior()}},
    }


def options() -> argparse.ArgumentParser:
    found = parser(__doc__ or "", "ablation", threads=1)
    found.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    found.add_argument("--net", default="squeezenet1_1", choices=sorted(CLASS_LAYERS), help="what the images are made on")
    found.add_argument("--judge", default="efficientnet-lite0", metavar="NET")
    found.add_argument("--count", type=int, default=8, help="of classes, the first ones")
    found.add_argument("--folder", type=Path, default=Path("build/ablation"))
    found.add_argument("--pictures", type=Path, default=None, help="a PNG of pictures a set, NAME-SET.png")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    given = options().parse_args(arguments)
    torch.set_num_threads(given.threads)
    if given.smoke:
        given.count, given.folder = 1, given.json.parent / "smoke"
    show_machine()
    net, judge = preimage.load_network(given.net), preimage.load_network(given.judge)
    chosen = [Case("class", f"class-{c:03d}", c) for c in tuning_classes(given.count)]
    sets: dict[str, Any] = {}
    for name in given.sets:
        found, rows = {}, {}
        for tool in variants(name)[: 1 if given.smoke else None]:
            found[tool.name], made = row_of(tool, chosen, net, {given.judge: judge}, given.folder / name)
            if made:
                rows[tool.name] = made
            print(f"{name}: {tool.name} done", flush=True)
        sets[name] = {"net": given.net, "cases": [c.name for c in chosen], "tools": found}
        print("\n" + "\n".join(table("class", given.net, found, [given.judge], title=name)) + "\n", flush=True)
        write(given.json, {"benchmark": "ablation", "sets": sets})
        if given.pictures is not None and rows:
            sheet(rows, chosen, judge, given.pictures.with_stem(f"{given.pictures.stem}-{name}"))


if __name__ == "__main__":
    main()
