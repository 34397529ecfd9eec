"""A page as a PDF, printed by a browser that is on this computer."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ..errors import InputError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
VARIABLE = "PREIMAGE_BROWSER"
_SECONDS = 180


def find_browser() -> str:
    """Return the path of the browser that PREIMAGE_BROWSER names, or of the first Chromium or Google Chrome on the PATH.

    Raises InputError, with what to do, where there is none.
    """
    named = os.environ.get(VARIABLE)
    found = next((p for name in ([named] if named else BROWSERS) if (p := shutil.which(name))), None)
    if found is None:
        missing = f"{VARIABLE} names {named!r}, which is no program" if named else "there is no Chromium or Google Chrome on the PATH"
        raise InputError(
            f"A PDF is printed by a browser, and {missing}. Install one (apt-get install chromium) or name one in {VARIABLE}; "
            "or open the page in any browser and print it from there."
        )
    return found


def print_pdf(page: Path, path: Path) -> Path:
    """Print a page of this computer as a PDF and return its path.

    page: an HTML file. path: of the PDF, which is replaced. Raises InputError where there is no browser, and if it prints nothing.
    """
    browser = find_browser()
    root = getattr(os, "geteuid", lambda: 1)() == 0  # Chromium's sandbox does not run as root
    with tempfile.TemporaryDirectory(prefix="preimage-pdf-") as folder:
        printed = Path(folder, "page.pdf")
        line = [browser, "--headless", "--disable-gpu", "--no-first-run", f"--user-data-dir={folder}/profile", "--no-pdf-header-footer"]
        line += ["--no-sandbox"] if root else []
        line += [f"--print-to-pdf={printed}", page.absolute().as_uri()]
        try:
            done = subprocess.run(line, capture_output=True, text=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InputError(
                f"{browser} did not print {str(page)!r}: {error}. Open the page in a browser and print it from there."
            ) from error
        if not printed.is_file():
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise InputError(f"{browser} did not print {str(page)!r} ({said[:200]}). Open the page in a browser and print it from there.")
        shutil.move(printed, path)
    return path
