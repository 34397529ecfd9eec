"""The activation atlas: what is sampled, how it is laid out, what each field's direction is, and going on after an end."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.errors import InputError, MissingExtra
from preimage.experiments.activation_atlas import cells_of, lay_out, sample_activations

from . import planted
from .accessible import everywhere, walk


@pytest.fixture(scope="module")
def phi():
    return preimage.Layer(planted.build()[0], "3", space=planted.SPACE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return planted.write(tmp_path_factory.mktemp("atlas") / "in", 2)


SMALL = {"crops": 48, "grid": 3, "layout": "pca", "canvas": 20, "iterations": 3, "recipe": "lucid2017", "progress": False}


def test_a_sampled_activation_is_that_of_its_crop_at_its_place(phi, folder):
    from preimage.inverses.photographs import Crops, gather

    pictures = gather(folder)
    found = sample_activations(phi, pictures, 20, seed=3, progress=False)
    crops = Crops(pictures, planted.SPACE, (32, 32), 3)
    for n in (0, 7, 19):
        row, column = found.places[n].tolist()
        assert 0 < row < 19 and 0 < column < 19  # not at the border
        torch.testing.assert_close(found.vectors[n], phi(crops[n])[0, :, row, column], rtol=1e-4, atol=1e-5)
    assert found.crops.shape == (20, 64, 64, 3)
    assert torch.equal(sample_activations(phi, pictures, 20, seed=3, progress=False).vectors, found.vectors)


@pytest.mark.parametrize("layout", ["tsne", "pca"])
def test_alike_activations_are_laid_out_near_each_other(layout):
    generator = torch.Generator().manual_seed(0)
    kinds = torch.arange(3).repeat_interleave(20)
    vectors = torch.eye(3)[kinds] * 5 + torch.rand(60, 3, generator=generator)
    at = lay_out(vectors, layout)
    assert at.min() >= 0 and at.max() < 1
    centres = torch.stack([at[kinds == k].mean(dim=0) for k in range(3)])
    assert torch.equal(torch.cdist(at, centres).argmin(dim=1), kinds)


def test_the_direction_of_a_field_is_what_its_activations_have_and_others_have_not():
    generator = torch.Generator().manual_seed(0)
    kinds = torch.arange(2).repeat_interleave(30)
    common = 10 + 3 * torch.randn(60, 1, generator=generator)  # a channel that answers to everything
    vectors = torch.cat([common, torch.eye(2)[kinds] + 0.1 * torch.randn(60, 2, generator=generator)], dim=1)
    places = torch.stack([0.1 + 0.8 * kinds, torch.full((60,), 0.5)], dim=1)
    for whiten in (True, False):
        first, second = cells_of(vectors, places, 2, whiten=whiten)
        assert (first.row, first.column, second.column) == (1, 0, 1) and sorted(first.members) == list(range(30))
        assert first.direction[1] > 0 > first.direction[2] and second.direction[2] > 0 > second.direction[1]
        assert first.direction.norm() == pytest.approx(1.0)
    whitened = cells_of(vectors, places, 2, whiten=True)[0].direction
    assert abs(whitened[0]) < 0.1 * abs(whitened[1])
    assert cells_of(vectors, places, 2, least=31) == []


def test_an_ended_atlas_goes_on_and_another_one_is_refused(phi, folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    page = preimage.activation_atlas(phi, folder, out, **SMALL)
    images = sorted(out.glob("cells/*.png"))
    failed = page.read_text().count("no image</span>")  # a field where nothing excites the planted channels
    assert page == out / "index.html" and len(images) >= 2 and len(list(out.glob("cells/*-natural.jpg"))) == len(images) + failed
    kept = {p.name: p.read_bytes() for p in images}
    images[0].unlink()
    monkeypatch.setattr("preimage.experiments.activation_atlas.sample_activations", None)  # what was sampled is kept
    preimage.activation_atlas(phi, folder, out, **SMALL)
    assert {p.name: p.read_bytes() for p in sorted(out.glob("cells/*.png"))} == kept
    with pytest.raises(InputError, match="another atlas: grid differ"):
        preimage.activation_atlas(phi, folder, out, **SMALL | {"grid": 4})
    with pytest.raises(InputError, match="holds something"):
        preimage.activation_atlas(phi, folder, folder, **SMALL)


def test_layers_and_layouts_that_cannot_be_used_are_refused(phi, folder, tmp_path):
    tokens = preimage.Layer(torch.nn.Sequential(torch.nn.Flatten(2)), "0", space=planted.SPACE)
    with pytest.raises(InputError, match="of a map or a vector"):
        preimage.activation_atlas(tokens, folder, tmp_path / "a", **SMALL)
    with pytest.raises(InputError, match="A layout is tsne"):
        lay_out(torch.rand(9, 3), "grid")
    with pytest.raises(InputError, match="take more crops or a smaller grid"):
        preimage.activation_atlas(phi, folder, tmp_path / "b", **SMALL | {"crops": 9, "grid": 40})


@pytest.mark.parametrize("grid", [1, 0, "3", 2.0])
def test_a_map_of_one_field_is_refused_before_anything_is_made_as_it_would_have_no_direction(grid, phi, folder, tmp_path):
    with pytest.raises(InputError, match=r"grid is the fields along a side of the map, a whole number of at least 2; got"):
        preimage.activation_atlas(phi, folder, tmp_path / "a", **SMALL | {"grid": grid})
    assert not (tmp_path / "a").exists()
    with pytest.raises(InputError, match="crops is a whole number"):
        preimage.activation_atlas(phi, folder, tmp_path / "a", **SMALL | {"crops": "9", "grid": None})


@pytest.mark.parametrize("layout", ["tsne", "pca"])
def test_activations_of_one_direction_have_no_map_whatever_the_number_of_crops(layout):
    for alike in (torch.full((60, 4), 2.0), torch.rand(60, 1) + 0.1):  # the same answer to every crop; a layer of one channel
        with pytest.raises(InputError, match="All activations have one direction"):
            lay_out(alike, layout)


def test_umap_is_an_extra_that_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtra, match=r"preimage\[umap\].*or take tsne"):
        lay_out(torch.rand(9, 3), "umap")


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "out"
    net = ["activation-atlas", "tests.planted:build", folder, "--layer", "3", "-o", out]
    options = ["--crops", 48, "--grid", 3, "--layout", "pca", "--canvas", 20, "--iterations", 3, "--recipe", "lucid2017", "-q"]
    found = CliRunner().invoke(app, [str(a) for a in [*net, *options]])
    assert found.exit_code == 0 and "index.html" in found.output, found.output
    return out


def test_the_command_writes_a_page_with_a_record(made):
    record = json.loads((made / "atlas.json").read_text())
    assert record["layer"] == "3" and record["crops"] == 48 and record["network"] == "tests.planted:build"
    text = (made / "index.html").read_text()
    assert text.count('class="atlas-cell"') == len(list(made.glob("cells/*-natural.jpg"))) and not re.search(r"(src|href)=.http", text)


def test_axe_finds_nothing_grave_on_the_map_and_tab_alone_reaches_everything(visit, made):
    page = visit(made / "index.html")
    page.locator(".atlas-cell").first.click()  # with the panel
    assert everywhere(page) == {}
    stops, missed, unmarked = walk(page)
    assert stops >= 8 and missed == [] and unmarked == []


def test_the_map_zooms_and_is_walked_by_keys_and_shows_natural_examples(visit, made):
    page = visit(made / "index.html")
    widths = page.evaluate("Promise.all([...document.querySelectorAll('.atlas-cell img')].map(i => i.decode().then(() => i.naturalWidth)))")
    assert min(widths) == 20
    scale = "new DOMMatrix(getComputedStyle(document.getElementById('atlas-plane')).transform).a"
    page.locator("#atlas-in").click()
    assert page.evaluate(scale) == pytest.approx(1.5)
    page.locator("#atlas-whole").click()
    first = page.locator(".atlas-cell").first
    first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.getElementById('atlas-natural').naturalWidth > 0")
    assert page.locator("#atlas-panel").is_visible() and np.isclose(page.evaluate(scale), 1.0)
    title = page.locator("#atlas-title").inner_text()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.locator("#atlas-title").inner_text() != title and "#cell-" in page.url
    page.set_viewport_size({"width": 360, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
