"""The suite itself: which browser it takes, what it says where there is none, its one seed, and that what a module leaves is found."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from . import browsers
from .conftest import pytest_configure
from .leftovers import State, children

ROOT = Path(__file__).parents[1]


def program(path: Path) -> str:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_the_browser_is_the_one_asked_for_or_the_first_on_the_path_or_playwright_s(tmp_path, monkeypatch):
    monkeypatch.delenv("PREIMAGE_TEST_BROWSER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert browsers.find() is None
    assert browsers.find(str(tmp_path / "absent")) is None
    own = program(tmp_path / "playwrights-own")
    assert browsers.find(own) == own
    chrome = program(tmp_path / "google-chrome")
    assert browsers.find(own) == chrome
    chromium = program(tmp_path / "chromium")
    assert browsers.find(own) == chromium
    monkeypatch.setenv("PREIMAGE_TEST_BROWSER", own)
    assert browsers.find() == own
    monkeypatch.setenv("PREIMAGE_TEST_BROWSER", "no-such-browser")
    with pytest.raises(RuntimeError, match="PREIMAGE_TEST_BROWSER is 'no-such-browser', which is no program"):
        browsers.find(own)


def report(**keywords):
    return SimpleNamespace(keywords=keywords)


def test_what_is_left_out_is_one_line_and_a_failure_where_a_browser_is_required(monkeypatch):
    monkeypatch.delenv(browsers.REQUIRED, raising=False)
    left_out = {"skipped": [report(browser=1), report(browser=1), report(other=1)], "passed": [report(other=1)]}
    ran = {"skipped": [report(other=1)], "passed": [report(browser=1)]}
    assert browsers.summary(left_out) == f"2 tests of the pages were left out, as there is no browser: {browsers.HOW}."
    assert browsers.summary(ran) is None
    assert not browsers.missed(left_out)
    monkeypatch.setenv(browsers.REQUIRED, "1")
    assert browsers.missed(left_out) and browsers.missed({}) and not browsers.missed(ran)


@pytest.mark.slow
def test_a_run_without_a_browser_ends_with_how_to_have_one_also_where_the_work_is_shared(tmp_path):
    """Two runs in one: it is required, so that leaving it out is a failure too."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PREIMAGE_TEST_BROWSER", "PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST")}
    environment |= {
        "PATH": str(tmp_path),
        "PLAYWRIGHT_BROWSERS_PATH": str(tmp_path),
        browsers.REQUIRED: "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    tests = [
        "tests/test_report_browser.py",
        "-n",
        "1",
        "--dist",
        "loadfile",
        "-q",
        "-p",
        "no:cacheprovider",
        "--basetemp",
        str(tmp_path / "t"),
    ]
    done = subprocess.run([sys.executable, "-m", "pytest", *tests], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    assert "tests of the pages were left out, as there is no browser: apt-get install chromium" in done.stdout
    assert f"{browsers.REQUIRED} is set, and tests of the pages did not run: this is a failure." in done.stdout
    assert " failed" not in done.stdout and " passed" not in done.stdout


def test_one_seed_is_for_the_order_and_for_hypothesis():
    config = SimpleNamespace(option=SimpleNamespace(randomly_seed="default", hypothesis_seed=None))
    pytest_configure(config)
    assert isinstance(config.option.randomly_seed, int) and config.option.hypothesis_seed == str(config.option.randomly_seed)
    given = SimpleNamespace(option=SimpleNamespace(randomly_seed=7, hypothesis_seed="8"))
    pytest_configure(given)
    assert (given.option.randomly_seed, given.option.hypothesis_seed) == (7, "8")


def test_what_a_module_leaves_behind_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.leftovers.PATIENCE", 0.2)
    before = State.now()
    loop = asyncio.new_event_loop()
    ours, theirs = socket.socketpair()
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="forgotten", daemon=True)
    thread.start()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    folder = Path(tempfile.mkdtemp(prefix="forgotten"))
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    os.environ["FORGOTTEN"] = "1"
    try:
        left = "\n".join(before.left())
    finally:
        loop.close()
        ours.close()
        theirs.close()
        release.set()
        thread.join()
        child.communicate(b"\n")
        folder.rmdir()
        torch.set_num_threads(threads)
        del os.environ["FORGOTTEN"]
    for sign in (
        "EventLoop",
        "socket.socket",
        "a daemon thread: forgotten",
        str(folder),
        f"was {threads} and is {threads + 1}",
        "FORGOTTEN was None",
    ):
        assert sign in left, sign
    if Path("/proc/self/stat").exists():
        assert "a process: " in left and child.pid not in children()
    assert before.left() == []
