"""The first minute with the command: the greeting, -h, -v and -q anywhere, completion, names that are nearly right, the doctor."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys

import jsonschema
import pytest
import typer
from typer.testing import CliRunner

import preimage.doctor
from preimage.cli import app
from preimage.schemas import schema


def run(*arguments, **options):
    return CliRunner().invoke(app, [str(a) for a in arguments], **options)


def test_the_command_alone_greets_with_three_commands_that_exist():
    done = run()
    assert done.exit_code == 0
    named = re.findall(r"^  preimage (\w+)", done.stdout, flags=re.M)
    assert len(named) == 3
    for command in named:
        assert run(command, "-h").exit_code == 0
    assert max(map(len, done.stdout.splitlines())) <= 110


@pytest.mark.parametrize(
    "arguments", [["-h"], ["invert", "-h"], ["paper", "-h"], ["paper", "inversion", "-h"], ["--version"]], ids=" ".join
)
def test_help_and_the_version_are_one_short_flag_away(arguments):
    done = run(*arguments)
    assert done.exit_code == 0 and done.stdout


@pytest.mark.parametrize("command", ["invert", "networks", "paper inversion", "inverse fit"])
def test_every_command_takes_v_and_q(command):
    text = run(*command.split(), "-h").stdout
    assert re.search(r"^  -v, --verbose", text, flags=re.M)
    assert len(re.findall(r"^  (?:-q, --quiet|--quiet, -q)", text, flags=re.M)) == 1


@pytest.mark.parametrize("arguments", [["-v", "runs", "x", "--json"], ["runs", "x", "-v", "--json"]], ids=["before", "after"])
def test_v_shows_what_the_library_logs_and_only_while_the_command_runs(arguments, monkeypatch):
    from preimage.studies.store import Store

    def opened(*a, **k):
        logging.getLogger("preimage.studies").info("looked\nat")
        raise FileNotFoundError(2, "gone")

    monkeypatch.setattr(Store, "open", opened)
    log = logging.getLogger("preimage")
    before = (log.level, list(log.handlers))
    assert "preimage: looked at\n" in run(*arguments).stderr
    assert (log.level, log.handlers) == before
    assert "looked" not in run("runs", "x", "--json").stderr


def test_vv_shows_errors_whole(monkeypatch):
    from preimage.studies.store import Store

    monkeypatch.setattr(Store, "open", lambda *a, **k: 1 / 0)
    assert isinstance(run("runs", "x", "-vv").exception, ZeroDivisionError)
    assert run("runs", "x", "-v").exit_code == 1


def test_q_means_no_bar_in_commands_without_a_flag_of_their_own():
    from preimage.cli.common import watched
    from preimage.cli.loudness import Loudness, set_loudness

    seen = watched()
    set_loudness(Loudness(quiet=True))
    assert not watched()
    set_loudness(Loudness())
    assert watched() == seen


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_a_script_and_the_script_s_question_an_answer(shell, monkeypatch):
    script = run("completion", shell).stdout
    assert "_PREIMAGE_COMPLETE=complete_" + shell in script
    monkeypatch.setenv("_PREIMAGE_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "preimage inver")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    monkeypatch.setenv("COMP_WORDS", "preimage inver")
    monkeypatch.setenv("COMP_CWORD", "1")
    from preimage.cli import completion

    completion.answer()
    answered = run(prog_name="preimage").stdout
    assert "invert" in answered and "maximize" not in answered


@pytest.mark.slow
def test_bash_itself_completes(tmp_path):
    if (bash := shutil.which("bash")) is None:
        pytest.skip("there is no bash")
    (tmp_path / "preimage").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m preimage "$@"\n')
    (tmp_path / "preimage").chmod(0o755)
    asked = (
        "source <(preimage completion bash); complete -p preimage; COMP_WORDS=(preimage invert --lay); COMP_CWORD=2; "
        '_preimage_completion preimage; echo "${COMPREPLY[@]}"'
    )
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([bash, "-c", asked], capture_output=True, text=True, env=env)
    assert done.stdout.splitlines()[-1] == "--layer", done.stderr
    assert "_preimage_completion preimage" in done.stdout.splitlines()[0]


def test_an_unknown_shell_is_named_with_those_that_there_are():
    done = run("completion", "bsh")
    assert (done.exit_code, "Did you mean 'bash'" in done.stderr) == (2, True)


def test_the_doctor_finds_all_well_and_says_so_to_machines():
    done = run("doctor", "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 0, found
    jsonschema.validate(found, schema("doctor"))
    assert (found["schema"], found["ok"]) == ("preimage/doctor/1", True)
    assert {c["group"] for c in found["checks"]} == {"versions", "devices", "extras", "folders", "self-test"}
    assert next(c for c in found["checks"] if c["name"] == "torch")["status"] == "ok"


def test_the_doctor_s_exit_code_is_honest(monkeypatch):
    monkeypatch.setattr(preimage.doctor, "_small_inversion", lambda: (2.0, 3.0))
    done = run("doctor")
    assert done.exit_code == 1
    assert re.search(r"PROBLEM  inversion +energy 2.00 to 3.00", done.stdout)
    monkeypatch.setattr(preimage.doctor, "_small_inversion", lambda: 1 / 0)
    done = run("doctor")
    assert (done.exit_code, "ZeroDivisionError" in done.stdout) == (1, True)


def test_the_doctor_tells_a_wrong_version_from_an_absent_extra(monkeypatch):
    needed = [("torch", ">=99", None), ("surely-not-there", ">=1", None), ("surely-not-there", ">=1", "video")]
    monkeypatch.setattr(preimage.doctor, "_needs", lambda: needed)
    checks = {(c.group, c.name): c for c in preimage.doctor.examine(self_test=False)}
    assert checks["versions", "torch"].status == "problem" and "wanted >=99" in checks["versions", "torch"].found
    assert checks["versions", "surely-not-there"].status == "problem"
    assert checks["extras", "video"].status == "absent" and "'.[video]'" in checks["extras", "video"].advice


def test_the_doctor_warns_of_a_cache_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("PREIMAGE_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(preimage.doctor.os, "access", lambda *a: False)
    found = next(c for c in preimage.doctor.examine(self_test=False) if c.name == "cache")
    assert (found.status, found.advice) == ("warning", "Name another in PREIMAGE_CACHE.")


@pytest.mark.parametrize("arguments", [[], ["--version"], ["-h"], ["completion", "bash"]], ids=" ".join)
def test_what_needs_no_network_does_not_wait_for_pytorch(arguments):
    code = f"import sys; sys.modules['torch'] = None; sys.argv[1:] = {arguments!r}; from preimage.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "preimage" in done.stdout, done.stderr


def test_the_paper_s_commands_are_those_of_the_experiments_and_its_own():
    from preimage.experiments import known_experiments

    commands = typer.main.get_command(app).commands["paper"].commands
    assert {*known_experiments(), "all", "shallow-table"} <= set(commands)
    shown = CliRunner().invoke(app, ["paper", "inversion", "-h"])
    assert shown.exit_code == 0 and "--layers" in shown.output and "--verbose" in shown.output
