"""One table says which numbers an option takes: Python, jobs, studies, the command line and the page refuse the same ones, at the start."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

import preimage
from preimage import Compute, Monitor, Stage
from preimage.app import handlers
from preimage.cli import app
from preimage.errors import InputError, UnknownName
from preimage.experiments.base import Study
from preimage.ranges import RANGES, checked
from preimage.solvers.methods import LBFGS, Adam, FourierAdam, Paper
from preimage.studies.jobs import Job
from preimage.studies.runner import run
from preimage.studies.store import Store

PHI = preimage.from_callable(lambda x: x.mean(dim=(2, 3)), preimage.PixelSpace(8, "grey"))
PHOTO = np.full((8, 8), 200, np.uint8)
WRONG = [0, -1, math.nan, math.inf, "3", None, True, [1], 1j, 1e300, 10**30, np.nan]


def wrong_for(name: str, none: bool) -> list:
    """Values that the option does not take. none: whether None is one of them."""
    found = RANGES[name]
    taken = {0: found.low <= 0 and not found.open, math.inf: found.endless, 1e300: found.high > 1e300 and not found.whole}
    taken[10**30] = found.high >= 10**30
    values = [v for v in WRONG if not (isinstance(v, (int, float)) and not isinstance(v, bool) and taken.get(v, False))]
    return [v for v in values if v is not None or none]


@pytest.mark.parametrize("name", RANGES)
def test_the_table_takes_its_ends_and_nothing_beside_them(name):
    found = RANGES[name]
    assert checked(name, found.high) == found.high
    low = found.low + 1e-6 if found.open else found.low
    assert checked(name, low) == low and type(checked(name, np.float64(low) if not found.whole else np.int64(low))) in (int, float)
    for value in wrong_for(name, none=True):
        with pytest.raises(InputError) as told:
            checked(name, value)
        assert str(told.value).startswith(f"{name} is ") and "\n" not in str(told.value)
    if found.whole:
        with pytest.raises(InputError):
            checked(name, 1.5)


def task(**more):
    return preimage.invert(PHI, PHOTO, **{"iterations": 1, "progress": False, **more})


def job(**more) -> Job:
    return Job(**{"experiment": "a", "task": "invert", "C": 1.0, "representation": "hog", **more})


PYTHON = {
    "C": lambda v: task(C=v),
    "iterations": lambda v: task(iterations=v),
    "restarts": lambda v: task(restarts=v),
    "seed": lambda v: task(seed=v),
    "batch": lambda v: task(compute=Compute(batch=v)),
    "frames": lambda v: task(monitor=Monitor(frames=v)),
    "bound": lambda v: task(bound=v),
    "rate": lambda v: Stage(1, rate=v),
    "Z": lambda v: preimage.maximize(PHI, 0, Z=v, iterations=1, progress=False),
}
OPTIONAL = {"C", "iterations", "batch", "bound", "Z", "jitter", "workers", "threads"}  # where None is the task's own


@pytest.mark.filterwarnings("ignore::preimage.errors.PreimageWarning")
@pytest.mark.parametrize("name", PYTHON)
def test_python_refuses_what_the_table_refuses(name):
    for value in wrong_for(name, none=name not in OPTIONAL):
        if (name == "seed" and isinstance(value, list)) or (name == "Z" and isinstance(value, list)):
            continue  # one a sample
        with pytest.raises(InputError):
            PYTHON[name](value)


@pytest.mark.parametrize("name", ["C", "iterations", "restart", "seed", "jitter", "leak", "Z", "beta"])
def test_a_job_refuses_what_the_table_refuses(name):
    for value in wrong_for(name, none=name not in OPTIONAL):
        with pytest.raises(InputError):
            job(**{name: value})


@pytest.mark.parametrize(
    "solver", ["nosuch", "adam:rate=-1", "adam:rate=nan", "adam:rate=x", "paper:rho=2", "lbfgs:memory=0", "adam:betas=1/2"]
)
def test_a_wrong_solver_is_refused_by_name_job_and_study(solver, store):
    for make in (lambda: task(solver=solver), lambda: job(solver=solver), lambda: Study(store, solver=solver)):
        with pytest.raises((InputError, UnknownName)):
            make()


def test_solvers_refuse_numbers_that_mean_nothing():
    for make in (
        lambda: Paper(rate=0),
        lambda: Paper(rho=1.0),
        lambda: Adam(rate=math.nan),
        lambda: Adam(betas=(0.9,)),
        lambda: FourierAdam(betas=(0.9, 1.0)),
        lambda: LBFGS(memory=0),
    ):
        with pytest.raises(InputError):
            make()


@pytest.mark.parametrize("name", ["iterations", "seed"])
def test_a_study_refuses_what_the_table_refuses(name, store):
    for value in wrong_for(name, none=name == "seed"):
        with pytest.raises(InputError):
            Study(store, **{name: value})


@pytest.mark.parametrize("name", ["workers", "threads", "batch"])
def test_a_run_refuses_what_the_table_refuses(name, store):
    for value in wrong_for(name, none=False):
        with pytest.raises(InputError):
            run([], store, progress=False, **{name: value})


STUDIES = {
    "paper": ["paper", "caricature", "PHOTO", "--layers", "conv1"],
    "atlas": ["atlas", "squeezenet1_1", "--layers", "conv1", "--units", "1"],
    "audit": ["audit", "PHOTO", "PHOTO", "--layers", "conv1", "--attack", "smoothness"],
}
OPTIONS = [
    ("--solver", "nosuch"),
    ("--solver", "adam:rate=0"),
    ("--iterations", "0"),
    ("--iterations", "100000000000"),
    ("--seed", "-1"),
    ("--precision", "half"),
    ("--precision", "auto"),
    ("--device", "nosuch"),
    ("--device", "cpu:x"),
    ("--workers", "0"),
    ("--workers", "100000"),
]


@pytest.mark.parametrize("command", STUDIES)
def test_a_study_with_a_wrong_value_ends_in_one_line_and_leaves_no_store(command, tmp_path, monkeypatch):
    def computed(*args, **more):
        raise AssertionError("it has begun")

    monkeypatch.setattr("preimage.studies.runner.execute", computed)
    PIL.Image.new("RGB", (30, 30), "teal").save(tmp_path / "photo.png")
    words = [str(tmp_path / "photo.png") if w == "PHOTO" else w for w in STUDIES[command]]
    more = [] if command == "audit" else [("--threads", "999999"), ("--batch", "0")]
    for option, value in [*OPTIONS, *more]:
        done = CliRunner().invoke(app, [*words, option, value, "-q", "-o", str(tmp_path / "study")])
        assert done.exit_code == 2, (option, value, done.output)
        assert done.stderr.count("\n") == 1 and (value[:5] in done.stderr or "rate is" in done.stderr), done.stderr
        assert not (tmp_path / "study").exists()


def test_statistics_refuse_a_wrong_value_before_they_begin(tmp_path):
    PIL.Image.new("RGB", (30, 30), "teal").save(tmp_path / "photo.png")
    for option, value in [("--top", "-1"), ("--batch", "0"), ("--workers", "-1"), ("--checkpoint", "nan"), ("--device", "nosuch")]:
        done = CliRunner().invoke(
            app,
            ["stats", "squeezenet1_1", str(tmp_path / "photo.png"), "--layers", "conv1", option, value, "-q", "-o", str(tmp_path / "s")],
        )
        assert done.exit_code == 2 and done.stderr.count("\n") == 1, done.output
        assert [p.name for p in Path(tmp_path).iterdir()] == ["photo.png"]


def test_the_page_asks_for_no_more_than_the_table_takes():
    for name, most in (("iterations", handlers.MOST_ITERATIONS), ("restarts", handlers.MOST_RESTARTS), ("seed", handlers.MOST_SEED)):
        assert RANGES[name].low <= most <= RANGES[name].high


def test_a_store_that_was_there_stays(tmp_path):
    Store.open(tmp_path / "study")
    done = CliRunner().invoke(app, ["atlas", "squeezenet1_1", "--units", "1", "--seed", "-1", "-q", "-o", str(tmp_path / "study")])
    assert done.exit_code == 2 and (tmp_path / "study").is_dir()
