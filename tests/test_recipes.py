"""Published methods as recipes: each update against a second, plain writing, and each on any number of channels."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import preimage
from preimage.energy.octaves import Octaves
from preimage.energy.scores import LogProbability
from preimage.energy.texture import Sorted, Texture
from preimage.errors import InputError
from preimage.methods.gatys2015 import with_style_of
from preimage.methods.recipe import TASKS, Parts, recipe_named
from preimage.pixels.images import reference_images
from preimage.solvers.ascent import Ascent, TidiedAscent, blurred, measured
from preimage.solvers.methods import Adam
from preimage.solvers.run import Stage

SPACE = preimage.PixelSpace(12, "rgb", mean=(100.0, 110.0, 120.0))
RECIPES = preimage.recipes()
FOR = {task: [name for name, recipe in RECIPES.items() if getattr(recipe, task) is not None] for task in TASKS}


def weights(channels=3, units=4):
    return torch.randn((units, channels, 5, 5), generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.02


def scores(x):
    """(B, C, H, W) -> (B, 4): a convolution, a soft rectifier and the mean over the map."""
    return F.softplus(F.conv2d(x, weights(x.shape[1]).to(x), stride=2)).mean(dim=(2, 3))


def maps(x):
    return F.softplus(F.conv2d(x, weights(x.shape[1]).to(x), stride=2))


def photograph(seed=3, channels=3, side=12):
    return torch.rand((1, channels, side, side), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 160 - 80


def slope(function, x):
    """The gradient of a function of one image, as numpy."""
    leaf = torch.from_numpy(x)[None].requires_grad_()
    return torch.autograd.grad(function(leaf).sum(), leaf)[0][0].numpy()


def within(x):
    mean = np.array(SPACE.mean).reshape(3, 1, 1)
    return np.clip(x, -mean, 255 - mean)


def short(name, task="maximize", **given):
    """A recipe with other parts, as few steps."""
    recipe = recipe_named(name)
    return replace(recipe, **{task: replace(recipe.parts(task), **given)})


def from_image(name, steps, unit=2, **given):
    recipe = short(name, stages=(Stage(steps),), **given)
    phi = preimage.from_callable(scores, SPACE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", preimage.PreimageWarning)  # so few steps need not end lower
        found = preimage.maximize(phi, unit, recipe=recipe, start=photograph(), dtype=torch.float64, progress=False)
    return (found.images[0].double() - SPACE.mean_colour.double()).numpy()


def test_erhan_climbs_on_a_sphere():
    x = photograph()[0].numpy()
    x *= 60.0 / np.sqrt((x**2).mean())
    for _ in range(4):
        g = slope(lambda v: scores(v)[:, 2], x)
        x = x + 4.0 * g / np.sqrt((g**2).mean())
        x *= 60.0 / np.sqrt((x**2).mean())
    np.testing.assert_allclose(from_image("erhan2009", 4), x, atol=1e-4)


def test_simonyan_climbs_the_score_less_the_squared_norm_with_momentum():
    x, v = photograph()[0].numpy(), 0.0
    for _ in range(4):
        g = slope(lambda i: scores(i)[:, 2], x) - 1000.0 / (80.0**2 * 144) * 2 * x
        v = 0.9 * v + g / np.sqrt((g**2).mean())
        x = x + 0.5 * v
    np.testing.assert_allclose(from_image("simonyan2014", 4), x, atol=1e-4)


def test_simonyan_begins_with_the_mean_colour():
    phi = preimage.from_callable(scores, SPACE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", preimage.PreimageWarning)
        found = preimage.maximize(phi, 2, recipe=short("simonyan2014", stages=(Stage(1),), solver=Ascent(rate=0.0)), progress=False)
    torch.testing.assert_close(found.images, SPACE.mean_colour.expand_as(found.images))


def test_nguyen_and_goodfellow_climb_the_probability_within_the_range_of_pictures():
    def certain(v):
        return scores(v).log_softmax(dim=1)[:, 2]

    x = photograph()[0].numpy()
    g = slope(certain, x)
    np.testing.assert_allclose(from_image("goodfellow2015", 1), within(x + 0.007 * 255 * np.sign(g)), atol=1e-4)
    for _ in range(3):
        g = slope(certain, x)
        x = within(x + 0.5 * g / np.sqrt((g**2).mean()))
    np.testing.assert_allclose(from_image("nguyen2015", 3), x, atol=1e-4)


@pytest.mark.parametrize("preset", ["norm", "decay", "blur", "contribution"])
def test_yosinski_tidies_up_after_each_step(preset):
    gaussian_filter = pytest.importorskip("scipy.ndimage").gaussian_filter
    table = {  # decay, width, every, percentiles of the norm and of the contribution: their Table 1
        "norm": (0.0, 0.5, 4, 50, 0),
        "decay": (0.3, 0.0, 0, 20, 0),
        "blur": (0.0001, 1.0, 4, 0, 0),
        "contribution": (0.0, 0.5, 4, 0, 90),
    }
    decay, width, every, low, least = table[preset]
    rate = {"decay": 20.0}.get(preset, 4.0)
    x = photograph()[0].numpy()
    for step in range(5):
        g = slope(lambda v: scores(v)[:, 2], x)
        x = (x + rate * g / np.sqrt((g**2).mean())) * (1 - decay)
        if every and step % every == 0:
            x = np.stack([gaussian_filter(channel, width) for channel in x])
        if low:
            norm = np.sqrt((x**2).sum(0))
            x = x * (norm >= np.percentile(norm, low))
        if least:
            part = np.abs((x * g).sum(0))
            x = x * (part >= np.percentile(part, least))
        x = within(x)
    np.testing.assert_allclose(from_image(f"yosinski2015-{preset}", 5), x, atol=1e-4)


def test_deepdream_climbs_the_squared_norm_through_octaves_rolled_at_random():
    transform = Octaves(count=2, ratio=2.0, shift=3, enlarged=False)
    recipe = short("deepdream2015", "caricature", transform=transform, stages=(Stage(4),))
    phi, x0 = preimage.from_callable(maps, SPACE), photograph()
    found = preimage.caricature(phi, x0, recipe=recipe, dtype=torch.float64, progress=False)
    from preimage.solvers.starts import generator

    draws = transform.draw([generator(s, "jitter") for s in found.seeds], 4)
    x = x0[0].numpy()
    for k, down, right in (views[0][0] for views in draws):

        def seen(v, k=k, down=down, right=right):
            small = v.reshape(1, 3, 6, 2, 6, 2).mean(dim=(3, 5)) if k else v
            return torch.roll(small, (down, right), dims=(2, 3))

        g = slope(lambda v, seen=seen: maps(seen(v)).square().sum()[None], x)
        x = within(x + 1.5 * g / np.abs(g).mean())
    assert [views[0][0][0] for views in draws] == [1, 1, 0, 0]
    np.testing.assert_allclose((found.images[0].double() - SPACE.mean_colour.double()).numpy(), x, atol=1e-4)


def test_szegedy_lowers_the_probability_s_logarithm_and_the_distance_together():
    x0, phi = photograph(), preimage.from_callable(scores, SPACE)
    found = preimage.maximize(phi, 2, recipe="szegedy2014", start=x0, iterations=8, dtype=torch.float64, progress=False)
    x = found.images.double() - SPACE.mean_colour.double()
    loss = -scores(x).log_softmax(dim=1)[0, 2].item()
    apart = 30.0 * ((x - x0) ** 2).sum().item() / (12 * 12 * 80.0**2)
    assert found.energy["loss"].item() == pytest.approx(loss, rel=1e-4)
    assert found.energy["nearby"].item() == pytest.approx(apart, rel=1e-3)
    assert loss + apart < -scores(x0).log_softmax(dim=1)[0, 2].item()


def test_a_probability_is_the_logarithm_of_a_softmax_of_means_over_the_map():
    features, target = torch.randn(2, 5, 3, 3, dtype=torch.float64), torch.zeros(2, 5, 1, 1, dtype=torch.float64)
    target[:, 1] = 1.0
    means = features.numpy().mean((2, 3))
    plain = -np.log(np.exp(means[:, 1]) / np.exp(means).sum(1))
    np.testing.assert_allclose(LogProbability()(features, target).numpy(), plain, rtol=1e-10)
    with pytest.raises(InputError, match="of a class"):
        LogProbability().scale(-target)


def test_sorted_values_are_compared_channel_by_channel_over_the_target_s_norm():
    a, b = torch.randn(1, 3, 4, 4, dtype=torch.float64), torch.randn(1, 3, 4, 4, dtype=torch.float64)
    plain = sum(((np.sort(p.ravel()) - np.sort(q.ravel())) ** 2).sum() for p, q in zip(a[0].numpy(), b[0].numpy(), strict=True))
    assert Sorted()(a, b).item() == pytest.approx(plain / (b.numpy() ** 2).sum(), rel=1e-10)


def test_a_texture_is_the_mean_over_layers_up_to_the_one_named():
    net = preimage.load_network("squeezenet1_1")
    phi = net.layer("fire3")
    found = preimage.invert(phi, reference_images()[0], recipe="gatys2015", iterations=2, progress=False, seed=1)
    parts = [name for name in found.energy if name.startswith("loss.")]
    assert parts == ["loss.relu_conv1", "loss.pool1", "loss.fire2", "loss.fire3"]
    originals, images = (i - net.space.mean_colour for i in (found.originals, found.images))
    by_hand = 0.0
    for name in (p.removeprefix("loss.") for p in parts):
        a, b = (net.layer(name)(v).flatten(2)[0] for v in (images, originals))
        a, b = a @ a.T, b @ b.T
        by_hand += 100.0 / 4 * ((a - b).square().sum() / b.square().sum()).item()
    assert found.energy["loss"].item() == pytest.approx(by_hand, rel=1e-3)


def test_a_style_is_the_texture_of_a_picture_beside_the_features_of_another():
    pictures = reference_images()
    net = preimage.load_network("squeezenet1_1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", preimage.PreimageWarning)
        found = preimage.invert(net.layer("pool1"), pictures[0], recipe=with_style_of(pictures[1], layers=2), iterations=2, progress=False)
    assert [n for n in found.energy if "." in n] == ["loss.pool1", "loss.relu_conv1", "loss.pool1 2"]


def normalised():
    torch.manual_seed(2)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(320, 6)
    )
    for m in (module[1], module[4]):
        m.running_mean.uniform_(-3, 3)
        m.running_var.uniform_(0.5, 3)
    return module


def apart(values, norm):
    """The distances of the mean and of the variance of one image's values (C, H, W) from what a normalisation has kept."""
    mean, var = values.mean((1, 2)), values.var((1, 2))
    return np.linalg.norm(mean - norm.running_mean.numpy()) + np.linalg.norm(var - norm.running_var.numpy())


