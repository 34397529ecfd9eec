"""Units of two networks matched by their answers: permuted, scaled and shuffled copies are found out, and what cannot be is refused."""

from __future__ import annotations

import csv
import json
import math

import jsonschema
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from preimage.cli import app
from preimage.errors import InputError
from preimage.report import write_microscope
from preimage.schemas import schema
from preimage.statistics import Keep, collect_statistics, match_units

from . import planted

ORDER = [2, 0, 3, 1]


def permuted(order=ORDER, dead: int | None = None):
    """The planted network with the channels of its last layers in another order and of another scale; one of them may be dead."""
    module, space = planted.build()
    with torch.no_grad():
        module[2].weight.copy_(3.0 * module[2].weight[order])
        if dead is not None:
            module[2].weight[dead].zero_()
    return module, space


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return planted.write(tmp_path_factory.mktemp("matching") / "in", 4)


def collected(made, folder, **keep):
    module, space = made
    return collect_statistics(module, folder, space=space, top=2, keep=Keep(**({"sample": 160, "places": 8} | keep)), progress=False)


@pytest.fixture(scope="module")
def stats(folder):
    return collected(planted.build(), folder)


def test_each_unit_is_found_again_where_the_other_network_keeps_it_and_clearly_above_chance(stats, folder):
    (m,) = match_units(stats, collected(permuted(), folder), ["3"], same_layers=True)
    assert m.units.tolist() == [ORDER.index(k) for k in range(4)]
    assert torch.allclose(m.correlation, torch.ones(4).double(), atol=1e-5)
    assert (m.chance < 0.5).all() and m.draws == 160


def test_the_layer_is_found_too(stats, folder):
    for m in match_units(stats, stats):
        assert m.median() == pytest.approx(1.0) and (m.layer == m.other or torch.equal(m.units, torch.arange(4)))
    found = match_units(stats, collected(permuted(), folder), ["3"])
    assert found[0].other in ("2", "3")  # the convolution, or its ReLU


def test_the_order_of_the_images_does_not_matter(stats, folder):
    files = sorted(folder.iterdir(), reverse=True)
    (m,) = match_units(stats, collected(permuted(), files), ["3"], same_layers=True)
    assert m.units.tolist() == [ORDER.index(k) for k in range(4)] and m.draws == 160


def test_correlations_are_those_of_numpy(stats, folder):
    others = collected(permuted(), folder)
    (m,) = match_units(stats, others, ["2"], same_layers=True)
    x, y = stats.sample.vectors["2"].numpy(), others.sample.vectors["2"].numpy()
    expected = np.corrcoef(x.T, y.T)[:4, 4:]
    assert np.allclose(m.correlation.numpy(), expected.max(axis=1)) and m.units.tolist() == expected.argmax(axis=1).tolist()


def test_a_unit_that_answers_the_same_everywhere_matches_nothing(stats, folder):
    others = collected(permuted(dead=1), folder)
    (back,) = match_units(others, stats, ["3"], same_layers=True)
    assert back.units[1] == -1 and math.isnan(back.correlation[1]) and back.median() == pytest.approx(1.0)
    (forth,) = match_units(stats, others, ["3"], same_layers=True)
    assert forth.correlation[ORDER[1]] < 0.9 and 1 not in forth.units.tolist()


@pytest.mark.parametrize(
    ("keep", "said"),
    [({"sample": 0}, "no sample"), ({"sample": 20}, "20 draws of activations in common and 30"), ({"seed": 1}, "have 0 draws")],
)
def test_statistics_that_have_no_draws_in_common_are_refused(stats, folder, keep, said):
    with pytest.raises(InputError, match=said):
        match_units(stats, collected(planted.build(), folder, **keep))


def test_a_layer_that_the_other_has_not_is_named(stats, folder):
    module, space = planted.build()
    others = collect_statistics(module, folder, layers=["0"], space=space, keep=Keep(0, 160, 8), progress=False)
    with pytest.raises(InputError, match="have 0 and no layer '3'"):
        match_units(stats, others, ["3"], same_layers=True)
    assert [m.other for m in match_units(stats, others)] == ["0"] * len(stats)


def test_the_command_tells_writes_every_pair_and_replaces_nothing_unasked(stats, folder, tmp_path):
    stats.save(tmp_path / "a.safetensors")
    collected(permuted(dead=1), folder).save(tmp_path / "b.safetensors")
    words = [
        "match",
        tmp_path / "b.safetensors",
        tmp_path / "a.safetensors",
        "--layers",
        "3",
        "--same-layers",
        "-o",
        tmp_path / "pairs.csv",
    ]
    done = CliRunner().invoke(app, [str(w) for w in [*words, "--json"]])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    jsonschema.validate(told, schema("match"))
    assert told["layers"][0] | {"correlation": 1.0, "by_chance": 0} == {
        "layer": "3", "other": "3", "units": 4, "constant": 1, "correlation": 1.0, "by_chance": 0, "above_half": 1.0
    }  # fmt: skip
    rows = list(csv.DictReader((tmp_path / "pairs.csv").read_text().splitlines()))
    assert [r["other_unit"] for r in rows] == [str(ORDER[0]), "", str(ORDER[2]), str(ORDER[3])]
    again = CliRunner().invoke(app, [str(w) for w in words])
    assert again.exit_code == 2 and "--overwrite" in again.output
    told = CliRunner().invoke(app, [str(w) for w in [*words, "--overwrite"]])
    assert told.exit_code == 0 and "Medians over units, 160 draws." in told.stdout


def test_a_unit_s_page_shows_the_other_network_s_unit(visit, stats, folder, tmp_path):
    others = collected(permuted(dead=1), folder)
    others.about["network"] = "the <b>other</b>"
    page = write_microscope(stats, tmp_path / "units.html", beside=others, layers=["3"])
    shown = visit(page, "#3/1")
    text = shown.inner_text("#units")
    assert "The unit of the <b>other</b> that answers most like it" in text
    assert f"{ORDER.index(1)}: correlation " in text
    tiles = shown.eval_on_selector_all(".unit-tile", "found => found.map(e => e.style.backgroundImage)")
    assert sum("-beside.webp" in t for t in tiles) == 2
    assert (tmp_path / "units_files" / "0-0-beside.webp").is_file()
