"""Is all well here: versions, devices, extras, folders, disk, and a short run of the real thing."""

from __future__ import annotations

import math
import os
import platform
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

from . import __version__
from .errors import first_line, how_to_install

ROOM = 1e9  # bytes; a study writes some hundred megabytes, and a disk that runs full ends it


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    group: versions, devices, extras, folders or self-test. status: "ok"; "absent", which is no fault; "warning"; "problem".
    found: what it is. advice: what to do where it is not ok.
    """

    group: str
    name: str
    status: Literal["ok", "absent", "warning", "problem"]
    found: str
    advice: str = ""


def examine(self_test: bool = True) -> list[Check]:
    """Look at everything that a run depends on. self_test: also run a small inversion, about 2 seconds.

    >>> checks = examine(self_test=False)
    >>> sorted({check.group for check in checks})
    ['devices', 'extras', 'folders', 'versions']
    """
    checks = [*_versions(), *_devices(), *_extras(), *_folders()]
    return [*checks, _self_test()] if self_test else checks


def report(checks: list[Check]) -> dict[str, Any]:
    """Return the checks as plain values for machines; `ok` is false where one is a problem."""
    plain = [{"group": c.group, "name": c.name, "status": c.status, "found": c.found, "advice": c.advice} for c in checks]
    return {"ok": all(c.status != "problem" for c in checks), "checks": plain}


def _versions() -> Iterator[Check]:
    old = sys.version_info < (3, 10)
    yield Check("versions", "python", "problem" if old else "ok", f"{platform.python_version()}, {platform.platform()}")
    yield Check("versions", "preimage", "ok", f"{__version__}, {Path(__file__).parent}")
    for name, wanted, extra in _needs():
        if extra is None:
            yield _package("versions", name, wanted)


def _package(group: str, name: str, wanted: str) -> Check:
    """One distribution beside the versions that it may have."""
    from packaging.specifiers import SpecifierSet

    try:
        found = version(name)
    except PackageNotFoundError:
        return Check(group, name, "problem", "not installed", f"pip install '{name}{wanted}'")
    if not SpecifierSet(wanted).contains(found, prereleases=True):
        return Check(group, name, "problem", f"{found}, wanted {wanted}", f"pip install '{name}{wanted}'")
    return Check(group, name, "ok", found)


def _needs() -> list[tuple[str, str, str | None]]:
    """What the installed package needs: name, versions, and the extra that it belongs to."""
    from packaging.requirements import Requirement

    found = []
    for text in requires("preimage") or []:
        need = Requirement(text)
        marker = str(need.marker or "")
        extra = re.search(r'extra == "([\w-]+)"', marker)
        if need.marker is None or need.marker.evaluate({"extra": extra[1] if extra else ""}):
            found.append((need.name, str(need.specifier), extra[1] if extra else None))
    return found


def _devices() -> Iterator[Check]:
    import torch

    yield Check("devices", "cpu", "ok", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for k in range(count):
        free, total = torch.cuda.mem_get_info(k)
        yield Check("devices", f"cuda:{k}", "ok", f"{torch.cuda.get_device_name(k)}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free")
    if not count:
        built = f"PyTorch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "PyTorch is built without CUDA"
        yield Check("devices", "cuda", "absent", f"no device; {built}")
    mps = torch.backends.mps.is_available()
    yield Check("devices", "mps", "ok" if mps else "absent", "available" if mps else "no device")


def _extras() -> Iterator[Check]:
    packages: dict[str, list[tuple[str, str]]] = {}
    for name, wanted, extra in _needs():
        if extra not in (None, "dev", "docs") and name != "preimage":
            packages.setdefault(str(extra), []).append((name, wanted))
    for extra, needed in packages.items():
        found = [_package("extras", name, wanted) for name, wanted in needed]
        absent = [c.name for c in found if c.found == "not installed"]
        wrong = [c for c in found if c.status == "problem" and c.name not in absent]
        if absent:
            yield Check("extras", extra, "absent", f"without {', '.join(absent)}", how_to_install(extra))
        elif wrong:
            yield Check("extras", extra, "warning", "; ".join(f"{c.name} {c.found}" for c in wrong), how_to_install(extra))
        else:
            yield Check("extras", extra, "ok", ", ".join(f"{c.name} {c.found}" for c in found))


def _folders() -> Iterator[Check]:
    import torch

    from .networks.fetch import cache_folder

    places = {"cache": cache_folder(), "torch's cache": Path(torch.hub.get_dir()), "temporary files": Path(tempfile.gettempdir())}
    for name, folder in {**places, "here": Path.cwd()}.items():
        yield _folder(name, folder)


def _folder(name: str, folder: Path) -> Check:
    """Whether a folder could be written, or made, and how much room there is. Nothing is written that stays."""
    there = next((p for p in (folder, *folder.parents) if p.is_dir()), None)
    if there is None or not os.access(there, os.W_OK | os.X_OK):
        advice = "Name another in PREIMAGE_CACHE." if name == "cache" else "Nothing can be kept there."
        return Check("folders", name, "warning", f"{folder} cannot be written", advice)
    free = shutil.disk_usage(there).free
    held = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) if name == "cache" and folder.is_dir() else 0
    text = f"{folder}, {free / 1e9:.1f} GB free" + (f", {held / 1e6:.0f} MB in it" if name == "cache" else "")
    low = free < ROOM
    return Check("folders", name, "warning" if low else "ok", text, "Make room: results are kept as exact tensors." if low else "")


def _self_test() -> Check:
    """Invert a layer of the embedded network at a small size, and see that the energy comes down to a number."""
    if os.environ.get("PREIMAGE_DEBUG"):
        _small_inversion()  # an error ends it, whole
    try:
        found, seconds = _timed(_small_inversion)
    except Exception as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        return Check("self-test", "inversion", "problem", why, "Install again in a new environment; PREIMAGE_DEBUG=1 shows errors whole.")
    before, after = found
    well = math.isfinite(after) and after < before
    text = f"energy {before:.2f} to {after:.2f} in {seconds:.1f} s"
    advice = "" if well else "It must come down: this PyTorch computes wrongly here. Try another version."
    return Check("self-test", "inversion", "ok" if well else "problem", text, advice)


def _small_inversion() -> tuple[float, float]:
    """The energy before and after 5 steps, of the layer fire2 at 64 pixels, from noise."""
    from .networks.network import load_network
    from .pixels.images import reference_images
    from .tasks.invert import invert

    net = load_network("squeezenet1_1", size=64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of so few steps
        result = invert(net.layer("fire2"), reference_images()[0], iterations=5, start="noise", progress=False)
    energy = result.trace["total"][:, 0]
    return energy[0].item(), energy[-1].item()


def _timed(act: Callable[[], tuple[float, float]]) -> tuple[tuple[float, float], float]:
    began = time.monotonic()
    found = act()
    return found, time.monotonic() - began
