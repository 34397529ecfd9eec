"""How long HOG, HOGb and dense SIFT take, beside scikit-image and beside the original networks written as they stand.

    python -m benchmarks.shallow [--size 512] [--repeats 15] [--threads 1] [--device cpu] [--json FILE]

forward is timed against `skimage.feature.hog`; forward + backward against `LiteralHOG` and `LiteralDSIFT` below, which are the
layers of the paper's networks one by one, with their dense convolutions by one-hot filters. Median and quartiles in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import skimage
import torch
import torch.nn.functional as F
from skimage.feature import hog as skimage_hog
from torch import Tensor, nn

import preimage
from preimage.representations.dsift import DenseSIFT
from preimage.representations.hog import HOG


def directional_filters(directions: int) -> Tensor:
    """(directions, 1, 3, 3): the halved central difference along each direction of the full circle."""
    along = torch.tensor([-0.5, 0.0, 0.5], dtype=torch.float64)
    filters = torch.zeros(directions, 1, 3, 3, dtype=torch.float64)
    for k in range(directions):
        filters[k, 0, 1, :] += math.cos(2 * math.pi * k / directions) * along
        filters[k, 0, :, 1] += math.sin(2 * math.pi * k / directions) * along
    return filters


def orientation_layer(g: Tensor, bilinear: bool) -> Tensor:
    """(B, 2n, H, W) directional derivatives -> the gradient's length in its bin or bins."""
    directions = g.shape[1]
    length = (g.square().sum(dim=1, keepdim=True) / (directions / 2)).clamp(min=1e-24).sqrt()
    if not bilinear:
        return length * F.one_hot(g.argmax(dim=1), directions).movedim(-1, 1).to(g)
    margin = torch.finfo(g.dtype).eps  # at 1 itself the derivative of acos is infinite
    cosine = (g / length.clamp(min=1e-10)).clamp(-1 + margin, 1 - margin)
    return length * (1 - cosine.acos() * (directions / (2 * math.pi))).clamp(min=0)


def tent_filters(channels: int, cell: int) -> Tensor:
    """(channels, 1, 2·cell, 2·cell): bilinear interpolation between cells as a depthwise convolution."""
    t = torch.arange(1, 2 * cell + 1, dtype=torch.float64)
    side = 1 - (t - (2 * cell + 1) / 2).abs() / cell
    return (side[:, None] * side[None, :]).expand(channels, 1, -1, -1).contiguous()


