"""The page of every unit: what is on it, its addresses, its search, its keys, and what it makes of a store."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.errors import InputError
from preimage.report import write_microscope
from preimage.statistics import Keep, collect_statistics, load_statistics
from preimage.studies.store import Store
from preimage.tasks.natural import NaturalExamples

from . import planted
from .accessible import everywhere, walk


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("microscope")
    folder = planted.write(root / "in", 2)
    commands = [
        ["statistics", "tests.planted:build", folder, "--sample", 40, "--top", 4, "-o", root / "s.safetensors", "-q"],
        [
            "atlas",
            "tests.planted:build",
            "--layers",
            "3",
            "--units",
            2,
            "--iterations",
            2,
            "--restarts",
            2,
            "--workers",
            1,
            "--stats",
            root / "s.safetensors",
            "-o",
            root / "atlas",
            "-q",
        ],
        ["report", root / "atlas", "-q"],
        [
            "microscope",
            root / "s.safetensors",
            "--store",
            root / "atlas",
            "--net",
            "tests.planted:build",
            "--labels",
            root / "labels.txt",
            "-o",
            root / "units.html",
            "-q",
        ],
    ]
    (root / "labels.txt").write_text("red down, stripes\nred across\ngreen down\n5\n")
    for arguments in commands:
        found = CliRunner().invoke(app, [str(a) for a in arguments])
        assert found.exit_code == 0, found.output
    return root / "units.html"


def test_a_unit_has_an_address_with_its_images_examples_histogram_and_likes(visit, made):
    page = visit(made, "#3/0")
    assert page.locator("#unit-title").inner_text() == "3 0 · red down, stripes"
    widths = "Promise.all([...document.querySelectorAll('.unit-shots img')].map(i => i.decode().then(() => i.naturalWidth)))"
    assert len(page.evaluate(widths)) == 2 and min(page.evaluate(widths)) > 0
    captions = page.locator(".unit-examples figcaption").all_inner_texts()
    assert len(captions) == 4 and all("red-vertical" in c for c in captions[:2])
    assert page.locator(".unit-histogram rect").count() == 32
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.getElementById('unit-title').textContent === '3 1 · red across'")
    assert page.url.endswith("#3/1")
    page.go_back()
    page.wait_for_function("document.getElementById('unit-title').textContent === '3 0 · red down, stripes'")


def test_the_atlas_its_page_and_the_unit_s_page_say_where_an_image_stands_in_nature(visit, made):
    store = Store.open(made.parent / "atlas", create=False)
    stats = load_statistics(made.parent / "s.safetensors")
    rows = [r for r in store.records() if r.config["unit"] == 0]
    for row in rows:
        assert row.metrics["natural_share"] == stats["3"].share_below(0, row.metrics["activation"])
        assert row.metrics["natural_times"] == pytest.approx(row.metrics["activation"] / stats["3"].max[0].item(), rel=1e-5)
        assert -1 <= row.metrics["restarts_alike"] <= 1
    summary = json.loads((made.parent / "atlas" / "summary" / "atlas-3" / "summary.json").read_text())
    assert {"natural_share", "natural_times", "restarts_alike", "path"} <= summary["columns"].keys()
    told = json.loads((made.parent / "atlas" / "summary" / "atlas-3" / "natural.json").read_text())["units"][0]
    assert told["channel"] == 0 and told["path"]["layers"] == ["0", "1", "2", "3"] and told["keys"] == [r.key for r in rows]
    assert [r.metrics["path"] for r in rows] == [told["path"]["overall"]] * 2
    page = visit(made.parent / "atlas" / "report.html")
    shown = page.get_by_alt_text("natural examples: 3 · unit 0", exact=False)
    assert shown.count() == 1 and shown.evaluate("i => i.decode().then(() => i.naturalWidth)") > 3 * 13
    page = visit(made, "#3/0")
    words = page.locator(".unit-shots figcaption").all_inner_texts()
    assert len(words) == 2 and all("% of the natural ones" in w for w in words)
    assert (
        "rank correlation of" in page.locator("#units").inner_text()
        and "the way of natural images to" in page.locator("#units").inner_text()
    )


def test_an_atlas_measures_beside_nature_only_what_is_new(made, monkeypatch, tmp_path):
    root = tmp_path / "again"
    shutil.copytree(made.parent, root)
    seen = []
    monkeypatch.setattr(
        NaturalExamples,
        "of",
        lambda self, channel, *a: (
            seen.append(channel) or {"channel": channel, "share": [1.0, 1.0], "times": [2.0, 2.0], "spread": None, "examples": []}
        ),
    )
    shared = ["atlas", "tests.planted:build", "--layers", "3", "--iterations", "2", "--restarts", "2", "--workers", "1"]
    for units in ("2", "3"):
        found = CliRunner().invoke(
            app, [*shared, "--units", units, "--stats", str(root / "s.safetensors"), "-o", str(root / "atlas"), "-q"]
        )
        assert found.exit_code == 0, found.output
    assert seen == [2]


def test_the_sheets_are_there_and_the_layer_page_and_the_search_lead_to_units(visit, made):
    page = visit(made)
    assert page.locator("#unit-title").inner_text() == "0: 4 units"
    first = page.evaluate("getComputedStyle(document.querySelector('.unit-tile')).backgroundImage")
    assert first.endswith('units_files/0-0.webp")') and (made.parent / "units_files" / "0-0.webp").is_file()
    page.locator("#unit-query").fill("3 2")
    assert page.locator("#unit-count").inner_text() == "1 unit"  # 2 of layer 3
    page.locator(".unit-grid a").click()
    page.wait_for_function("document.getElementById('unit-title')?.textContent.startsWith('3 2')")
    page.locator("#unit-query").fill("3 2")
    page.locator(".unit-grid a").click()  # to where the page is already
    page.wait_for_function("document.getElementById('unit-title')?.textContent.startsWith('3 2')")
    page.locator("#unit-query").fill("green-vertical nothing")
    assert "No unit" in page.locator("#units").inner_text()


def test_a_class_has_a_page_by_its_name_with_the_units_that_speak_for_it_by_weight(visit, made):
    for address in ("#class/green%20down", "#class/Green%20Down"):
        page = visit(made, address)
        assert page.locator("#unit-title").inner_text() == "3 2 · green down"
    assert visit(made, "#class/red%20down").locator("#unit-title").inner_text() == "3 0 · red down, stripes"
    page = visit(made, "#class/5")  # a class that is called by a number; light is what channel 3 of the layer before answers to
    assert page.locator("#unit-title").inner_text() == "3 3 · 5"
    speaks = page.locator("h3:has-text('speak for it') + ul a")
    assert page.get_by_role("heading", name="Units of 1 that speak for it").count() == 1 and speaks.count() == 1
    speaks.click()
    page.wait_for_function("document.getElementById('unit-title').textContent.startsWith('1 3')")


def test_units_with_alike_weights_stand_on_a_unit_s_page(visit, tmp_path):
    net = preimage.load_network("tests.planted:build")
    with torch.no_grad():
        net.module[2].weight[1] = 0.5 * net.module[2].weight[0] + 3 * net.module[2].weight[3]
    wanted = torch.cosine_similarity(*net.module[2].weight[:2].flatten(1), dim=0).item()
    stats = collect_statistics(net, planted.write(tmp_path / "in", 1), progress=False)
    page = visit(write_microscope(stats, tmp_path / "u.html", network=net), "#3/0")
    assert page.locator("h3:has-text('alike weights') + ul").inner_text().split() == ["3", "1", f"{wanted:.2g}"]
    other = preimage.load_network("tests.planted:build")
    with pytest.raises(InputError, match="collect them again with this network"):
        write_microscope(stats, tmp_path / "other.html", network=other)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_telephone_in_both_colours(visit, made, scheme):
    page = visit(made, "#3/0", width=360, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("address", ["", "#3/0"], ids=["a layer", "a unit"])
def test_axe_finds_nothing_grave_and_tab_alone_reaches_everything(visit, made, address):
    page = visit(made, address)
    assert everywhere(page) == {}
    stops, missed, unmarked = walk(page)
    assert stops > 5 and missed == [] and unmarked == []


def test_strange_addresses_show_the_first_layer(visit, made):
    for address in ("#nowhere/3", "#3/999", "#%E0%A4%A"):
        assert "units" in visit(made, address).locator("#unit-title").inner_text()


def test_names_from_outside_are_text_on_the_page(visit, tmp_path):
    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module("</script><img src=x onerror=alert(1)>", torch.nn.Conv2d(3, 2, 3))

        def forward(self, x):
            return next(self.children())(x)

    stats = collect_statistics(Odd(), planted.write(tmp_path / "in", 1), space=planted.SPACE, progress=False)
    page = visit(write_microscope(stats, tmp_path / "u.html", classes=["<b>bold", "b"]))
    assert page.locator("#unit-title").inner_text().startswith("</script><img") and page.locator("#units b").count() == 0
    assert "<b>bold" in page.locator(".unit-grid").inner_text()


def test_the_histogram_of_equal_parts_holds_every_value(tmp_path):
    module = planted.build()[0][:3]
    stats = collect_statistics(module, planted.write(tmp_path / "in", 1), space=planted.SPACE, progress=False)
    with torch.no_grad():
        values = module(planted.SPACE.to_network(torch.cat([planted.SPACE.encode(p) for p in stats.images])))[:, 0].flatten()
    found = stats["2"].histogram(8)
    wanted = torch.histc(values, 8, min=values.min().item(), max=values.max().item())
    assert found.sum(dim=1).tolist() == [stats["2"].count] * 4
    # a bin of the kept histogram is 3 % of its value wide, so a few values change the part
    assert (found[0] - wanted).abs().sum() < 0.1 * len(values)


def test_statistics_without_crops_are_refused(tmp_path):
    stats = collect_statistics(
        planted.build()[0], planted.write(tmp_path / "in", 1), space=planted.SPACE, keep=Keep(crops=0), progress=False
    )
    with pytest.raises(InputError, match="hold no crops"):
        write_microscope(stats, tmp_path / "u.html")
