"""The page of every unit: what is on it, its addresses, its search, its keys, and what it makes of a store."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

from preimage.cli import app
from preimage.errors import InputError
from preimage.report import write_microscope
from preimage.statistics import Keep, collect_statistics

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
            "-o",
            root / "atlas",
            "-q",
        ],
        ["microscope", root / "s.safetensors", "--store", root / "atlas", "-o", root / "units.html", "-q"],
    ]
    for arguments in commands:
        found = CliRunner().invoke(app, [str(a) for a in arguments])
        assert found.exit_code == 0, found.output
    return root / "units.html"


def test_a_unit_has_an_address_with_its_images_examples_histogram_and_likes(visit, made):
    page = visit(made, "#3/0")
    assert page.locator("#unit-title").inner_text() == "3 0"
    widths = "Promise.all([...document.querySelectorAll('.unit-shots img')].map(i => i.decode().then(() => i.naturalWidth)))"
    assert len(page.evaluate(widths)) == 2 and min(page.evaluate(widths)) > 0
    captions = page.locator(".unit-examples figcaption").all_inner_texts()
    assert len(captions) == 4 and all("red-vertical" in c for c in captions[:2])
    assert page.locator(".unit-histogram rect").count() == 32
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.getElementById('unit-title').textContent === '3 1'")
    assert page.url.endswith("#3/1")
    page.go_back()
    page.wait_for_function("document.getElementById('unit-title').textContent === '3 0'")


def test_the_sheets_are_there_and_the_layer_page_and_the_search_lead_to_units(visit, made):
    page = visit(made)
    assert page.locator("#unit-title").inner_text() == "0: 4 units"
    first = page.evaluate("getComputedStyle(document.querySelector('.unit-tile')).backgroundImage")
    assert first.endswith('units_files/0-0.webp")') and (made.parent / "units_files" / "0-0.webp").is_file()
    page.locator("#unit-query").fill("3 2")
    assert page.locator("#unit-count").inner_text() == "1 unit"  # 2 of layer 3
    page.locator(".unit-grid a").click()
    page.wait_for_function("document.getElementById('unit-title')?.textContent === '3 2'")
    page.locator("#unit-query").fill("3 2")
    page.locator(".unit-grid a").click()  # to where the page is already
    page.wait_for_function("document.getElementById('unit-title')?.textContent === '3 2'")
    page.locator("#unit-query").fill("green-vertical nothing")
    assert "No unit" in page.locator("#units").inner_text()


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
