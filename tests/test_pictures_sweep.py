"""Every picture that the installed libraries carry is read or refused in words; and those of a folder of one's own.

Pillow's own test images are in its source distribution: pip download pillow --no-binary :all: --no-deps, and
PREIMAGE_TEST_PICTURES=pillow-…/Tests/images pytest tests/test_pictures_sweep.py.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from preimage.errors import ImageError
from preimage.pixels import images

ENDINGS = {".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".bmp", ".webp", ".ico", ".ppm", ".pgm", ".svg", ".pdf", ".npy", ".eps"}
CARRIERS = ("PIL", "skimage", "sklearn", "matplotlib", "imageio", "scipy", "gradio", "networkx", "foolbox", "mkdocs", "ray")
LARGEST = 150_000  # bytes; larger files take long and are of the same formats


def carried() -> Iterator[Path]:
    """The pictures of installed libraries, found without importing them; of each library and format a few."""
    for library in CARRIERS:
        spec = importlib.util.find_spec(library)
        for root in (spec.submodule_search_locations or ()) if spec is not None else ():
            seen: dict[str, int] = {}
            for path in sorted(Path(root).rglob("*")):
                kind = path.suffix.lower()
                if kind in ENDINGS and path.is_file() and path.stat().st_size < LARGEST and seen.get(kind, 0) < 12:
                    seen[kind] = seen.get(kind, 0) + 1
                    yield path


def read_or_refused(path: Path) -> bool:
    """Whether it was read. Anything but the package's own error in one line passes through."""
    try:
        found = images.read_image(path)
    except ImageError as error:
        assert "\n" not in str(error) and repr(str(path)) in str(error) and len(str(error)) < 900 + len(str(path))
        return False
    assert found.dtype == np.float32 and found.size and np.isfinite(found).all() and found.min() >= 0 and found.max() <= 255, path
    return True


def test_every_picture_that_installed_libraries_carry_is_read_or_refused_in_words(capfd):
    found = {path: read_or_refused(path) for path in carried()}
    assert len(found) > 50 and sum(found.values()) > 30
    assert {p.suffix for p, read in found.items() if not read} & {".svg", ".pdf", ".npy"}  # and these are no pictures of pixels
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif("PREIMAGE_TEST_PICTURES" not in os.environ, reason="PREIMAGE_TEST_PICTURES names no folder of pictures")
def test_every_picture_of_a_folder_is_read_or_refused_in_words():
    paths = [p for p in sorted(Path(os.environ["PREIMAGE_TEST_PICTURES"]).rglob("*")) if p.is_file()]
    read = sum(read_or_refused(path) for path in paths)
    print(f"{read} of {len(paths)} files were read, the others refused in words.")
    assert read
