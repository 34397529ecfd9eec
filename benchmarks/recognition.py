"""Which tool's images does another network recognise? Made on one network, judged by others that never saw them being made.

python -m benchmarks.recognition [--tasks class invert caricature] [--net NET] [--judges NET …] [--only TOOL …] [--pictures PNG]

class: one image for each of 100 ImageNet classes, drawn once from the classes 100 to 999 by a fixed seed and used for nothing else
(whatever is tuned is tuned on the classes 0 to 99). invert, caricature: of the 20 labelled photographs of foolbox, from a deep layer.
Every tool runs at its own defaults and for its own number of evaluations, one image at a time; its picture is what it ends with, as 8
bits. Judged are the rank of the class among all (top-1, top-5 with Wilson's 95 % intervals, the median) and, of what was made from a
photograph, whether the judge's embedding finds that photograph among the 20, beside the mean similarity to the others; the normalised
error of the features (and for a caricature the exaggeration, ⟨Φ, Φ0⟩/‖Φ0‖²) on the network that made it, and PSNR. Medians of wall
seconds, and of the seconds of processor time, which say more on a machine that others use too.
Pictures are kept one by one in --folder, and what is there is not made again: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import preimage
from preimage.metrics import Share, recognition, resemblance

from .common import figure, parser, photographs, save, show_machine, write
from .peer_tools import Clock, NoSuchTask, Problem, Tool, tools
from .peers import _timed as timed

SEED = 20161101  # the month of the paper's issue
TASKS = ("class", "invert", "caricature")
CLASS_LAYERS = {"squeezenet1_1": ("pool10", "classifier.3"), "efficientnet-lite0": ("logits", "classifier")}
DEEP_LAYERS = {"squeezenet1_1": ("fire9", "features.12", 13)}
PLAIN_STEPS = 350  # of a loop that has no number of its own: the paper's


def report_classes(count: int = 100) -> list[int]:
    """Return the classes that the benchmark reports on, in order; a smaller count is a part of a larger one.

    >>> report_classes(3)
    [761, 740, 334]
    """
    return random.Random(SEED).sample(range(100, 1000), 900)[:count]


@dataclass(frozen=True)
class Case:
    """One picture that is asked of every tool: its task, its name in the folder, the class that it should show, and the photograph."""

    task: str
    name: str
    label: int
    photo: str | None = None


def cases(task: str, count: int | None = None) -> list[Case]:
    """Return all cases of a task, or the first ones."""
    if task == "class":
        return [Case(task, f"class-{c:03d}", c) for c in report_classes(100 if count is None else count)]
    return [Case(task, f"{task}-{Path(p).stem}", int(Path(p).stem.rsplit("_", 1)[1]), p) for p in photographs()[:count]]


def contestants(task: str, smoke: bool = False) -> list[Tool]:
    """Return ours at its defaults, as published, and for classes by the recipe for channels; and for what they have, the others'.

    smoke: ours for two evaluations alone.
    """
    if smoke:
        return [Tool("preimage", ours(iterations=2))]
    mine = [Tool("preimage", ours()), Tool("preimage, solver paper", ours(solver="paper"))]
    if task == "class":
        mine.append(Tool("preimage, recipe preimage2026-units", ours(recipe="preimage2026-units")))
    peers = [] if task == "caricature" else [t for t in tools(None) if not t.name.startswith("preimage") and t.package != "captum"]
    return [*mine, *peers]


def ours(**more: Any) -> Any:
    """Return a run of a task of preimage at its defaults, but for what is given."""

    def run(problem: Problem, clock: Clock) -> Tensor:
        if problem.task == "maximize":
            result = preimage.maximize(problem.phi, problem.unit, progress=False, **more)
        else:
            task = preimage.invert if problem.task == "invert" else preimage.caricature
            result = task(problem.phi, problem.photo, progress=False, **more)
        clock.count = result.evaluations
        return result.images / 255

    return run


def problem_of(case: Case, net: preimage.Network) -> Problem:
    """Return the case as the tools take it. Raises SystemExit for a network whose layers this program does not know."""
    known = CLASS_LAYERS if case.task == "class" else DEEP_LAYERS
    if net.card.name not in known:
        raise SystemExit(f"{case.task} is run on {', '.join(known)}; got {net.card.name}.")
    if case.task == "class":
        layer, dotted = CLASS_LAYERS[net.card.name]
        empty = torch.zeros(1, 3, *(net.space.size or (224, 224)))
        return Problem(case.name, "maximize", net, layer, dotted, None, empty, case.label)
    layer, dotted, depth = DEEP_LAYERS[net.card.name]
    return Problem(case.name, case.task, net, layer, dotted, depth, net.space.encode(case.photo or ""))


def make(tool: Tool, case: Case, net: preimage.Network, folder: Path) -> dict[str, Any]:
    """Return what is known of a tool's picture of a case: made now, or kept from before; {"did not run": why} is tried again."""
    place = folder / net.card.name / tool.name.replace(", ", "-").replace(" ", "-").replace("'", "")
    record, picture = place / f"{case.name}.json", place / f"{case.name}.npy"
    if record.exists() and picture.exists():
        return {**json.loads(record.read_text()), "picture": np.load(picture)}
    steps = tool.own or PLAIN_STEPS
    clock = Clock(math.inf, own=steps, steps=steps)
    problem, began = problem_of(case, net), time.process_time()
    try:
        took = timed(tool, problem, clock)
    except NoSuchTask as reason:
        return {"did not run": str(reason)}
    except Exception as error:  # whatever a tool does, the others are measured
        return {"did not run": f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"}
    levels = (clock.seen[-1][2][0] * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    about = {"tool": tool.name, "case": case.name, "seconds": took, "evaluations": clock.seen[-1][1], "threads": torch.get_num_threads()}
    about["processor_seconds"] = time.process_time() - began
    place.mkdir(parents=True, exist_ok=True)
    np.save(picture, levels)
    record.write_text(json.dumps(about) + "\n")
    return {**about, "picture": levels}


def images_of(made: Sequence[dict[str, Any]]) -> Tensor:
    """Return pictures of one size as (B, 3, H, W) levels."""
    return torch.from_numpy(np.stack([m["picture"] for m in made])).permute(0, 3, 1, 2).float()


def judged(made: Sequence[dict[str, Any]], chosen: Sequence[Case], net: preimage.Network, judge: preimage.Network) -> dict[str, Any]:
    """Return what one judge says of one tool's pictures."""
    images = images_of(made)
    found: dict[str, Any] = {"recognised": recognition(images, judge, [c.label for c in chosen], made_by=net).to_dict()}
    if chosen[0].photo is not None:
        originals = torch.cat([judge.space.decode(judge.space.encode(p)) for p in photographs()])
        number = {p: n for n, p in enumerate(photographs())}
        sources = torch.tensor([number[c.photo or ""] for c in chosen])
        found["found"] = resemblance(images, originals, judge, made_by=net, sources=sources).to_dict()
    return found


def features_of(made: Sequence[dict[str, Any]], chosen: Sequence[Case], net: preimage.Network) -> dict[str, list[float]]:
    """Return the error of each picture's features on the network that made it, their exaggeration, and PSNR."""
    found: dict[str, list[float]] = {"error": [], "exaggeration": [], "psnr": []}
    for one, case in zip(made, chosen, strict=True):
        phi, x, x0 = problem_of(case, net).phi, net.space.encode(one["picture"]), net.space.encode(case.photo or "")
        with torch.no_grad():
            seen, wanted = phi(x), phi(x0)
        found["error"].append(float((seen - wanted).norm() / wanted.norm()))
        found["exaggeration"].append(float((seen * wanted).sum() / wanted.square().sum()))
        found["psnr"].append(float(preimage.metrics.psnr(net.space.decode(x), net.space.decode(x0))))
    return found


def table(task: str, net: str, found: dict[str, dict[str, Any]], judges: Sequence[str], title: str | None = None) -> Iterator[str]:
    """Give the lines of a task's table, called by the task or a title: a row a tool, and for each judge its columns."""
    made_from_a_photograph = task != "class"
    heads = [f"{what} by {judge}" for judge in judges for what in ("top-1", "top-5", "median rank")]
    heads += [f"{what} by {judge}" for judge in judges for what in ("found", "own, others")] * made_from_a_photograph
    heads += ["error", "exaggeration", "PSNR"] * made_from_a_photograph
    yield f"| {title or task}, {net} | evaluations | seconds | of a processor | " + " | ".join(heads) + " |"
    yield "|" + "---|" * (len(heads) + 4)
    for tool, row in found.items():
        if "judges" not in row:
            yield f"| {tool} | did not run: {row['did not run']} |" + " |" * (len(heads) + 2)
            continue
        said = [row["judges"][j] for j in judges]
        cells = [
            c
            for s in said
            for c in (_share(s["recognised"]["top1"]), _share(s["recognised"]["top5"]), f"{s['recognised']['median_rank']:g}")
        ]
        if made_from_a_photograph:
            cells += [
                c for s in said for c in (_share(s["found"]["found"]), f"{_mean(s['found']['own'])}, {_mean(s['found']['unrelated'])}")
            ]
            cells += [_mean(row["features"]["error"]), _mean(row["features"]["exaggeration"]), _mean(row["features"]["psnr"], 1)]
        yield f"| {tool} | {row['evaluations']:.0f} | {row['seconds']:.1f} | {row['processor_seconds']:.1f} | {' | '.join(cells)} |"


def _share(found: dict[str, Any]) -> str:
    return str(Share(found["hits"], found["trials"]))


def _mean(values: Sequence[float], digits: int = 2) -> str:
    return f"{statistics.mean(values):.{digits}f}"


def sheet(rows: dict[str, list[dict[str, Any]]], chosen: Sequence[Case], judge: preimage.Network, path: Path, most: int = 12) -> None:
    """Draw the first pictures of every tool, a row a tool, with the place of its class by the first judge below each."""
    shown = list(chosen)[:most]
    originals = any(c.photo for c in shown)
    drawing = figure(1.35 * len(shown), 1.6 * (len(rows) + originals))
    grid = drawing.subplots(len(rows) + originals, len(shown), squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for column, case in enumerate(shown):
        grid[0][column].set_title(judge.class_name(case.label)[:18], fontsize=7)
        if case.photo is not None:
            grid[0][column].imshow(preimage.images.read_image(case.photo).astype(np.uint8))
    for place, (tool, made) in enumerate(rows.items(), start=int(originals)):
        ranks = recognition(images_of(made[: len(shown)]), judge, [c.label for c in shown[: len(made)]], made_by=()).rank.tolist()
        grid[place][0].text(-0.05, 0.5, tool, transform=grid[place][0].transAxes, rotation=90, va="center", ha="right", fontsize=6)
        for axes, one, rank in zip(grid[place], made, ranks, strict=False):
            axes.imshow(one["picture"])
            axes.text(0.5, -0.02, f"rank {rank}", transform=axes.transAxes, va="top", ha="center", fontsize=7)
    save(drawing, path)


def options() -> argparse.ArgumentParser:
    found = parser(__doc__ or "", "recognition", threads=2)
    found.add_argument("--tasks", nargs="+", default=None, choices=TASKS, help="default: all that are known for the network")
    found.add_argument("--net", default="squeezenet1_1", choices=sorted(CLASS_LAYERS), help="what the images are made on")
    found.add_argument("--judges", nargs="+", default=None, metavar="NET", help="default: the other one of the two networks")
    found.add_argument("--only", nargs="+", default=None, choices=[t.name for t in contestants("class")], metavar="TOOL")
    found.add_argument("--count", type=int, default=None, help="of classes and of photographs, the first ones")
    found.add_argument("--folder", type=Path, default=Path("build/recognition"))
    found.add_argument("--pictures", type=Path, default=None, help="a PNG of pictures a task, NAME-TASK.png")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    given = options().parse_args(arguments)
    torch.set_num_threads(given.threads)
    if given.smoke:
        given.count, given.folder = 2, given.json.parent / "smoke"
    show_machine()
    net = preimage.load_network(given.net)
    names = given.judges or [n for n in CLASS_LAYERS if n != given.net]
    judges = {name: preimage.load_network(name) for name in names}
    tasks: dict[str, Any] = {}
    for task in given.tasks or [t for t in TASKS if t == "class" or given.net in DEEP_LAYERS]:
        chosen = cases(task, given.count)
        found: dict[str, Any] = {}
        rows: dict[str, list[dict[str, Any]]] = {}
        for tool in contestants(task, given.smoke):
            if given.only is not None and tool.name not in given.only:
                continue
            found[tool.name], made = row_of(tool, chosen, net, judges, given.folder)
            if made:
                rows[tool.name] = made
            print(f"{task}: {tool.name} done", flush=True)
        tasks[task] = {"net": given.net, "cases": [c.name for c in chosen], "tools": found}
        print("\n" + "\n".join(table(task, given.net, found, list(judges))) + "\n", flush=True)
        write(given.json, {"benchmark": "recognition", "tasks": tasks})
        if given.pictures is not None and rows:
            sheet(rows, chosen, next(iter(judges.values())), given.pictures.with_stem(f"{given.pictures.stem}-{task}"))


def row_of(
    tool: Tool, chosen: Sequence[Case], net: preimage.Network, judges: dict[str, preimage.Network], folder: Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a tool's numbers over all cases, and its pictures; it did not run if one case did not."""
    made = []
    for case in chosen:
        made.append(make(tool, case, net, folder))
        if "did not run" in made[-1]:
            return {"did not run": made[-1]["did not run"]}, []
    measured = ("seconds", "processor_seconds", "evaluations")
    row: dict[str, Any] = {what: statistics.median(m.get(what, math.nan) for m in made) for what in measured}  # kept ones may lack one
    row["judges"] = {name: judged(made, chosen, net, judge) for name, judge in judges.items()}
    if chosen[0].photo is not None:
        row["features"] = features_of(made, chosen, net)
    return row, made


if __name__ == "__main__":
    main()
