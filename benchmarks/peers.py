"""preimage beside other tools: the same network, layer, photograph and machine in one run, each tool at its own defaults.

python -m benchmarks.peers [--seconds 10] [--rounds 1] [--only NAME …] [--json FILE] [--plot FILE] [--pictures FILE]

The tools are in benchmarks/requirements-peers.txt; one that is not there, or is broken with this PyTorch, gets a row that says so.
Three problems on SqueezeNet 1.1: the inversion of fire4, a class, and a channel of fire6. For everybody alike the picture is rounded
to 8 bits, brought to the network's size and judged there without jitter or transforms: the normalised error of its features, or its
activation (the logit, or the channel's mean over its map) over the largest of 20 photographs. Loading and a first short run do not
count; a tool's own preparations do. Tools with a fixed rate go on after their own number of iterations until the time is over. time
to a level: when the picture first was there (looked at every tenth of a second), and in brackets the ratio to preimage's;
below it the same in evaluations, which no load of the machine disturbs. Rounds take
other photographs, classes and channels; times are medians [quartiles], levels that were not always reached are "–".
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import preimage

from .common import add_precision, devices, figure, parser, photographs, save, show_machine, spread, write
from .peer_tools import Clock, NoSuchTask, Problem, TimeUp, Tool, tools

LEVELS = {"invert": (0.5, 0.3, 0.2, 0.1), "maximize": (1.0, 2.0, 5.0, 10.0)}
FIRST = "preimage"
KINDS = ("invert", "class", "channel")


def problems(net: preimage.Network, photos: Sequence[str], turn: int, size: int | None = None) -> list[Problem]:
    """The three, with another photograph, class and channel each turn. size: of a smaller canvas, for a quick look."""
    device = next(net.module.parameters()).device
    photo = net.space.encode(photos[turn % len(photos)], size=None if size is None else (size, size)).to(device)
    unit = (100 + 37 * turn) % 1000  # 100: black swan
    return [
        Problem("invert fire4", "invert", net, "fire4", "features.6", 7, photo),
        Problem(f"class {net.classes[unit]}", "maximize", net, "pool10", "classifier.3", None, photo, unit),
        Problem(f"channel {10 + turn} of fire6", "maximize", net, "fire6", "features.9", 10, photo, 10 + turn),
    ]


def judge(problem: Problem, picture: Tensor, largest: float) -> dict[str, float]:
    """The picture (1, 3, h, w), RGB 0–1, as 8 bits at the network's size: {"quality", and of an inversion "psnr"}."""
    levels = (picture[0] * 255).round().clamp(0, 255).permute(1, 2, 0).to(torch.uint8).numpy()
    space, size = problem.net.space, problem.size
    x = space.encode(levels, size=size).to(problem.device)
    with torch.no_grad():
        features = problem.phi(x)
        if problem.task == "maximize":
            return {"quality": float(problem.answers(features).mean()) / largest}
        wanted = problem.phi(problem.photo)
    error = float((features - wanted).norm() / wanted.norm())
    psnr = float(preimage.metrics.psnr(space.decode(x).cpu(), space.decode(problem.photo).cpu()))
    return {"quality": error, "psnr": psnr}


def largest_of(problem: Problem, photos: Sequence[str]) -> float:
    """The channel's largest mean over the map among photographs; 1 for an inversion."""
    if problem.task == "invert":
        return 1.0
    with torch.no_grad():
        x = [problem.net.space.encode(p, size=problem.size).to(problem.device) for p in photos]
        return max(float(problem.answers(problem.phi(one)).mean()) for one in x)


def measure(tool: Tool, problem: Problem, limit: float, largest: float) -> dict[str, Any]:
    """One run of a tool: what it reached when, and its last picture; or {"did not run": why}."""
    try:
        _timed(tool, problem, Clock(limit, steps=1))
        clock = Clock(limit, own=tool.own)
        took = _timed(tool, problem, clock)
    except NoSuchTask as reason:
        return {"did not run": str(reason)}
    except Exception as error:  # whatever a tool does, the others are measured
        said = next(iter(str(error).splitlines()), "")
        return {"did not run": f"{type(error).__name__}: {said}"}
    curve = [{"seconds": t, "steps": n, **judge(problem, image, largest)} for t, n, image in clock.seen]
    own = next((k for k, point in enumerate(curve) if tool.own is not None and point["steps"] >= tool.own), len(curve) - 1)
    return {"curve": curve, "own end": own, "cut": clock.cut, "seconds": took, "picture": clock.seen[own][2]}


