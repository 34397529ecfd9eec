"""What the tests share: the embedded network, photographs with their classes, small modules."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn

import preimage
from preimage.representations.vocabulary import Vocabulary, learn_vocabulary
from preimage.studies.runner import run
from preimage.studies.store import Store

from . import browsers
from .leftovers import State
from .stores import contents, small_jobs


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """One seed, which pytest-randomly prints, for the order, the random numbers and hypothesis's examples."""
    options = config.option
    if not hasattr(config, "workerinput") and getattr(options, "randomly_seed", None) == "default":
        options.randomly_seed = random.SystemRandom().getrandbits(32)
    if getattr(options, "hypothesis_seed", 0) is None and isinstance(seed := getattr(options, "randomly_seed", None), int):
        options.hypothesis_seed = str(seed)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    browsers.mark(items)


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not hasattr(session.config, "workerinput") and browsers.missed(reporter.stats):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter) -> Iterator[None]:
    """What a reader may want to do next: see it again, or have the tests that were left out. Last, so that it is seen."""
    yield
    stats, write = terminalreporter.stats, terminalreporter.write_line
    seed = getattr(terminalreporter.config.option, "randomly_seed", None)
    if (stats.get("failed") or stats.get("error")) and seed is not None:
        write(f"The same order and random numbers again: pytest --randomly-seed={seed}")
    if browsers.missed(stats):
        write(f"{browsers.REQUIRED} is set, and tests of the pages did not run: this is a failure.", red=True)
    if line := browsers.summary(stats):
        write(line, yellow=True)


@pytest.fixture(scope="session", autouse=True)
def signals_as_in_a_terminal() -> Iterator[None]:
    """Under nohup, and in the background of a shell, two signals are ignored, by every program that a test starts too."""
    usual = {signal.SIGINT: signal.default_int_handler} | ({signal.SIGHUP: signal.SIG_DFL} if hasattr(signal, "SIGHUP") else {})
    ignored = [number for number in usual if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, usual[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture(scope="session", autouse=True)
def own_folder_for_temporary_files(tmp_path_factory) -> Iterator[None]:
    """So that what a test leaves there is found, and nothing of other programs. Its name is short: sockets have at most 107 letters."""
    tmp_path_factory.getbasetemp()  # pytest's own folder stays where it is, and is kept for some runs
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="pi-") as folder:
        patch.setattr(tempfile, "tempdir", folder)
        patch.setenv("TMPDIR", folder)
        compiled = Path(folder, "inductor")  # what torch.compile has made is kept for the whole run
        compiled.mkdir()
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(compiled))
        yield


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left_behind(signals_as_in_a_terminal, own_folder_for_temporary_files, request) -> Iterator[None]:
    """Each module ends as it began, so that the modules may come in any order."""
    before = State.now()
    yield
    if left := before.left():
        pytest.fail("\n- ".join([f"{request.node.name} leaves behind:", *left]), pytrace=False)


@pytest.fixture(autouse=True)
def other_random_numbers() -> None:
    """torch's generator, as pytest-randomly sets Python's and numpy's: by the printed seed and the test's name."""
    torch.manual_seed(random.getrandbits(63))


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


@pytest.fixture(scope="session")
def words() -> Vocabulary:
    """Twelve words of dense SIFT in the packaged photographs."""
    return learn_vocabulary(preimage.images.reference_images(), 12, descriptors=1500, size=96, progress=False)


@pytest.fixture(scope="session")
def mixture() -> Vocabulary:
    """A Gaussian mixture of six components, of the same."""
    return learn_vocabulary(preimage.images.reference_images(), 6, "gmm", descriptors=1500, size=96, progress=False)


@pytest.fixture(scope="session")
def cat_levels(cat) -> np.ndarray:
    """The cat in 64x64 grey levels, (64, 64) uint8."""
    with PIL.Image.open(cat) as picture:
        return np.asarray(picture.convert("L").resize((64, 64)))


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
    root = getattr(os, "geteuid", lambda: 1)() == 0  # Chromium's sandbox does not run as root
    with sync_api.sync_playwright() as playwright:
        found = browsers.find(playwright.chromium.executable_path)
        if found is None:
            pytest.skip("there is no browser")
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"] if root else [])
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
