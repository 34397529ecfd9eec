"""What of a photograph excites a unit: three ways back to the pixels, each against a plain writing of its rule."""

from __future__ import annotations

import json

import jsonschema
import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.errors import InputError
from preimage.schemas import schema

SPACE = preimage.PixelSpace(16, "rgb", mean=(100.0, 110.0, 120.0))


def small(inplace=False):
    torch.manual_seed(4)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(inplace), nn.MaxPool2d(2), nn.Conv2d(6, 5, 3), nn.ReLU(inplace), nn.Conv2d(5, 4, 3))


def picture(seed=1):
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def by_hand(module, x, unit, place, method):
    """Step by step backwards: transposed convolutions, switches, and the rule at each ReLU."""
    a = module[0](x)
    b, switches = F.max_pool2d(a.relu(), 2, return_indices=True)
    c = module[3](b)
    out = module[5](c.relu())
    g = torch.zeros_like(out)
    g[(0, unit, *place)] = 1.0

    def relu(g, before):
        if method == "deconvnet":
            return g.clamp(min=0)
        return (g.clamp(min=0) if method == "guided" else g) * (before > 0)

    g = relu(F.conv_transpose2d(g, module[5].weight), c)
    g = F.conv_transpose2d(g, module[3].weight)
    g = relu(F.max_unpool2d(g, switches, 2, output_size=a.shape), a)
    return F.conv_transpose2d(g, module[0].weight), out


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("method", ["gradient", "guided", "deconvnet"])
def test_each_way_back_follows_its_rule_at_every_relu(method, inplace):
    module = small(inplace)
    phi = preimage.Layer(module, "5", space=SPACE)
    found = preimage.saliency(phi, picture(), 2, method)
    with torch.no_grad():
        x = SPACE.encode(picture())
        plain, out = by_hand(small(), x, 2, found.places[0], method)
    assert found.places[0] == tuple(np.unravel_index(int(out[0, 2].argmax()), out.shape[2:]))
    assert found.responses[0].item() == pytest.approx(out[0, 2].max().item(), rel=1e-4)
    torch.testing.assert_close(found.slopes, plain, rtol=1e-4, atol=1e-6)
    assert float(plain.abs().max()) > 0


def test_nothing_outside_of_the_patch_is_seen_and_the_patch_stands_beside_what_was_traced():
    phi = preimage.Layer(small(), "5", space=SPACE)
    found = preimage.saliency(phi, [picture(1), picture(2)], (1, 0, 1))
    assert found.slopes.shape == (2, 3, 16, 16) and found.places == [(0, 1)] * 2
    for slope, (top, left, height, width) in zip(found.slopes, found.patches, strict=True):
        outside = slope.clone()
        outside[:, top : top + height, left : left + width] = 0
        assert not bool(outside.any()) and (height, width) == (12, 12)
    assert [p.size for p in found.pil()] == [(24, 12)] * 2


def test_the_network_is_as_before_and_its_gradients_are_plain_again():
    module = small()
    phi = preimage.Layer(module, "5", space=SPACE)
    before = preimage.saliency(phi, picture(), 0).slopes
    preimage.saliency(phi, picture(), 0, "deconvnet")
    assert torch.equal(preimage.saliency(phi, picture(), 0).slopes, before)
    assert module.training and all(p.requires_grad and p.grad is None for p in module.parameters())


def test_a_class_of_a_network_is_found_by_its_name_and_sees_the_whole_image():
    net = preimage.load_network("squeezenet1_1")
    found = preimage.saliency(net.layer("pool10"), "src/preimage/data/chelsea.jpg", "tabby", "guided")
    assert found.patches == [(0, 0, 227, 227)] and float(found.slopes.abs().max()) > 0


@pytest.mark.parametrize(("unit", "method"), [(0, "magic"), (9, "gradient"), ((0, 99, 0), "gradient"), ((0, 0, 0, 0), "guided")])
def test_a_unit_or_method_that_is_not_there_is_refused(unit, method):
    with pytest.raises(InputError):
        preimage.saliency(preimage.Layer(small(), "5", space=SPACE), picture(), unit, method)


def test_the_command_writes_a_picture_for_each_photograph_and_says_where_the_unit_answered(tmp_path):
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for k, file in enumerate(files):
        PIL.Image.fromarray(picture(k)).save(file)
    words = [
        "saliency",
        *map(str, files),
        "--layer",
        "conv1",
        "--unit",
        "3",
        "--method",
        "guided",
        "--size",
        "64",
        "-o",
        str(tmp_path / "out"),
    ]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "out" / "saliency.json").read_text())
    jsonschema.validate(record, schema("saliency"))
    found = preimage.saliency(preimage.load_network("squeezenet1_1", size=(64, 64)).layer("conv1"), [str(f) for f in files], 3, "guided")
    assert [row["answer"] for row in record["images"]] == pytest.approx(found.responses.tolist(), rel=1e-6)
    for row, shown in zip(record["images"], found.pil(), strict=True):
        assert tuple(row["place"]) in found.places
        np.testing.assert_array_equal(np.asarray(PIL.Image.open(tmp_path / "out" / row["picture"])), np.asarray(shown))
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 1 and "out" in again.stderr and "--overwrite" in again.stderr
    (tmp_path / "out" / "notes.txt").write_text("mine")
    one = CliRunner().invoke(app, [words[0], *words[2:], "--overwrite", "--json"])  # of b.png alone
    told = json.loads(one.stdout)
    jsonschema.validate(told, schema("saliency"))
    assert told["folder"] == str(tmp_path / "out") and told["images"] == [record["images"][1] | {"picture": "00.png"}]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["00.png", "notes.txt", "saliency.json"]
    refused = CliRunner().invoke(app, [*words[:-1], str(tmp_path / "new"), "--method", "magic"])
    assert refused.exit_code == 2 and "gradient, guided, deconvnet" in refused.stderr and not (tmp_path / "new").exists()
