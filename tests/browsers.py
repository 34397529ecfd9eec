"""Which browser the tests of the pages use, and what the end of a run says where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

COMMANDS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
HOW = (
    "apt-get install chromium, or .venv/bin/playwright install --with-deps chromium, or PREIMAGE_TEST_BROWSER=/path/to/a/Chromium in the "
    "environment"
)
REQUIRED = "PREIMAGE_REQUIRE_BROWSER"  # set to 1: a run in which these tests are left out has failed


def find(playwrights_own: str | None = None) -> str | None:
    """The first that there is: PREIMAGE_TEST_BROWSER, Chromium or Google Chrome on the PATH, what `playwright install` has brought.

    Raises RuntimeError where PREIMAGE_TEST_BROWSER names none, as whoever sets it wants that one.
    """
    if asked := os.environ.get("PREIMAGE_TEST_BROWSER"):
        if found := shutil.which(asked):
            return found
        raise RuntimeError(f"PREIMAGE_TEST_BROWSER is {asked!r}, which is no program.")
    found = next((p for n in COMMANDS if (p := shutil.which(n))), None)
    return found or (playwrights_own if playwrights_own and Path(playwrights_own).is_file() else None)


def mark(items: Iterable[pytest.Item]) -> None:
    """Marks the tests that need a browser: a report keeps a test's marks, so they are known by them where the run is summed up."""
    for item in items:
        if {"browser", "visit"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.browser)


def summary(stats: dict[str, list[Any]]) -> str | None:
    """One line on what was left out, or None if nothing was."""
    count = sum("browser" in report.keywords for report in stats.get("skipped", []))
    return f"{count} tests of the pages were left out, as there is no browser: {HOW}." if count else None


def missed(stats: dict[str, list[Any]]) -> bool:
    """Whether tests of the pages were to run and did not."""
    ran = sum("browser" in report.keywords for report in stats.get("passed", []))
    return os.environ.get(REQUIRED, "0") not in ("", "0") and (ran == 0 or summary(stats) is not None)
