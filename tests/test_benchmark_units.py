"""The benchmark of channels: its draw is fixed, a closed unit beats nothing, natural squares are distinct, and the page shows all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarks import units
from PIL import Image

import preimage
from preimage.pixels.images import reference_images
from preimage.studies.store import Store
from preimage.tasks.result import Result

CHANNEL = units.Channel("fire5", 142)  # which the middle of the packaged astronaut excites


def keep(store: Store, recipe: str, images: torch.Tensor, status: str) -> None:
    """Put a made-up result of the plain call for `CHANNEL` into the store."""
    about = {"total": torch.zeros(1)}, {"total": torch.zeros(2, 1)}
    result = Result("maximize", images, None, torch.ones(1), *about, 2, ["a"], [0], [status], {"reopened": {}})
    store.save(units.job("squeezenet1_1", CHANNEL, recipe), result, {"ok": float(status == "ok"), "processor_seconds": 3.0}, 1.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with one image twice: as of a run that ended well, and of one whose unit closed."""
    found = Store.open(tmp_path / "store")
    images = units.nature(reference_images()[:1], units.open_network("squeezenet1_1")[0].space, least=1).images
    keep(found, "default", images, "ok")
    keep(found, "preimage2026-units", images, "the unit has closed.")
    found.fail(units.job("squeezenet1_1", CHANNEL, "mahendran2016"), "no image was found")
    return found


def test_the_channels_are_fixed_even_over_the_layers_and_none_of_those_that_a_recipe_was_chosen_on(net: preimage.Network) -> None:
    drawn = units.channels(net, units.LAYERS, 100)
    assert [c.name for c in drawn[:5]] == ["fire5 56", "fire6 375", "fire7 225", "fire8 266", "fire9 56"]
    assert len(set(drawn)) == 100 and [sum(c.layer == layer for c in drawn) for layer in units.LAYERS] == [20] * 5
    assert not any(c.unit in units.CHOSEN_ON.get(c.layer, ()) for c in drawn)
    assert units.channels(net, units.LAYERS, 7) == drawn[:7]
    assert len(units.channels(net, ["fire8"], 1000)) == 512 - 3


def test_a_job_is_the_plain_call() -> None:
    plain, own = (units.job("squeezenet1_1", CHANNEL, r) for r in ("default", "preimage2026-units"))
    assert (plain.recipe, plain.solver, plain.iterations, plain.Z, plain.C) == (None, "fast", None, None, 1e4)
    assert own.recipe == "preimage2026-units" and own.key != plain.key


def test_an_image_beats_nature_if_its_answer_is_larger_and_its_run_ended_ok(store: Store, net: preimage.Network) -> None:
    little, much = torch.tensor([0.0, 1e-6]), torch.tensor([1e9])
    good, worse, closed, failed = (
        units.measured(store, net, CHANNEL, recipe, natural)
        for recipe, natural in (("default", little), ("default", much), ("preimage2026-units", little), ("mahendran2016", little))
    )
    assert good is not None and worse is not None and closed is not None and failed is not None
    assert good["answer"] == closed["answer"] > 1e-6 and good["processor_seconds"] == 3.0
    assert [r["beats"] for r in (good, worse, closed, failed)] == [True, False, False, False]
    assert [r["ok"] for r in (good, worse, closed, failed)] == [True, True, False, False]
    assert units.measured(store, net, units.Channel("fire5", 57), "default", little) is None
    assert (
        units.table(units.beside_the_first([good, good | {"recipe": "own", "answer": 2 * good["answer"]}])).count("2.00, 2.00, 2.00") == 2
    )
    last = units.table([good, closed, failed]).splitlines()[-1]
    assert last.startswith("| mahendran2016 | all | 1 | 0.00 [0.00, 0.79] of 1 | 1 |")


def test_natural_squares_are_distinct_and_as_many_as_asked_for(net: preimage.Network) -> None:
    assert net.space.size is not None
    found = units.nature(reference_images(), net.space, least=7)
    assert len(found.images) == 9 and found.photograph == [0, 1, 2] * 3
    assert len({image.numpy().tobytes() for image in found.images}) == 9
    assert torch.equal(found.images[:1], net.space.decode(net.space.encode(reference_images()[0])).clamp(0, 255))
    answers = torch.tensor([5.0, 1.0, 9.0, 8.0, 0.0, 7.0, 2.0, 6.0, 3.0])
    assert units.strongest(answers, found) == [2, 3, 7]


def test_the_page_shows_the_images_the_photographs_and_who_found_none(store: Store, net: preimage.Network, tmp_path: Path) -> None:
    seen = units.nature(reference_images(), net.space, least=1)
    natural = units.natural_answers(net, [CHANNEL], seen)
    found = [units.measured(store, net, CHANNEL, r, natural[CHANNEL]) for r in ("default", "preimage2026-units")]
    rows = [row for row in found if row is not None]
    units.page(tmp_path / "units.html", [CHANNEL, units.Channel("fire6", 1)], rows, store, net, net, seen, natural)
    text = (tmp_path / "units.html").read_text()
    assert text.count("<img src=") == text.count("data:image/") == 5
    assert "fire5 142 (sample)" in text and "fire6 1" not in text
    assert "fire5 142, preimage2026-units: the unit has closed." in text
    assert all(word in text for word in units.words(net, tuple(seen.paths)))
    units.sheet(tmp_path / "units.png", [CHANNEL], rows, store, net)
    with Image.open(tmp_path / "units.png") as picture:
        assert picture.height > picture.width  # a row a recipe