def _timed(tool: Tool, problem: Problem, clock: Clock) -> float:
    """Run until the tool or the clock ends it; what the tool returns is its last picture."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):  # some tools' bars cannot be turned off
        warnings.simplefilter("ignore")
        clock.start()
        try:
            image = tool.run(problem, clock)
            if image is not None:
                clock.look(image, force=True)
        except TimeUp:
            pass
    return clock.seen[-1][0]


def reached(curve: Sequence[dict[str, float]], level: float, task: str, what: str = "seconds") -> float | None:
    """Seconds (or "steps") until the picture was first at the level, None if it never was.

    >>> reached([{"seconds": 1.0, "quality": 0.6}, {"seconds": 2.0, "quality": 0.4}], 0.5, "invert")
    2.0
    """
    for point in curve:
        if (point["quality"] <= level) if task == "invert" else (point["quality"] >= level):
            return point[what]
    return None


def table(name: str, task: str, found: dict[str, list[dict[str, Any]]], what: str = "seconds") -> list[str]:
    """The lines of a problem's table: where each tool ends, and the "seconds" or "steps" to each level. found: tool -> its rounds."""
    error = task == "invert"
    heads = [f"to {level:.0%}" if error else f"to {level:g}x" for level in LEVELS[task]]
    heads = ["evaluations", "seconds", "error, PSNR" if error else "activation / photographs'", *heads]
    lines = [f"| {name}, {'seconds' if what == 'seconds' else 'evaluations'} to a level | " + " | ".join(heads) + " |"]
    lines.append("|" + "---|" * (1 + len(heads)))
    counts = {tool: [_counts(rounds, level, task, what) for level in LEVELS[task]] for tool, rounds in found.items()}
    ours = counts.get(FIRST, [None] * len(LEVELS[task]))
    for tool, rounds in found.items():
        ran = [r for r in rounds if "curve" in r]
        if not ran:
            lines.append(f"| {tool} | did not run: {rounds[0]['did not run']} |" + " |" * (len(heads) - 1))
            continue
        cells = [_cell(mine, first, digits=1 if what == "seconds" else 0) for mine, first in zip(counts[tool], ours, strict=True)]
        lines.append(f"| {tool} | {_end(ran, error)} | {' | '.join(cells)} |")
    return lines


def _end(ran: Sequence[dict[str, Any]], error: bool) -> str:
    """Evaluations, seconds and quality where a tool ends by itself, medians over rounds."""
    ends = [r["curve"][r["own end"]] for r in ran]
    middle = {key: statistics.median(e[key] for e in ends) for key in ends[0]}
    quality = f"{middle['quality']:.1%}, {middle['psnr']:.1f} dB" if error else f"{middle['quality']:.2f}"
    cut = ", cut" if any(r["cut"] for r in ran) else ""
    return f"{middle['steps']:.0f}{cut} | {middle['seconds']:.1f} | {quality}"


def _counts(rounds: Sequence[dict[str, Any]], level: float, task: str, what: str) -> list[float] | None:
    """Seconds or steps to the level, one a round; None unless every round came there."""
    found = [reached(r["curve"], level, task, what) if "curve" in r else None for r in rounds]
    return None if None in found else [t for t in found if t is not None]


def _cell(mine: list[float] | None, ours: list[float] | None, digits: int) -> str:
    """Median [quartiles] (ratio to ours)."""
    if mine is None:
        return "–"
    text = spread(mine, digits) if len(mine) > 1 else f"{mine[0]:.{digits}f}"
    return text if ours is None else f"{text} ({statistics.median(a / max(b, 1e-9) for a, b in zip(mine, ours, strict=True)):.2f})"


def plot(panels: dict[str, dict[str, Any]], path: Path) -> None:
    """Error or activation against time, a panel a problem, the first round; a dot where the tool ends by itself."""
    drawing = figure(4.6 * len(panels), 4.4)
    every = drawing.subplots(1, len(panels), squeeze=False)[0]
    for axes, (name, panel) in zip(every, panels.items(), strict=True):
        for k, (tool, rounds) in enumerate(panel["tools"].items()):
            if "curve" not in rounds[0]:
                continue
            curve, own = rounds[0]["curve"], rounds[0]["own end"]
            style = {"color": f"C{k % 10}", "linestyle": "-" if k < 10 else ":"}
            axes.plot([p["seconds"] for p in curve], [p["quality"] for p in curve], label=tool, linewidth=1.3, **style)
            axes.plot([curve[own]["seconds"]], [curve[own]["quality"]], "o", color=style["color"], markersize=4)
        error = panel["task"] == "invert"
        axes.set(title=name, xlabel="seconds", ylabel="normalised error" if error else "activation / largest of 20 photographs")
        axes.set_yscale("log" if error else "symlog")
    every[0].legend(frameon=False, fontsize="x-small")
    save(drawing, path)


