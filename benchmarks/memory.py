"""Peak memory of an inversion against a bare forward and backward pass of the truncated network at the same batch.

python -m benchmarks.memory [--cases fire4 conv3_3] [--batches 1 8] [--rounds 3] [--json FILE] [--plot FILE]

bare: features and the gradient of their sum of squares in the image, three times. The others are whole calls of `preimage.invert`
with that many restarts, all in one batch: paper and fourier-adam, `fast` where it descends (24 iterations: its history is full), and
lbfgs. Each is measured in a process of its own, which does it all once before, so that loaded code is not counted: the peak of its
resident memory less what it held before, from the kernel's high-water mark, which is set back there (Linux), else from getrusage; on a
GPU the same of the memory that torch allocated. The C library is told to give freed tensors back at once (MALLOC_MMAP_THRESHOLD_, of
glibc), so that resident memory is what is held: by itself it keeps up to as much again, for a bare network as for ours.
ratio: to the bare pass's median; the aim is 1.2. VGG-16 has random weights (He, seed 0) at 224 pixels.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import preimage

from .common import (
    add_precision,
    devices,
    figure,
    parser,
    photographs,
    precision,
    quartiles,
    save,
    show_machine,
    spread,
    vgg16,
    write,
)

MIB = 2.0**20
CASES = ("fire4", "conv3_3")
WAYS: dict[str, dict[str, Any]] = {
    "bare": {},
    "paper": {"solver": "paper", "iterations": 4},
    "fourier-adam": {"solver": "fourier-adam", "iterations": 4},
    "fast, descent": {"solver": "fast", "stages": [preimage.Stage(24, jitter=False)]},
    "lbfgs": {"solver": "lbfgs", "iterations": 12},
}
BAR = 1.2
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def measure(case: str, way: str, batch: int, device: str, size: int, threads: int, precision_: str | None) -> dict[str, Any]:
    """One measurement in a fresh process: {"bytes": peak less baseline, "from": where the peak was read}."""
    given = {"case": case, "way": way, "batch": batch, "device": device, "size": size, "threads": threads, "precision_": precision_}
    command = [sys.executable, "-m", "benchmarks.memory", "--child", json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | GIVE_BACK)
    if done.returncode:
        raise SystemExit(f"{case}, {way}, batch {batch}: the process ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def child(case: str, way: str, batch: int, device: str, size: int, threads: int, precision_: str | None) -> dict[str, Any]:
    """In the fresh process: load, do it once, set the mark back, do it again, read the peak."""
    torch.set_num_threads(threads)
    phi = vgg16(size)[0] if case == "conv3_3" else preimage.load_network("squeezenet1_1").layer(case)
    phi.module.to(device)
    x = phi.space.encode(photographs()[0]).to(device)
    with phi.session():
        task: Callable[[], object]
        if way == "bare":
            repeated = x.repeat(batch, 1, 1, 1)
            task = lambda: [bare(phi, repeated) for _ in range(3)]  # noqa: E731
        else:
            more, compute = WAYS[way], preimage.Compute(batch=batch, **precision(precision_))
            task = lambda: preimage.invert(phi, x, restarts=batch, compute=compute, progress=False, **more)  # noqa: E731
        task()
        gc.collect()
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            task()
            return {"bytes": torch.cuda.max_memory_allocated() - before, "from": "torch.cuda.max_memory_allocated"}
        before, source = mark()
        task()
        return {"bytes": peak() - before, "from": source}


def bare(phi: Any, x: torch.Tensor) -> None:
    leaf = x.detach().clone().requires_grad_()
    torch.autograd.grad(phi(leaf).square().sum(), leaf)


def mark() -> tuple[int, str]:
    """Set the high-water mark of resident memory back to what is held now, where the system lets us; its value, and the source."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return peak(), "getrusage, which cannot be set back: loading may hide the start of it"
    return peak(), "VmHWM of /proc/self/status"


def peak() -> int:
    """The high-water mark of resident memory, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Ratios as bars, a group for each case and batch."""
    groups = list(dict.fromkeys((r["case"], r["batch"]) for r in rows))
    ways = [w for w in WAYS if w != "bare"]
    drawing = figure(max(5.0, 1.9 * len(groups)), 3.2)
    axes = drawing.add_subplot()
    for k, way in enumerate(ways):
        found = {(r["case"], r["batch"]): quartiles(r["ratio"])[1] for r in rows if r["way"] == way}
        axes.bar([g + 0.2 * (k - 1.5) for g in range(len(groups))], [found.get(g, 0.0) for g in groups], 0.18, label=way)
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.axhline(BAR, color="black", linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(groups)), [f"{case}, batch {batch}" for case, batch in groups])
    axes.set_ylabel("peak memory / bare network's")
    axes.legend(frameon=False, fontsize="small", ncols=2)
    axes.set_ylim(0, 1.35 * max(quartiles(r["ratio"])[1] for r in rows))
    save(drawing, path)


def options() -> argparse.ArgumentParser:
    found = parser(__doc__ or "", "memory")
    found.add_argument("--cases", nargs="+", default=list(CASES), choices=(*CASES, "fire2", "fire9"))
    found.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    found.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), help="bare comes first and is always measured")
    found.add_argument("--size", type=int, default=224, help="of VGG-16's canvas")
    found.add_argument("--rounds", type=int, default=1, help="processes for each; memory repeats to about a percent")
    found.add_argument("--child", default=None, help=argparse.SUPPRESS)
    add_precision(found)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    given = options().parse_args(arguments)
    if given.child is not None:
        print(json.dumps(child(**json.loads(given.child))))
        return
    if given.smoke:
        given.cases, given.batches, given.ways, given.rounds = ["fire2"], [1], ["paper"], 1
    torch.set_num_threads(given.threads)
    show_machine()
    device = devices()[-1]
    rows: list[dict[str, Any]] = []
    print("| network, layer | batch | what | peak, MiB | ratio to bare |\n|---|---|---|---|---|")
    for case in given.cases:
        for batch in given.batches:
            base: list[float] = []
            for way in ["bare", *(w for w in given.ways if w != "bare")]:
                done = [measure(case, way, batch, device, given.size, given.threads, given.precision) for _ in range(given.rounds)]
                found = [d["bytes"] for d in done]
                base = base or found
                ratio = [f / quartiles(base)[1] for f in found]
                rows.append({"case": case, "batch": batch, "way": way, "bytes": found, "ratio": ratio, "from": done[0]["from"]})
                print(f"| {case} | {batch} | {way} | {spread([f / MIB for f in found], 0)} | {spread(ratio)} |", flush=True)
                write(given.json, {"benchmark": "memory", "device": device, "size": given.size, "aim": BAR, "rows": rows})
    if given.plot is not None:
        plot([r for r in rows if r["way"] != "bare"], given.plot)


if __name__ == "__main__":
    main()
