"""The same request gives the same image, to the bit, from Python, from the command line and in a store, whichever part is chosen."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.energy.fourier import Fourier
from preimage.energy.objectives import Activate, Match
from preimage.energy.resampling import Crops
from preimage.energy.transforms import TRANSFORMS
from preimage.studies.jobs import Job, execute, revisions

pytestmark = pytest.mark.filterwarnings("ignore::preimage.PreimageWarning")  # three iterations do not come far
NET = "tests.tiny:build"
FOURIER = "fourier:decay=0.5"
# arguments in Python, on the command line, settings of a job
INVERSIONS = {
    "nothing": ({}, "", {}),
    "objective": (
        {"objective": Match(loss="cosine") + 0.5 * Match("0")},
        "--objective match:loss=cosine --objective 0.5*match:of=0",
        {"objective": ("match:loss=cosine", "0.5*match:of=0")},
    ),
    "transform": ({"transform": Crops(low=0.5)}, "--transform crops:low=0.5", {"transform": ("crops:low=0.5",)}),
    "parameterization": ({"parameterization": Fourier(decay=0.5)}, f"--parameterization {FOURIER}", {"parameterization": FOURIER}),
    "prior": ({"regularizers": {"tv-beta": preimage.TVBeta(beta=1.0)}}, "--prior tv-beta:beta=1", {"prior": ("tv-beta:beta=1",)}),
    "no prior": ({"regularizers": {}}, "--prior none", {"prior": ("none",)}),
    "start": ({"start": "image"}, "--start image", {"start": "image"}),
    "recipe": ({"recipe": "preimage2026"}, "--recipe preimage2026", {"recipe": "preimage2026", "C": 20.0}),
    "solver": ({"solver": "adam:rate=3"}, "--solver adam:rate=3", {"solver": "adam:rate=3"}),
    "seed": ({"seed": 5}, "--seed 5", {"seed": 5}),
}  # fmt: skip


@pytest.fixture(scope="module")
def phi():
    return preimage.load_network(NET).layer("2")


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("same") / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(path)
    return path


def command(folder, *arguments):
    line = [*map(str, arguments), "--net", NET, "--layer", "2", "--iterations", "3", "--quiet", "-o", str(folder)]
    done = CliRunner().invoke(app, line, catch_exceptions=False)
    assert (folder / "result.json").is_file(), done.output
    return preimage.load_result(folder).images


def in_a_store(job, x=None):
    (outcome,) = execute([job], [x])
    assert outcome.result is not None, outcome.reason
    return outcome.result.images


@pytest.mark.parametrize("part", INVERSIONS)
def test_an_inversion_has_the_same_bits_from_python_the_command_line_and_a_store(part, phi, picture, tmp_path):
    given, flags, settings = INVERSIONS[part]
    images = preimage.invert(phi, picture, iterations=3, progress=False, **given).images
    assert torch.equal(command(tmp_path / "out", "invert", picture, *flags.split()), images)
    x = phi.space.encode(picture)
    sha = hashlib.sha256(x.numpy().tobytes()).hexdigest()
    options = {"experiment": "same", "task": "invert", "C": 100.0, "network": NET, "layer": "2", "iterations": 3, "original": sha}
    assert torch.equal(in_a_store(Job(**options | settings), x), images)


def test_the_parts_matter():
    """Otherwise the test above would hold for parts that nobody reads."""
    common = {"experiment": "s", "task": "invert", "C": 100.0, "network": NET}
    assert len({Job(**common | settings).key for _, _, settings in INVERSIONS.values()}) == len(INVERSIONS)


def test_every_part_gives_another_image(phi, picture):
    found = [preimage.invert(phi, picture, iterations=3, progress=False, **given).images for given, _, _ in INVERSIONS.values()]
    assert not any(torch.equal(a, b) for k, a in enumerate(found) for b in found[:k])


def test_a_unit_has_the_same_bits_from_python_the_command_line_and_a_store(phi, tmp_path):
    objective = Activate() + 0.5 * Activate("0", unit=1)
    images = preimage.maximize(phi, 3, objective=objective, iterations=3, progress=False).images
    flags = ["maximize", "--unit", "3", "--objective", "activate", "--objective", "0.5*activate:of=0,unit=1"]
    assert torch.equal(command(tmp_path / "out", *flags), images)
    texts = ("activate", "0.5*activate:of=0,unit=1")
    job = Job(experiment="s", task="maximize", C=1e4, network=NET, layer="2", unit=3, iterations=3, objective=texts)
    assert torch.equal(in_a_store(job), images)


def test_a_job_begins_with_noise_or_its_image_and_with_no_file():
    with pytest.raises(preimage.InputError, match="starts from"):
        Job(experiment="s", task="invert", C=1.0, network=NET, start="inverse.safetensors")


def test_the_key_of_a_composed_view_knows_the_revisions_of_its_members(monkeypatch):
    job = {
        "experiment": "s",
        "task": "invert",
        "C": 1.0,
        "network": NET,
        "layer": "2",
        "transform": ("compose:parts=[crops:low=0.4]/noise",),
    }
    assert {"transform compose", "transform crops", "transform noise"} <= set(revisions(Job(**job)))
    before = Job(**job).key
    real = TRANSFORMS.revision
    monkeypatch.setattr(TRANSFORMS, "revision", lambda name: real(name) + (name == "noise"))
    assert Job(**job).key != before
    several = Job(**job | {"transform": ("crops:low=0.4", "noise")})
    assert {"transform crops", "transform noise"} <= set(revisions(several))