def contact_sheet(panels: dict[str, dict[str, Any]], path: Path) -> None:
    """Each tool's picture where it ends by itself and what it reached, a row a problem."""
    names = list(dict.fromkeys(t for panel in panels.values() for t, rounds in panel["tools"].items() if "curve" in rounds[0]))
    drawing = figure(1.5 * (len(names) + 1), 1.85 * len(panels))
    grid = drawing.subplots(len(panels), len(names) + 1, squeeze=False)
    for place, (name, panel) in enumerate(panels.items()):
        for column, tool in enumerate(["original", *names]):
            axes, run = grid[place][column], {} if tool == "original" else panel["tools"][tool][0]
            image = panel["original"] if tool == "original" else run.get("picture")
            axes.axis("off")
            if place == 0:
                axes.set_title(tool.replace(", ", ",\n"), fontsize=7)
            if column == 0:
                axes.text(-0.05, 0.5, name, transform=axes.transAxes, rotation=90, va="center", ha="right", fontsize=7)
            if image is not None:
                axes.imshow(image[0].clamp(0, 1).permute(1, 2, 0).numpy())
            if run and image is not None:
                quality = run["curve"][run["own end"]]["quality"]
                text = f"{quality:.1%}" if panel["task"] == "invert" else f"{quality:.1f}x"
                axes.text(0.5, -0.02, text, transform=axes.transAxes, va="top", ha="center", fontsize=7)
    save(drawing, path)


def options() -> argparse.ArgumentParser:
    found = parser(__doc__ or "", "peers")
    found.add_argument("--seconds", type=float, default=10.0, help="a run's time; more where its own iterations take longer")
    found.add_argument("--rounds", type=int, default=1)
    found.add_argument("--only", nargs="+", default=None, choices=[t.name for t in tools(None)], metavar="NAME")
    found.add_argument("--problems", nargs="+", default=list(KINDS), choices=KINDS)
    found.add_argument("--pictures", type=Path, default=None, help="a PNG of the picture of each tool")
    add_precision(found)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    given = options().parse_args(arguments)
    torch.set_num_threads(given.threads)
    chosen = [t for t in tools(given.precision) if given.only is None or t.name in given.only]
    size = None
    if given.smoke:
        given.seconds, given.rounds, size = 0.2, 1, 64
    show_machine()
    net = preimage.load_network("squeezenet1_1", device=devices()[-1])
    photos = photographs()[: 2 if given.smoke else None]
    panels: dict[str, dict[str, Any]] = {}
    for place in [k for k, name in enumerate(KINDS) if name in given.problems]:
        found: dict[str, list[dict[str, Any]]] = {tool.name: [] for tool in chosen}
        for turn in range(given.rounds):
            problem = problems(net, photos, turn, size)[place]
            largest = largest_of(problem, photos)
            for tool in chosen:
                found[tool.name].append(measure(tool, problem, given.seconds, largest))
        problem = problems(net, photos, 0, size)[place]
        original = problem.levels().cpu() if problem.task == "invert" else None
        panels[problem.name] = {"task": problem.task, "tools": found, "original": original}
        for what in ("seconds", "steps"):
            print("\n".join(table(problem.name, problem.task, found, what)) + "\n", flush=True)
        write(given.json, {"benchmark": "peers", "seconds": given.seconds, "tools": versions(chosen), "problems": plain(panels)})
    if given.plot is not None:
        plot(panels, given.plot)
    if given.pictures is not None:
        contact_sheet(panels, given.pictures)


def versions(chosen: Sequence[Tool]) -> dict[str, str | None]:
    """Of the tools that are installed."""
    found = {}
    for tool in chosen:
        try:
            found[tool.name] = tool.version
        except ImportError:
            found[tool.name] = None
    return found


def plain(panels: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The panels without their pictures, for JSON."""
    return {
        name: {
            "task": panel["task"],
            "tools": {t: [{k: v for k, v in r.items() if k != "picture"} for r in rounds] for t, rounds in panel["tools"].items()},
        }
        for name, panel in panels.items()
    }


if __name__ == "__main__":
    main()
