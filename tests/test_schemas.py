"""What machines are told keeps a schema that is in the package, and is written on a page."""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

import preimage
import preimage.cli
from preimage.cli import app
from preimage.errors import UnknownName
from preimage.schemas import said, schema, schemas

from .report_store import build_store

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
CLI = sorted(Path(preimage.cli.__file__).parent.glob("*.py"))
TINY = ["--net", "squeezenet1_1", "--layer", "conv1", "--iterations", "2", "--size", "32"]


def strictly(text: str):
    def refuse(constant: str):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def told(kind: str, *arguments: object) -> dict:
    """What a command prints with --json, checked against its schema."""
    done = CliRunner().invoke(app, [str(a) for a in [*arguments, "--json"]], catch_exceptions=False)
    found = strictly(done.stdout)
    jsonschema.validate(found, schema(kind))
    return found


def every_command(group: Any = None, before: str = "") -> Iterator[tuple[str, Any]]:
    """All commands by the words that call them."""
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from every_command(command, f"{before}{name} ")
        else:
            yield before + name, command


def flags(command: Any) -> set[str]:
    return {flag for parameter in command.params for flag in parameter.opts}


def printed_kinds(module: Any) -> set[str]:
    """The kinds of JSON that the commands of a module print."""
    calls = [n for n in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(n, ast.Call)]
    named = [n.args[0] for n in calls if isinstance(n.func, ast.Name) and n.func.id == "tell_json"]
    return {argument.value for argument in named if isinstance(argument, ast.Constant)}


def test_every_command_with_json_prints_it_with_its_schema_and_every_schema_is_of_a_command():
    telling = {name: inspect.unwrap(c.callback).__module__ for name, c in every_command() if "--json" in flags(c)}
    assert {"saliency", "invert", "inverse fit", "paper quirks", "runs"} <= set(telling)
    assert [name for name, module in telling.items() if not printed_kinds(sys.modules[module])] == []
    assert set().union(*(printed_kinds(sys.modules[f"preimage.cli.{p.stem}"]) for p in CLI if p.stem != "__init__")) == set(schemas())


def test_nothing_else_is_printed_as_json():
    """A schema itself and a file for --recipe, which no --json asks for, aside."""
    printing = []
    for path in CLI:
        for function in (n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.FunctionDef)):
            calls = [ast.unparse(n) for n in ast.walk(function) if isinstance(n, ast.Call)]
            printing += [(path.stem, function.name)] * any(c.startswith("typer.echo(json.dumps(") for c in calls)
    assert sorted(set(printing)) == [("common", "tell_json"), ("recipes", "recipes"), ("schema", "schema")]


def test_every_command_that_writes_can_be_told_to_replace_what_is_there():
    """But those that go on with what is there (stores and atlases), and those that write a page anew from what it shows."""
    writing = {name: "--overwrite" in flags(c) for name, c in every_command() if "--out" in flags(c)}
    going_on = {"activation-atlas", "atlas", "audit", "compare", "pull"} | {n for n in writing if n.startswith("paper ")}
    assert {name for name, can in writing.items() if not can} == going_on - {"paper hog-template"} | {"demo", "microscope", "report"}


def test_every_schema_is_one_and_refuses_another_version_and_a_key_that_is_not_described():
    for kind, found in schemas().items():
        jsonschema.Draft202012Validator.check_schema(found)
        assert found["properties"]["schema"]["const"] == f"preimage/{kind}/1" and found["additionalProperties"] is False
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"schema": f"preimage/{kind}/2"}, found)
    with pytest.raises(UnknownName, match="Did you mean 'layers'"):
        schema("layer")


@pytest.mark.parametrize("kind", schemas())
def test_the_page_says_of_each_kind_which_keys_it_has(kind):
    (section,) = re.findall(rf"^### `{kind}`\n(.*?)(?=^##|\Z)", PAGE, flags=re.S | re.M)
    assert set(schemas()[kind]["properties"]) - {"schema"} <= set(re.findall(r"`(\w+)`", section))


@pytest.mark.parametrize(
    ("task", "asked"),
    [("invert", np.full((8, 8), 200, np.uint8)), ("maximize", [0, (0, 1, 1)]), ("caricature", np.full((8, 8), 200, np.uint8))],
)
def test_the_record_of_a_result_keeps_the_schema(task, asked, tmp_path):
    phi = preimage.from_callable(lambda x: x.relu() + 1, preimage.PixelSpace(8, "grey"))
    result = getattr(preimage, task)(phi, asked, iterations=2, progress=False)
    written = strictly((result.save(tmp_path / "out") / "result.json").read_text(encoding="utf-8"))
    jsonschema.validate(written, schema("result"))
    assert written["schema"] == "preimage/result/1" and len(written["energy"]["total"]) == len(result.images)


def test_a_number_that_is_not_finite_is_null_in_the_record(tmp_path):
    phi = preimage.from_callable(lambda x: x, preimage.PixelSpace(8, "grey"))
    result = preimage.invert(phi, np.full((8, 8), 200, np.uint8), iterations=1, progress=False)
    result.error = torch.tensor([float("nan")])
    written = strictly((result.save(tmp_path / "out") / "result.json").read_text(encoding="utf-8"))
    assert written["error"] == [None]
    assert said("result", {"error": [float("inf")]})["error"] == [None]
    result.config["parts"]["regularizers"]["own"] = {"weights": [1.0, float("-inf")]}
    again = strictly((result.save(tmp_path / "again") / "result.json").read_text(encoding="utf-8"))
    assert again["config"]["parts"]["regularizers"]["own"] == {"weights": [1.0, None]}


def test_what_the_tasks_print_for_machines_keeps_the_schema(tmp_path):
    photograph = preimage.images.reference_images()[0]
    found = told("result", "invert", photograph, *TINY, "-o", tmp_path / "a")
    assert found["folder"] == str(tmp_path / "a") and isinstance(found["error"][0], float)
    told("result", "maximize", "-u", "3", *TINY[:6], "--canvas", "24", "-o", tmp_path / "b")


def test_lists_of_networks_layers_recipes_and_quirks_keep_their_schemas():
    (embedded,) = [n for n in told("networks", "networks")["networks"] if n["name"] == "squeezenet1_1"]
    assert (embedded["size"], embedded["weights"]) == ([227, 227], "packaged")
    layers = told("layers", "layers", "squeezenet1_1", "--size", "64")["layers"]
    assert {type(v) for layer in layers for v in layer["shape"]} == {int} and layers[-1]["receptive_field"] is None
    assert "mahendran2016" in [r["name"] for r in told("recipes", "recipes")["recipes"]]
    assert [r["name"] for r in told("recipes", "recipes", "deepdream2015")["recipes"]] == ["deepdream2015"]
    told("quirks", "paper", "quirks")


def test_the_runs_of_a_store_keep_the_schema(tmp_path):
    runs = told("runs", "runs", build_store(tmp_path / "store", ("cat",)).path)["runs"]
    assert runs and all(isinstance(value, (int, float)) for r in runs for value in r["metrics"].values())


def test_the_command_prints_a_schema_and_lists_all():
    listed = CliRunner().invoke(app, ["schema"]).stdout
    assert all(re.search(rf"^{kind} ", listed, flags=re.M) for kind in schemas())
    assert json.loads(CliRunner().invoke(app, ["schema", "runs"]).stdout) == schema("runs")
    refused = CliRunner().invoke(app, ["schema", "run"])
    assert refused.exit_code == 2 and "runs" in refused.stderr
