"""The faces of nobody in docs/audit.md: drawn of their numbers alone, all of them different, none drawn twice."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def make_faces():
    spec = spec_from_file_location("make_faces", Path(__file__).parents[1] / "docs" / "make_faces.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_face_is_drawn_of_its_number_alone_and_no_two_are_alike(make_faces):
    faces = [np.asarray(make_faces.face(k), float) for k in range(6)]
    assert np.array_equal(faces[3], np.asarray(make_faces.face(3)))
    assert all(f.shape == (make_faces.SIDE, make_faces.SIDE, 3) for f in faces)
    assert all(np.abs(faces[a] - faces[b]).mean() > 5 for a in range(6) for b in range(a))


def test_the_faces_are_written_once_as_files_of_their_numbers(make_faces, tmp_path):
    first = make_faces.drawn(tmp_path / "faces", range(2))
    assert [p.name for p in first] == ["face000.png", "face001.png"]
    Image.new("RGB", (4, 4)).save(first[0])
    assert make_faces.drawn(tmp_path / "faces", range(2)) == first
    with Image.open(first[0]) as opened:
        assert opened.size == (4, 4), "a face that is there is not drawn again, so that a study of it goes on"
