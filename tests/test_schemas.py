"""What machines are told keeps a schema that is in the package, and is written on a page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.errors import UnknownName
from preimage.schemas import said, schema, schemas

from .report_store import build_store

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
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
