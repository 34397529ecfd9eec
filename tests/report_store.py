"""A store for the tests of the report: results made by hand, so that nothing is optimised."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from preimage.studies.jobs import Job
from preimage.studies.store import Store
from preimage.tasks.result import Result

LAYERS = ("fire2", "pool1", "fire9")  # not in the order in which the network runs them
WEIGHTS = (1.0, 20.0, 100.0)


def build_store(path: Path, names: tuple[str, ...] = ("astronaut", "cat"), failure: str = "OutOfMemoryError: too large") -> Store:
    """Inversions of three layers at three C for each named photograph, one class image, one failure, and a summary."""
    store = Store.open(path)
    for k, name in enumerate(names):
        x = _noise(k, 227)
        sha = store.add_input(x - 110, x)
        for layer in LAYERS:
            for C in WEIGHTS:
                job = _job("invert", layer=layer, C=C, original=sha, image=name)
                error = 1 / (1 + C) + 0.1 * k
                store.save(job, _result("invert", 32, error), {"error": error, "psnr": 20.0 - k, "consistent": 1.0}, seconds=0.5)
    store.save(
        _job("maximize", experiment="classes", layer="pool10", C=1e4, unit="tree frog"), _result("maximize", 40), {"activation": 3.5}, 1.0
    )
    store.fail(_job("invert", layer="fire4", C=1.0, original=sha, image=names[0]), failure)
    write_summary(store, "inversion")
    return store


def write_summary(store: Store, experiment: str, **changes) -> None:
    curve = {"x": [0, 1, 2], "x_names": ["pool1", "fire2", "fire9"], "low": [0.1, 0.2, 0.3], "high": [0.3, 0.4, 0.5]}
    curves = [curve | {"label": f"C = {C:g}", "y": [0.2, 0.3, 0.4], "y_label": "normalised error"} for C in WEIGHTS]
    facts = {
        "title": "Inversion of every layer",
        "caption": "Each photograph from the features of one layer alone.",
        "columns": ["layer", "error"],
        "rows": [["pool1", 0.2], ["fire2", 0.3]],
        "figures": [],
        "curves": curves,
    }
    folder = store.path / "summary" / experiment
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(facts | changes))


def _job(task: str, experiment: str = "inversion", **settings) -> Job:
    return Job(experiment=experiment, task=task, network="squeezenet1_1", **settings)


def _result(task: str, size: int, error: float | None = None) -> Result:
    trace = torch.linspace(100, 1, 300)[:, None]
    return Result(
        task=task,
        images=_noise(size, size),
        error=None if error is None else torch.tensor([error]),
        activation=None if error is not None else torch.tensor([3.5]),
        energy={"total": torch.tensor([1.0])},
        trace={"total": trace, "loss": trace / 2, "tv-beta": trace / 2},
        evaluations=300,
        labels=["image"],
        seeds=[0],
        status=["ok"],
        config={"versions": {"preimage": "0.1.0", "torch": "2"}, "solver": "fast"},
    )


def _noise(seed: int, size: int) -> torch.Tensor:
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 255