class LiteralHOG(nn.Module):
    """The paper's HOG network, layer by layer: (B, 1, H, W) -> (B, 27, floor(H/cell), floor(W/cell))."""

    gradient: Tensor
    tent: Tensor
    block: Tensor
    join: Tensor

    def __init__(self, cell: int = 8, bilinear: bool = False) -> None:
        super().__init__()
        self.cell, self.bilinear = cell, bilinear
        self.register_buffer("gradient", directional_filters(18))
        self.register_buffer("tent", tent_filters(18, cell))
        block, join = torch.zeros(108, 18, 2, 2, dtype=torch.float64), torch.zeros(27, 108, 2, 2, dtype=torch.float64)
        for corner, (i, j) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
            for k in range(27):
                block[27 * corner + k, [k] if k < 18 else [k - 18, k - 9], i, j] = 1.0
                join[k, 27 * corner + k, 1 - i, 1 - j] = 0.5
        self.register_buffer("block", block)
        self.register_buffer("join", join)
        self.undirected = [27 * corner + k for corner in range(4) for k in range(18, 27)]

    def forward(self, x: Tensor) -> Tensor:
        bins = orientation_layer(F.conv2d(x, self.gradient, padding=1), self.bilinear)
        cells = F.conv2d(bins, self.tent, stride=self.cell, padding=self.cell // 2, groups=18)
        blocks = F.conv2d(cells, self.block)
        norm = blocks[:, self.undirected].square().sum(dim=1, keepdim=True).clamp(min=1e-12).sqrt()
        return F.conv2d((blocks / norm).clamp(max=0.2), self.join, padding=1)


class LiteralDSIFT(nn.Module):
    """The paper's dense SIFT network, layer by layer: (B, 1, H, W) -> (B, 128, h, w)."""

    gradient: Tensor
    tent: Tensor
    gather: Tensor

    def __init__(self, bin: int = 8) -> None:
        super().__init__()
        self.bin = bin
        self.register_buffer("gradient", directional_filters(8))
        self.register_buffer("tent", tent_filters(8, bin))
        gather = torch.zeros(128, 8, 4, 4, dtype=torch.float64)
        for i in range(4):
            for j in range(4):
                for t in range(8):
                    gather[32 * i + 8 * j + t, t, i, j] = math.exp(-0.5 * ((i - 1.5) ** 2 + (j - 1.5) ** 2) / 1.5**2)
        self.register_buffer("gather", gather)

    def forward(self, x: Tensor) -> Tensor:
        bins = orientation_layer(F.conv2d(x, self.gradient), bilinear=True)
        cells = F.conv2d(bins, self.tent, stride=self.bin, groups=8)
        descriptors = F.conv2d(cells, self.gather, stride=3)
        return (descriptors / (1e-6 + descriptors.square().sum(dim=1, keepdim=True)).sqrt()).clamp(max=0.2)


def milliseconds(run: Callable[[], Any], repeats: int, device: torch.device) -> dict[str, float]:
    """Median and quartiles of `repeats` runs after two that do not count."""
    times = []
    for turn in range(repeats + 2):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if turn >= 2:
            times.append(1000 * (time.perf_counter() - start))
    low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
    return {"median": middle, "lower": low, "upper": high}


def forward_of(phi: nn.Module, x: Tensor) -> Callable[[], Any]:
    def run() -> None:
        with torch.no_grad():
            phi(x)

    return run


def both_of(phi: nn.Module, x: Tensor) -> Callable[[], Any]:
    def run() -> None:
        image = x.detach().requires_grad_()
        torch.autograd.grad(phi(image).square().sum(), image)

    return run


def picture(size: int) -> np.ndarray:
    """A grey photograph of size x size pixels, levels 0–255, float32."""
    grey = 255 * skimage.color.rgb2gray(skimage.data.astronaut())
    return skimage.transform.resize(grey, (size, size), anti_aliasing=size < 512, preserve_range=True).astype(np.float32)


def measure(size: int = 512, repeats: int = 15, device: str = "cpu") -> dict[str, dict[str, float]]:
    """Every timing by name: {"median", "lower", "upper"} in milliseconds."""
    place = torch.device(device)
    grey = picture(size)
    x = torch.from_numpy(grey)[None, None].to(place)
    runs: dict[str, Callable[[], Any]] = {
        "forward scikit-image hog": lambda: skimage_hog(grey, orientations=9, pixels_per_cell=(8, 8), cells_per_block=(2, 2))
    }
    ours = {"HOG": HOG(8), "HOGb": HOG(8, bilinear=True), "DSIFT": DenseSIFT(8)}
    literal = {"HOG": LiteralHOG(8), "HOGb": LiteralHOG(8, bilinear=True), "DSIFT": LiteralDSIFT(8)}
    for name, phi in ours.items():
        runs[f"forward {name}"] = forward_of(phi, x)
    for name, phi in ours.items():
        runs[f"both {name}"] = both_of(phi, x)
        runs[f"both literal {name}"] = both_of(literal[name].to(place, torch.float32), x)
    return {name: milliseconds(run, repeats, place) for name, run in runs.items()}


def ratios(times: dict[str, dict[str, float]]) -> dict[str, float]:
    """How many times slower the other one is, by medians."""
    found = {}
    for name in ("HOG", "HOGb"):
        found[f"scikit-image hog / {name}, forward"] = times["forward scikit-image hog"]["median"] / times[f"forward {name}"]["median"]
    for name in ("HOG", "HOGb", "DSIFT"):
        found[f"literal {name} / {name}, forward + backward"] = times[f"both literal {name}"]["median"] / times[f"both {name}"]["median"]
    return found


def surroundings(device: str) -> dict[str, str]:
    """What the timings hold for: machine, versions, commit."""
    machine = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if device.startswith("cuda"):
        machine = torch.cuda.get_device_name()
    elif info.exists():
        models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        machine = f"{models[0]} ({len(models)} cores)" if models else machine
    return {
        "machine": machine,
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scikit-image": skimage.__version__,
        "commit": commit(),
    }


def commit() -> str:
    """The commit of these sources, with + if they were changed since; "unknown" outside a checkout."""

    def git(*words: str) -> str:
        folder = Path(preimage.__file__).parent
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shallow", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=512, help="side of the picture in pixels")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1, help="of torch; scikit-image uses one")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as well")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    times = measure(given.size, given.repeats, given.device)
    about = surroundings(given.device)
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    print(f"{given.size}x{given.size} pixels, {given.repeats} runs each, milliseconds: median [quartiles]")
    for name, t in times.items():
        print(f"  {name:28s} {t['median']:9.2f}  [{t['lower']:.2f}, {t['upper']:.2f}]")
    for name, ratio in ratios(times).items():
        print(f"  {name:45s} {ratio:7.1f}x")
    if given.json:
        record = {"size": given.size, "repeats": given.repeats, "about": about, "milliseconds": times, "ratios": ratios(times)}
        given.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
