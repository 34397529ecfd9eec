"""What the tests share: the embedded network, photographs with their classes, small modules."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import preimage
from preimage.studies.runner import run
from preimage.studies.store import Store

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


@pytest.fixture(scope="module")
def browser():
    """A real Chromium; tests that ask for it are left out where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the pages are tested with playwright: pip install playwright")
    chromium = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
    if chromium is None:
        pytest.skip("there is no Chromium on the PATH: apt-get install chromium")
    root = getattr(os, "geteuid", lambda: 1)() == 0  # Chromium's sandbox does not run as root
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"] if root else [])
        yield started
        started.close()


@pytest.fixture
def visit(browser):
    """A function that opens a page; at the end nothing may have been said in the console or asked of the network."""
    contexts, heard, asked = [], [], []

    def go(path, hash="", width=1400, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: heard.append(message.text))
        tab.on("pageerror", lambda error: heard.append(str(error)))
        tab.on("dialog", lambda dialog: (heard.append(dialog.message), dialog.dismiss()))
        tab.on("requestfailed", lambda request: heard.append(request.url))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(path.as_uri() + hash)
        return tab

    yield go
    for context in contexts:
        context.close()
    assert heard == []
    assert asked and all(url.startswith(("file://", "data:")) for url in asked)
