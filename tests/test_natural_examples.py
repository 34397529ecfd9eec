"""Natural examples beside synthetic images: the planted check, the path check and its control, what records and captions say."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.errors import InputError
from preimage.statistics import collect_statistics
from preimage.tasks.natural import rank_correlation

from . import planted

QUICK = {"iterations": 60, "progress": False, "canvas": 20, "solver": "fourier-adam"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return planted.write(tmp_path_factory.mktemp("natural") / "in")


@pytest.fixture(scope="module")
def phi():
    return preimage.Layer(planted.build()[0], "3", space=planted.SPACE)


@pytest.fixture(scope="module")
def stats(phi, folder):
    return collect_statistics(phi.module, folder, space=planted.SPACE, top=4, progress=False)


def test_examples_direction_synthesis_and_path_agree_on_what_was_planted_and_a_shuffled_control_does_not(phi, stats, folder):
    # examples
    names = [t.image.rpartition("/")[2] for t in stats.top("3", 0)]
    assert all(name.startswith("red-vertical") for name in names)
    # direction
    pictures = sorted(folder.iterdir())
    concept = preimage.learn_concept(
        phi, [p for p in pictures if p.name.startswith("red-v")], [p for p in pictures if not p.name.startswith("red-v")]
    )
    assert concept.direction.argmax() == 0
    # synthesis: red, and it changes along the row and not down the column
    result = preimage.maximize(phi, 0, restarts=2, **QUICK)
    red = (result.images[:, 0] - result.images[:, 1:].mean(dim=1))[:, 4:-4, 4:-4]
    assert bool((red.mean(dim=1).std(dim=1) > 2 * red.mean(dim=2).std(dim=1)).all())
    # and it stands above natural ones, by the way that natural ones take
    record = preimage.natural_check(result, phi, stats)["units"][0]
    assert record["channel"] == 0 and min(record["share"]) > 0.99 and record["spread"] > 0.5
    assert record["path"]["layers"] == ["0", "1", "2", "3"] and record["path"]["normalised"][-1] > 0.7
    assert record["path"]["overall"] > 0.5 and record["path"]["end"] == record["path"]["normalised"][-1]
    # the control: images for another channel, or with their pixels shuffled, said to be of this one
    other = preimage.maximize(phi, 1, **QUICK)
    order = torch.randperm(20 * 20, generator=torch.Generator().manual_seed(0))
    shuffled = result.images.flatten(2)[..., order].reshape(result.images.shape)
    for images, least in ((other.images, 0.3), (shuffled, 0.3)):
        result.images = images if len(images) == 2 else images.repeat(2, 1, 1, 1)
        control = preimage.natural_check(result, phi, stats)["units"][0]["path"]
        assert control["normalised"][-1] < least
    assert control["overall"] < 0.3  # of shuffled pixels; another unit's image of red stripes goes the same way up to the last layer


def test_rank_correlations_are_scipys():
    values = torch.from_numpy(np.random.default_rng(0).integers(0, 5, (4, 30)).astype(np.float64))  # many ties
    np.testing.assert_allclose(rank_correlation(values), spearmanr(values.numpy().T).statistic, atol=1e-12)
    assert rank_correlation(torch.zeros(2, 5)).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_the_path_check_is_one_for_natural_images_themselves_and_zero_for_others(phi):
    own, other = (torch.cat([planted.SPACE.encode(planted.picture(k, s)) for s in range(6)]) for k in ("red-vertical", "green-vertical"))
    same = preimage.path_check(phi, own[3:], own[:3], other).normalised
    foreign = preimage.path_check(phi, other[3:], own[:3], other[:3]).normalised
    assert same[-1] == pytest.approx(1.0, abs=0.25) and foreign[-1] == pytest.approx(0.0, abs=0.25)
    with pytest.raises(InputError, match="two natural ones"):
        preimage.path_check(phi, own, own[:1], other)


def test_the_share_of_natural_activations_below_a_value_is_counted(phi, stats):
    with torch.no_grad():
        x = torch.cat([planted.SPACE.encode(p) for p in stats.images])
        values = phi.module(planted.SPACE.to_network(x))[:, 3].flatten()
    of = stats["3"]
    for q in (0.1, 0.5, 0.9):
        value = float(values.quantile(q))
        low, high = (float((values < value * f).double().mean()) for f in (0.96, 1.04))
        assert low <= of.share_below(3, value) <= high
    assert of.share_below(3, -1.0) == 0.0 and of.share_below(3, 1e9) == 1.0


def test_negative_values_have_their_share_too(folder):
    linear = planted.build()[0][:3]
    stats = collect_statistics(linear, folder, space=planted.SPACE, progress=False)
    of = stats["2"]
    for q in (0.05, 0.3, 0.95):
        assert of.share_below(0, of.quantile(q)[0].item() + 1e-6) == pytest.approx(q, abs=0.06)


def test_originals_that_are_gone_or_changed_cost_the_path_check_alone(phi, tmp_path):
    folder = planted.write(tmp_path / "in", 3)
    stats = collect_statistics(phi.module, folder, space=planted.SPACE, progress=False)
    result = preimage.maximize(phi, 0, **{**QUICK, "iterations": 2})
    files = sorted(folder.iterdir())
    files[0].unlink()
    for file in files[1:]:
        file.write_bytes(files[-1].read_bytes())
    record = preimage.natural_check(result, phi, stats)["units"][0]
    assert record["path"] is None and "another content" in record["path_missing"]
    assert record["examples"][0]["jpeg"] and len(record["examples"]) == 5


def test_what_natural_examples_cannot_be_put_beside_is_refused(phi, stats, folder):
    result = preimage.maximize(phi, {0: 1.0}, **{**QUICK, "iterations": 2})
    with pytest.raises(InputError, match="is a direction"):
        preimage.natural_check(result, phi, stats)
    photo = preimage.invert(phi, planted.picture("noise", 0), iterations=2, progress=False)
    with pytest.raises(InputError, match="units that were maximized"):
        preimage.natural_check(photo, phi, stats)
    with pytest.raises(InputError, match="not one"):
        preimage.natural_check(result, preimage.from_callable(lambda x: x, planted.SPACE), stats)


def test_the_command_keeps_the_examples_in_the_folder_and_says_where_the_image_stands(folder, tmp_path):
    file, out = tmp_path / "s.safetensors", tmp_path / "out"
    net = ["--net", "tests.planted:build", "--layer", "3", "--unit", "0", "--iterations", "20", "--canvas", "20"]
    for arguments in (["statistics", "tests.planted:build", folder, "-o", file], ["maximize", *net, "--stats", file, "-o", out]):
        found = CliRunner().invoke(app, [str(a) for a in arguments])
        assert found.exit_code == 0, found.output
    assert "% of natural activations" in found.stdout
    record = json.loads((out / "result.json").read_text())["config"]["natural"]
    assert record["units"][0]["path"]["layers"][-1] == "3" and (out / "unit-0-natural.png").is_file()
    loaded = preimage.load_result(out)
    assert "of natural activations" in loaded.captions()[0] and loaded._repr_html_().count("data:image/jpeg") == 5
