"""Every option of `preimage invert` for a folder: it is honoured, so that the jobs or the answer differ, or refused in words."""

from __future__ import annotations

import json

import jsonschema
import numpy as np
import PIL.Image
import pytest
import typer.main
from typer.testing import CliRunner

from preimage.cli import app
from preimage.schemas import schema
from preimage.studies import runner

COMMAND = typer.main.get_command(app).commands["invert"]
TINY = ["--net", "tests.tiny:build", "--layer", "2"]
# What is given, and the settings of the jobs that it changes; a text is what a refusal says instead.
OPTIONS: dict[str, tuple[list[str], set[str] | str]] = {
    "--layer": (["--net", "tests.tiny:build", "--layer", "0"], {"layer"}),
    "--net": (["--net", "tests.tiny:again", "--layer", "2"], {"network"}),
    "--weights": (["--net", "squeezenet1_1", "--layer", "conv1", "--size", "48", "--weights", "none"], {"weights"}),
    "--space": ([*TINY, "--space", "imagenet:24"], {"space", "original"}),
    "--size": ([*TINY, "--size", "32"], {"size", "original"}),
    "--trust": ([*TINY, "--trust"], {"trust"}),
    "--C": ([*TINY, "--C", "7"], {"C"}),
    "--restarts": ([*TINY, "--restarts", "2"], {"restart"}),
    "--mask": ([*TINY, "--mask", "central:3"], {"mask"}),
    "--recipe": ([*TINY, "--recipe", "mahendran2016"], {"recipe"}),
    "--objective": ([*TINY, "--objective", "match:loss=cosine"], {"objective"}),
    "--transform": ([*TINY, "--transform", "crops:low=0.5"], {"transform"}),
    "--parameterization": ([*TINY, "--parameterization", "fourier"], {"parameterization"}),
    "--prior": ([*TINY, "--prior", "none"], {"prior"}),
    "--start": ([*TINY, "--start", "image"], {"start"}),
    "--solver": ([*TINY, "--solver", "adam"], {"solver"}),
    "--iterations": ([*TINY, "--iterations", "9"], {"iterations"}),
    "--quality": ([*TINY, "--quality", "best"], {"quality"}),
    "--seed": ([*TINY, "--seed", "5"], {"seed"}),
    "--seeds": ([*TINY, "--seeds", "0-1"], {"seed"}),
    "--device": ([*TINY, "--device", "cpu:0"], {"device"}),
    "--precision": ([*TINY, "--precision", "bfloat16"], {"precision"}),
    "--max-memory": ([*TINY, "--max-memory", "4GB"], "one by one"),
    "--compile": ([*TINY, "--compile"], "computed without it"),
    "--jitter": ([*TINY, "--jitter", "3"], {"jitter"}),
    "--leak": ([*TINY, "--leak", "0.05"], {"leak"}),
    "--squash": ([*TINY, "--squash"], {"fit", "original"}),
    "--video": ([*TINY, "--video", "gif"], "keeps no films"),
    "--every": ([*TINY, "--every", "2"], "keeps no films"),
    "--keep-state": ([*TINY, "--keep-state"], "without a state"),
    "--overwrite": ([*TINY, "--overwrite"], "nothing in it is replaced"),
}  # fmt: skip
ANSWER = {"--out": "where the store is", "--json": "how it is told", "--quiet": "without a bar"}  # of no job; tried below


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """A call for a folder of one picture: how it ended, and the settings of the jobs that it would run."""
    (tmp_path / "photos").mkdir()
    levels = np.random.default_rng(0).integers(0, 255, (24, 36, 3), dtype=np.uint8)
    PIL.Image.fromarray(levels).save(tmp_path / "photos" / "cat.png")
    seen = []
    monkeypatch.setattr(runner, "execute", lambda jobs, inputs: pytest.fail("a job was run"))
    monkeypatch.setattr(runner, "run", lambda jobs, store, **more: seen.extend(j.config() for j in jobs) or runner.Run())

    def call(*words):
        seen.clear()
        done = CliRunner().invoke(app, ["invert", str(tmp_path / "photos"), "-o", str(tmp_path / "out"), *words])
        return done, list(seen)

    return call


def test_every_option_of_the_command_is_in_the_table():
    assert {o.opts[0] for o in COMMAND.params if o.param_type_name == "option"} == {*OPTIONS, *ANSWER}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_for_a_folder_changes_the_jobs_or_is_refused(option, asked, tmp_path):
    given, changed = OPTIONS[option]
    if isinstance(changed, str):
        done, jobs = asked(*given)
        said = " ".join(done.stderr.replace("│", " ").split())
        assert (done.exit_code, jobs, (tmp_path / "out").exists()) == (2, [], False), done.output
        assert option in said and "not with a folder" in said and changed in said
        return
    _, (plain,) = asked(*(TINY if option in ("--net", "--layer") else given[: given.index(option)]))
    done, jobs = asked(*given)
    assert done.exit_code == 0, done.output
    differ = {name for job in jobs for name in {*job, *plain} if job.get(name) != plain.get(name)}
    assert differ - {"weights_sha256"} == changed


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--seeds", "0-1", "--seed", "3"], "takes the place of"),
        (["--seeds", "0-1", "--restarts", "2"], "takes the place of"),
        (["--jitter", "3", "--transform", "crops"], "leave one of them out"),
        (["--mask", "nonsense"], "nonsense"),
        (["--prior", "nonsense"], "nonsense"),
        (["--precision", "auto"], "float32 or bfloat16"),
        (["--start", "photo.png"], "noise, image or inverse"),
    ],
)
def test_what_is_wrong_for_one_picture_is_wrong_for_a_folder(given, said, asked):
    done, jobs = asked(*TINY, *given)
    assert done.exit_code in (1, 2) and not jobs and said in " ".join(done.stderr.replace("│", " ").split()), done.output


def test_a_folder_s_results_are_told_to_a_machine_as_json(asked, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "run", lambda jobs, store, **more: runner.Run([j.key for j in jobs], {"a": "invert 2 cat: no"}, ["b"]))
    (tmp_path / "photos" / "broken.png").write_text("no picture")
    done, _ = asked(*TINY, "--json")
    found = json.loads(done.stdout)
    jsonschema.validate(found, schema("folder"))
    assert done.exit_code == 1 and found["folder"] == str(tmp_path / "out") and len(found["done"]) == 1
    assert (found["failed"], found["already"], len(found["left_out"])) == ({"a": "invert 2 cat: no"}, ["b"], 1)
