"""What the tests share: the embedded network, photographs with their classes, small modules."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import preimage
from preimage.runner import run
from preimage.store import Store

from .stores import contents, small_jobs


@pytest.fixture(scope="session")
def net():
    return preimage.load_network("squeezenet1_1")


@pytest.fixture(scope="session")
def photographs() -> list[Path]:
    """The 20 ImageNet photographs that the PyPI package foolbox carries (found without importing it); `make test` installs it."""
    spec = importlib.util.find_spec("foolbox")
    assert spec is not None and spec.submodule_search_locations, "install the test photographs: make setup"
    found = sorted(Path(spec.submodule_search_locations[0], "data").glob("imagenet_*.jpg"))
    assert len(found) == 20
    return found


@pytest.fixture(scope="session")
def cat() -> str:
    return next(p for p in preimage.images.reference_images() if "chelsea" in p)


@pytest.fixture
def store(tmp_path) -> Store:
    """An empty one."""
    return Store.open(tmp_path / "store")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """What a run of 8 small jobs in this process leaves that nobody disturbs."""
    store = Store.open(tmp_path_factory.mktemp("runs") / "store")
    assert len(run(small_jobs(8), store, progress=False).done) == 8
    return contents(store)


@pytest.fixture
def grey_cnn() -> nn.Module:
    """A user's own network: 28x28 grey levels, as for handwritten digits."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2304, 10),
    )


@pytest.fixture
def grey_space():
    return preimage.PixelSpace(28, "grey", scale=1.0, mean=0.13, std=0.31)


@pytest.fixture
def digit() -> np.ndarray:
    """A drawn seven on black, uint8 (28, 28)."""
    out = np.zeros((28, 28), np.uint8)
    out[5:8, 6:22] = 255
    for r in range(8, 25):
        out[r, 21 - (r - 8) // 2 : 24 - (r - 8) // 2] = 255
    return out