def test_deepinversion_sums_the_distances_of_means_and_variances_at_every_normalisation():
    module = normalised()
    phi = preimage.Layer(module, "6", space=SPACE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", preimage.PreimageWarning)
        found = preimage.maximize(phi, 3, recipe="yin2020", iterations=3, progress=False)
    module.eval()
    with torch.no_grad():
        a = module[0](SPACE.to_network(found.images - SPACE.mean_colour))
        b = module[3](module[2](module[1](a)))
        out = module[6](module[5](module[4](b)))
    plain = apart(a[0].numpy(), module[1]) + apart(b[0].numpy(), module[4])
    asked = 20.0 * (-out.log_softmax(dim=1)[0, 3].item() + 0.01 * plain)
    assert found.energy["loss"].item() == pytest.approx(asked, rel=1e-3)
    assert not module[1]._forward_pre_hooks
    with pytest.raises(InputError, match="no batch normalisation"):
        preimage.maximize(preimage.from_callable(scores, SPACE), 1, recipe="yin2020", progress=False)


@pytest.mark.parametrize("name", [name for name in FOR["maximize"] if name != "yin2020"])
def test_a_method_for_units_runs_on_grey_colours_and_many_channels(name):
    for channels, count in (("grey", 1), ("rgb", 3), (5, 5)):
        space = preimage.PixelSpace(16, channels, mean=tuple(100.0 + k for k in range(count)))
        phi = preimage.from_callable(scores, space)
        start = photograph(channels=count, side=16).float() if recipe_named(name).maximize.start == "image" else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", preimage.PreimageWarning)
            found = preimage.maximize(phi, 1, recipe=name, start=start, iterations=2, progress=False)
        assert found.images.shape == (1, count, 16, 16) and bool(torch.isfinite(found.images).all())
        assert found.config["recipe"] == name and 1 <= found.evaluations <= 2


@pytest.mark.parametrize(("task", "name"), [(task, name) for task in ("invert", "caricature") for name in FOR[task]])
def test_a_method_for_photographs_runs_on_grey_colours_and_many_channels(task, name):
    for channels, count in (("grey", 1), ("rgb", 3), (5, 5)):
        space = preimage.PixelSpace(16, channels, mean=tuple(100.0 + k for k in range(count)))
        phi = preimage.from_callable(maps, space)
        if name == "inverse2026" and count == 5:
            with pytest.raises(preimage.InputError, match="have 1 or 3: fit one on images of your own"):
                preimage.invert(phi, photograph(channels=5, side=16).float(), recipe=name, progress=False)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", preimage.PreimageWarning)
            found = getattr(preimage, task)(phi, photograph(channels=count, side=16).float(), recipe=name, iterations=2, progress=False)
        assert found.images.shape == (1, count, 16, 16) and bool(torch.isfinite(found.images).all())


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_recipe_has_a_source_a_sentence_and_parts_that_survive_json(name):
    recipe = RECIPES[name]
    assert recipe.name == name and recipe.source and recipe.sentence.endswith(".")
    for parts in (getattr(recipe, task) for task in TASKS if getattr(recipe, task) is not None):
        assert parts.is_plain() and Parts.from_plain(json.loads(json.dumps(parts.to_plain()))) == parts


def test_another_constant_of_a_recipe_is_another_job(monkeypatch):
    from preimage.methods import recipe as module
    from preimage.studies.jobs import Job

    def key():
        return Job(experiment="methods", task="maximize", C=1.0, network="squeezenet1_1", unit=3, recipe="lucid2017").key

    before = key()
    assert key() == before
    monkeypatch.setitem(module.RECIPES._entries, "lucid2017", short("lucid2017", solver=Adam(rate=1.0)))
    assert key() != before


def test_a_method_that_changes_an_image_asks_for_one():
    phi = preimage.from_callable(scores, SPACE)
    with pytest.raises(InputError, match="start=IMAGE"):
        preimage.maximize(phi, 1, recipe="goodfellow2015", progress=False)
    with pytest.raises(InputError, match="give start="):
        preimage.maximize(phi, 1, regularizers={"nearby": preimage.Nearby(to="start")}, progress=False)


def test_a_start_of_another_size_is_brought_to_the_canvas_as_a_picture_would_be():
    phi, flat = preimage.from_callable(scores, SPACE), torch.full((1, 3, 20, 31), 40.0)
    found = preimage.maximize(phi, 1, start=flat, recipe=short("goodfellow2015", solver=Ascent(0.01, "sign")), progress=False)
    torch.testing.assert_close(found.images, 40.0 + SPACE.mean_colour.expand(1, 3, 12, 12), atol=0.011, rtol=0)


def test_a_box_keeps_pixels_and_steps_of_zero_gradient_move_nothing():
    assert torch.equal(measured(torch.zeros(2, 1, 2, 2), "rms"), torch.zeros(2, 1, 2, 2))
    assert torch.equal(blurred(torch.full((1, 2, 3, 3), 4.0), 2.0).round(decimals=4), torch.full((1, 2, 3, 3), 4.0))
    for wrong in (
        lambda: Ascent(measure="long"),
        lambda: TidiedAscent(blur_every=0),
        lambda: Adam(schedule="slow"),
        lambda: Texture(layers=0),
    ):
        with pytest.raises(InputError):
            wrong()
    with pytest.raises(InputError, match="mean colour"):
        preimage.energy.parameterizations.Box(low=130.0).at((3, 4, 4), SPACE)
    assert math.isinf(RECIPES["simonyan2014"].parts("maximize").parameterization.high)


def test_the_page_of_methods_is_what_its_program_makes_of_the_recipes():
    from importlib.util import module_from_spec, spec_from_file_location
    from pathlib import Path

    docs = Path(__file__).parent.parent / "docs"
    spec = spec_from_file_location("make_recipes", docs / "make_recipes.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (docs / "recipes.md").read_text(encoding="utf-8")
    assert module.page() == text, "run: python docs/make_recipes.py"
    assert all(f"\n## {name}\n" in text for name in RECIPES)
