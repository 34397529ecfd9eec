"""Class names of one's own weights: from lists, text, JSON, transformers configs, MatConvNet and ONNX files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.errors import InputError, UnknownName
from preimage.networks.labels import read_labels

from . import matfiles

NAMES = ["striped", "across", "green", "light"]


def written(folder, name):
    path = folder / name
    if name.endswith(".mat"):
        matfiles.save_v5(path, {"classes": {"name": ["n0", "n1", "n2", "n3"], "description": NAMES}})
    elif name == "config.json":
        path.write_text(json.dumps({"model_type": "vit", "id2label": {str(k): n for k, n in reversed(list(enumerate(NAMES)))}}))
    elif name.endswith(".json"):
        path.write_text(json.dumps(NAMES))
    else:
        path.write_text("\ufeff" + "\n".join(NAMES) + "\n\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["labels.txt", "labels.json", "config.json", "classes.mat"])
def test_names_are_read_from_the_files_that_people_have(name, tmp_path):
    assert read_labels(written(tmp_path, name)) == NAMES


def onnx_file(path, **metadata):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((4, 3, 2, 2), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], name="conv")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 7, 7])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize(
    "metadata",
    [
        {"names": str(dict(enumerate(NAMES)))},
        {"classes": json.dumps(NAMES)},
        {"names": "__import__('os').abort()", "labels": json.dumps(NAMES)},
    ],
)
def test_an_onnx_file_brings_the_names_in_its_metadata(metadata, tmp_path):
    path = onnx_file(tmp_path / "net.onnx", **metadata)
    net = preimage.load_network(str(path), space=preimage.PixelSpace(8, "rgb"))
    assert net.classes == read_labels(path) == NAMES
    assert net.layer(net.layers()[-1].name).unit_named("light") == 3


def test_an_onnx_file_without_names_has_none(tmp_path):
    net = preimage.load_network(str(onnx_file(tmp_path / "net.onnx", names="{'a': 3")), space=preimage.PixelSpace(8, "rgb"))
    assert net.classes == []


def test_labels_are_the_units_names_in_python_and_on_the_command_line(tmp_path):
    net = preimage.load_network("tests.planted:build", labels=NAMES)
    assert net.layer("3").unit_named("across") == 1
    assert net.class_index("green") == 2
    options = ["--unit", "across", "--labels", written(tmp_path, "labels.txt"), "--iterations", 2, "--canvas", 20, "--json"]
    found = CliRunner().invoke(app, [str(a) for a in ["maximize", "--net", "tests.planted:build", *options, "-o", tmp_path / "out"]])
    assert found.exit_code == 0 and json.loads(found.stdout)["config"]["unit"] == [1], found.output
    with pytest.raises(UnknownName, match="stripes"):
        net.class_index("stripes")


def test_labels_that_cannot_be_used_are_refused(tmp_path):
    (tmp_path / "gaps.json").write_text('{"0": "a", "2": "b"}')
    (tmp_path / "numbers.json").write_text("[1, 2]")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "cut.json").write_text('["a"')
    (tmp_path / "cut.onnx").write_bytes(b"no onnx")
    for name, reason in [
        ("gaps.json", "not 0 to 1"),
        ("numbers.json", "no class names"),
        ("empty.txt", "no class names"),
        ("cut.json", "no class names"),
        ("cut.onnx", "no ONNX file"),
        ("absent.txt", "No such file"),
    ]:
        with pytest.raises(InputError, match=reason):
            read_labels(tmp_path / name)
    with pytest.raises(InputError, match=r"3 labels are given, and the last layer of tests\.planted:build has 4 outputs"):
        preimage.load_network("tests.planted:build", labels=NAMES[:3])
