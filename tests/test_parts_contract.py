"""What every registered part of the energy keeps, whatever it is: samples apart, true derivatives, plain data, any size and channels."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from preimage.energy.deep_prior import DeepPrior
from preimage.energy.energy import Energy, Problem
from preimage.energy.losses import LOSSES, CrossEntropy, Euclidean, as_loss
from preimage.energy.parameterizations import PARAMETERIZATIONS
from preimage.energy.regularizers import REGULARIZERS, PixelBall, add_gradient
from preimage.energy.scores import LogProbability
from preimage.energy.styles import GramMatrix
from preimage.energy.terms import FeatureTerm
from preimage.energy.transforms import TRANSFORMS
from preimage.energy.views import Colour, Compose, Noise
from preimage.errors import InputError
from preimage.pixels.pixelspace import PixelSpace
from preimage.plain import from_plain, is_plain, parse, spell, to_plain
from preimage.solvers.loop import minimize
from preimage.solvers.plans import solver_names
from preimage.solvers.run import SOLVERS, Stage

SHAPES = [(1, 9, 7), (3, 16, 11), (5, 8, 8)]
REGISTRIES = {"loss": LOSSES, "transform": TRANSFORMS, "parameterization": PARAMETERIZATIONS, "regularizer": REGULARIZERS}


def members(registry):
    made = []
    for name in registry:
        for k, given in enumerate(registry.examples(name)):
            try:
                part = registry[name](**given)
            except TypeError:  # one that only an object of the user's can make, as a given image
                continue
            made.append(pytest.param(part, id=f"{name}{k}"))
    return made


ALL = [pytest.param(kind, p.values[0], id=f"{kind}-{p.id}") for kind, registry in REGISTRIES.items() for p in members(registry)]


def normal(shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def generators(count):
    return [torch.Generator().manual_seed(100 + s) for s in range(count)]


def space(channels):
    return PixelSpace(None, {1: "grey", 3: "rgb"}.get(channels, channels), mean=tuple(100.0 + k for k in range(channels)))


def target_of(loss, shape, count=2):
    target = normal((count, *shape), 5).abs()
    if isinstance(loss, (CrossEntropy, LogProbability)):
        target = torch.zeros_like(target)
        target[:, 1] = 1.0
    return target


@pytest.mark.parametrize(("kind", "part"), ALL)
def test_a_part_is_the_same_after_plain_data_json_and_text(kind, part):
    registry = REGISTRIES[kind]
    if not is_plain(part, registry):
        pytest.fail(f"{part} is registered and cannot be kept")
    assert from_plain(json.loads(json.dumps(to_plain(part, registry))), registry) == part
    assert parse(spell(part, registry), registry) == part
    assert isinstance(type(part).revision if hasattr(type(part), "revision") else 1, int)
    assert hash(part) is not None and type(part).__doc__


# losses


@pytest.mark.parametrize("shape", [(4, 3, 3), (5, 6)])
@pytest.mark.parametrize("loss", members(LOSSES))
def test_a_loss_keeps_samples_apart_knows_its_derivative_and_is_over_its_scale(loss, shape):
    target, features = target_of(loss, shape), normal((2, *shape), 1)
    scale = loss.scale(target)
    values = loss(features, target, scale)
    assert values.shape == scale.shape == (2,)
    torch.testing.assert_close(values, loss(features, target))
    torch.testing.assert_close(loss(features, target, 3.0 * scale), values / 3.0)
    for b in range(2):
        torch.testing.assert_close(loss(features[b : b + 1], target[b : b + 1]), values[b : b + 1])
    changed = features.clone()
    changed[1] += 1
    assert torch.equal(loss(changed, target)[0], values[0])
    assert torch.autograd.gradcheck(lambda f: loss(f, target, scale), (features.clone().requires_grad_(),))
    leaf = features.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(leaf, target, scale).sum(), leaf)
    found, given = loss.differentiate(features, target, scale)
    torch.testing.assert_close(found, values)
    torch.testing.assert_close(given, slope)


@pytest.mark.parametrize("loss", members(LOSSES))
def test_a_loss_and_its_slope_are_finite_at_features_that_are_zero_or_flat(loss):
    target = target_of(loss, (4, 3, 3), 1).float()
    for level in (0.0, 2.0):
        flat = torch.full((1, 4, 3, 3), level)
        values, slope = loss.differentiate(flat, target, loss.scale(target))
        leaf = flat.clone().requires_grad_()
        (auto,) = torch.autograd.grad(loss(leaf, target).sum(), leaf)
        assert bool(torch.isfinite(values).all() and torch.isfinite(slope).all() and torch.isfinite(auto).all())


@pytest.mark.parametrize("loss", members(LOSSES))
def test_one_target_serves_all_samples(loss):
    target, features = target_of(loss, (4, 3, 3), 1), normal((2, 4, 3, 3), 1)
    values, slope = loss.differentiate(features, target, loss.scale(target).expand(2))
    twice = loss.differentiate(features, target.repeat(2, 1, 1, 1), loss.scale(target).expand(2))
    torch.testing.assert_close(values, twice[0])
    torch.testing.assert_close(slope, twice[1])


def test_the_weight_of_a_term_counts_for_the_gradient_of_a_function_as_for_its_value():
    loss = as_loss(lambda f, t: (f - t).abs().flatten(1).sum(dim=1))
    term = FeatureTerm(loss, lambda x: x, torch.zeros(1, 1, 2, 2), C=10.0)
    values, gradient = term.differentiate(torch.ones(1, 1, 2, 2).requires_grad_())
    assert values["loss"].item() == 40.0
    assert torch.equal(gradient, torch.full((1, 1, 2, 2), 10.0))


def test_the_gram_matrix_equals_a_plain_writing():
    f, t = normal((1, 3, 4, 5), 1), normal((1, 3, 4, 5), 2)

    def gram(features):
        return sum(np.outer(features[:, p, q], features[:, p, q]) for p in range(4) for q in range(5))

    a, b = gram(f[0].numpy()), gram(t[0].numpy())
    np.testing.assert_allclose(GramMatrix()(f, t).item(), ((a - b) ** 2).sum() / (b**2).sum(), rtol=1e-10)
    np.testing.assert_allclose(GramMatrix(normalise=False)(f, t).item(), ((a - b) ** 2).sum() / (4 * 3**2 * 20**2), rtol=1e-10)


@pytest.mark.parametrize("loss", [p for p in members(LOSSES) if getattr(p.values[0], "normalise", None) is True])
def test_a_target_that_is_zero_is_refused_where_it_is_the_divisor(loss):
    with pytest.raises(InputError, match="all zero"):
        loss.scale(torch.zeros(1, 4, 3, 3))


# transforms


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("transform", members(TRANSFORMS))
def test_a_view_has_the_bits_of_its_sample_alone_and_so_has_its_adjoint(transform, shape):
    x = normal((3, shape[0], *transform.canvas(shape[1:])), dtype=torch.float32) * 40
    views = transform.draw(generators(3), 2)
    assert len(views) == 2 and all(len(step) == transform.views and all(len(v) == 3 for v in step) for step in views)
    assert views == transform.draw(generators(3), 2)  # plain values, the same of the same generators
    view = views[1][0]
    assert json.loads(json.dumps(view)) is not None
    seen, add = transform.show(x, view)
    assert seen.shape == (3, *shape) and torch.equal(seen, transform(x, view)) and not seen.requires_grad
    back, of_seen = torch.ones_like(x), normal(seen.shape, 3, torch.float32)
    add(back, of_seen)
    for b in range(3):
        one, add_one = transform.show(x[b : b + 1], [view[b]])
        alone = torch.ones_like(x[b : b + 1])
        add_one(alone, of_seen[b : b + 1])
        assert torch.equal(one[0], seen[b]) and torch.equal(alone[0], back[b])


@pytest.mark.parametrize("transform", members(TRANSFORMS))
def test_the_adjoint_of_a_view_is_that_of_its_linear_part(transform):
    shape = (3, *transform.canvas((9, 8)))
    x, y = normal((2, *shape), 1), normal((2, *shape), 2)
    view = transform.draw(generators(2), 1)[0][0]
    seen, add = transform.show(x, view)
    moved = transform(x + y, view) - seen  # T(x + y) - T(x): what is added, as noise, is not linear
    of_seen, back = normal(seen.shape, 3), torch.zeros_like(x)
    add(back, of_seen)
    torch.testing.assert_close((moved * of_seen).sum(dim=(1, 2, 3)), (y * back).sum(dim=(1, 2, 3)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("transform", members(TRANSFORMS))
def test_the_still_view_is_the_centre_of_the_canvas_to_the_last_bit(transform):
    size = transform.canvas((8, 6))
    x = normal((2, 3, *size), dtype=torch.float32)
    top, left = (size[0] - 8) // 2, (size[1] - 6) // 2
    assert torch.equal(transform.crop(x), x[..., top : top + 8, left : left + 6])
    assert transform.whole == (size == (8, 6))
    moving = transform.draw(generators(2), 1)[0][0]
    mixed = transform(x, [transform.still, moving[1]])
    assert torch.equal(mixed[0], transform.crop(x)[0]) and torch.equal(mixed[1], transform(x, moving)[1])
    if transform.fixed:
        assert torch.equal(transform(x, moving), transform.crop(x))


@pytest.mark.parametrize("transform", [p for p in members(TRANSFORMS) if not isinstance(p.values[0], (Noise, Colour, Compose))])
def test_a_flat_image_stays_flat_in_every_view(transform):
    x = torch.full((2, 3, *transform.canvas((8, 6))), 25.0)
    seen = transform(x, transform.draw(generators(2), 1)[0][0])
    noise = getattr(transform, "noise", 0.0)
    assert bool(((seen - 25.0).abs() < 1e-4 + 6 * noise).all())


# parameterizations


def coordinates(parameterization, shape):
    return parameterization.at(shape, space(shape[0]))


def started(parameterization, shape, count=2, dtype=torch.float64):
    written = coordinates(parameterization, shape)
    x = (normal((count, *shape), 7) * 10).to(dtype)
    return written, written.start(x, generators(count))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("parameterization", members(PARAMETERIZATIONS))
def test_coordinates_have_four_dimensions_keep_samples_apart_and_pull_gradients_back(parameterization, shape):
    written, z = started(parameterization, shape)
    assert z.dim() == 4 and len(z) == 2
    assert torch.equal(z, started(parameterization, shape)[1])  # of the same generators
    x, pull = written.show(z)
    assert x.shape == (2, *shape) and bool(torch.isfinite(x).all()) and not x.requires_grad
    of_x = normal(x.shape, 3)
    gradient = pull(of_x)
    assert gradient.shape == z.shape
    # along any direction: <of_x, g(z + e d) - g(z - e d)> / 2e = <gradient, d>
    d, e = normal(z.shape, 4), 1e-4
    slope = ((written.decode(z + e * d) - written.decode(z - e * d)) * of_x).sum(dim=(1, 2, 3)) / (2 * e)
    torch.testing.assert_close((gradient * d).sum(dim=(1, 2, 3)), slope, rtol=1e-5, atol=1e-6)
    changed = z.clone()
    changed[1] += 3
    torch.testing.assert_close(written.decode(changed)[0], x[0], rtol=1e-12, atol=1e-10)
    alone = started(parameterization, shape)[0].decode(z[:1])
    torch.testing.assert_close(alone[0], x[0], rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("parameterization", members(PARAMETERIZATIONS))
def test_an_image_is_encoded_to_coordinates_that_decode_to_it_or_refused_in_words(parameterization, shape):
    written = coordinates(parameterization, shape)
    x = (normal((2, *shape), 2) * 25).clamp(-90, 90)
    if isinstance(parameterization, DeepPrior):
        with pytest.raises(InputError, match="begin from noise"):
            written.encode(x)
        return
    z = written.encode(x)
    again = written.decode(z)
    if "magnitude" not in to_plain(parameterization, PARAMETERIZATIONS)["name"]:
        torch.testing.assert_close(again, x, rtol=1e-6, atol=1e-4)
    # what g can show, it gives back
    torch.testing.assert_close(written.decode(written.encode(again)), again, rtol=1e-4, atol=0.05)
    flat = written.show(written.encode(torch.zeros(1, *shape, dtype=torch.float64)))
    assert bool(torch.isfinite(flat[0]).all() and torch.isfinite(flat[1](torch.ones_like(flat[0]))).all())


@pytest.mark.parametrize("parameterization", members(PARAMETERIZATIONS))
def test_the_bound_is_kept_by_projection_or_the_range_by_the_parameterization_itself(parameterization):
    shape, ball = (3, 16, 11), PixelBall(30.0)
    written, z = started(parameterization, shape)
    x = written.decode(written.project(z + 40 * normal(z.shape, 1), ball))
    levels = space(3).decode(x)
    norms = x.square().sum(dim=1).sqrt()
    assert bool((norms <= 30.001).all()) or bool(((levels >= 0) & (levels <= 255)).all())
    inside = written.project(z, PixelBall(1e6))
    torch.testing.assert_close(inside, z, rtol=0, atol=0)


# regularizers


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("regularizer", members(REGULARIZERS))
def test_a_regularizer_keeps_samples_apart_and_is_finite_at_flat_images(regularizer, shape):
    x = normal((2, *shape), 1) * 30
    gradient = torch.zeros_like(x)
    values = add_gradient(regularizer, x, gradient)
    assert values.shape == (2,)
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(regularizer(leaf).sum(), leaf)
    torch.testing.assert_close(gradient, slope)
    changed = x.clone()
    changed[1] += 3
    torch.testing.assert_close(regularizer(changed)[0], values[0], rtol=1e-12, atol=0)
    flat = torch.zeros(1, *shape)
    gradient = torch.zeros_like(flat)
    assert bool(torch.isfinite(add_gradient(regularizer, flat, gradient)).all() and torch.isfinite(gradient).all())


# all together


def quarter(x):
    return torch.nn.functional.avg_pool2d(x, 2)


def problem_of(parameterization, transform, from_noise=False):
    target = quarter(normal((1, 3, 12, 10), 3, torch.float32) * 30)
    energy = Energy(FeatureTerm(Euclidean(), quarter, target, C=50.0), transform=transform)
    return Problem(energy, parameterization, space=space(3), from_noise=from_noise)


def canvases(transform, count=2):
    return normal((count, 3, *transform.canvas((12, 10))), 4, torch.float32) * 20


@pytest.mark.parametrize("solver", solver_names())
@pytest.mark.parametrize("parameterization", members(PARAMETERIZATIONS))
def test_every_parameterization_runs_with_every_solver_and_lowers_the_energy(parameterization, solver):
    transform = TRANSFORMS["crops"](low=0.8)
    problem = problem_of(parameterization, transform, from_noise=isinstance(parameterization, DeepPrior))
    stages = [Stage(4), Stage(76 if solver == "evolution" else 16, jitter=False)]  # one that has no gradient needs more tries
    found = minimize(problem, canvases(transform), solver=solver, stages=stages)
    assert found.x.shape == (2, 3, 12, 10) and bool(torch.isfinite(found.x).all())
    assert bool((found.energy["total"] < found.trace["total"][0]).all())


@pytest.mark.parametrize("name", ["adam", "paper"])
@pytest.mark.parametrize("transform", members(TRANSFORMS))
def test_every_transform_runs_and_a_sample_has_the_same_bits_alone_and_in_a_batch(transform, name):
    solver, x0 = SOLVERS[name](), canvases(transform)
    problem, stages = problem_of(PARAMETERIZATIONS["fourier"](range="none"), transform), [Stage(3), Stage(2, jitter=False)]
    both = minimize(problem, x0, solver=solver, stages=stages, generators=generators(2))
    one = minimize(problem, x0[1:], solver=solver, stages=stages, generators=generators(2)[1:])
    assert torch.equal(both.x[1], one.x[0]) and torch.equal(both.energy["total"][1:], one.energy["total"])
