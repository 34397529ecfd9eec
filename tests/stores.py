"""What the tests of the store and of the runner share: small jobs, and what two stores have in common."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file

from preimage.studies.jobs import Job, open_network
from preimage.studies.store import Store

SCRIPT = """
import sys
from preimage.studies.runner import run
from preimage.studies.store import Store
from tests.stores import small_jobs
print("ready", flush=True)
found = run(small_jobs(int(sys.argv[2])), Store.open(sys.argv[1]), workers=int(sys.argv[3]), progress=False)
print(len(found.done), len(found.skipped), len(found.failed), flush=True)
"""


def small_jobs(count: int = 6, **settings) -> list[Job]:
    """Units of the first layer on a canvas of 23 pixels, 3 iterations each: some 30 ms a job."""
    options = {"layer": "conv1", "canvas": 23, "iterations": 3, "C": 1e4} | settings
    sha = open_network("squeezenet1_1")[1]
    return [
        Job(experiment="small", task="maximize", network="squeezenet1_1", weights_sha256=sha, unit=k, name=f"unit {k}", **options)
        for k in range(count)
    ]


def start(store: Path, count: int, workers: int = 1) -> subprocess.Popen:
    """The same in a process of its own, which says "ready" when it begins."""
    root = Path(__file__).parent.parent
    path = os.pathsep.join([str(root / "src"), str(root)])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(store), str(count), str(workers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)


def contents(store: Store) -> dict[str, dict[str, bytes]]:
    """Every result's tensors and picture, bit by bit, from the files."""
    found = {}
    for folder in (store.path / "runs").glob("??/*"):
        tensors = {k: v.numpy().tobytes() for k, v in load_file(folder / "tensors.safetensors").items()}
        assert folder.name not in found
        found[folder.name] = tensors | {"picture": (folder / "image.png").read_bytes()}
    return found


def leftovers(store: Store) -> list[Path]:
    return [p for p in store.path.rglob(".*") if p.name.endswith((".part", ".old"))]
