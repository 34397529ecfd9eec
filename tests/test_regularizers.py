"""Range, variation, jitter and bound: properties first, then a second writing, then gradcheck."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from preimage.energy.regularizers import REGULARIZERS, AlphaNorm, PixelBall, TVBeta, add_gradient
from preimage.energy.transforms import Jitter
from preimage.errors import InputError
from preimage.inverses import Nearby

from . import reference

sizes = st.tuples(st.integers(1, 3), st.sampled_from([1, 2, 3]), st.integers(2, 7), st.integers(2, 7))
assert REGULARIZERS["nearby"] is Nearby  # registered when it is imported
CASES = [(name, dict(kw)) for name in REGULARIZERS for kw in REGULARIZERS.examples(name)]


def image(shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 40


@pytest.mark.parametrize(("name", "kw"), CASES)
@given(shape=sizes, seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_every_regularizer_is_zero_at_zero_and_positive_elsewhere_sample_by_sample(name, kw, shape, seed):
    regularizer = REGULARIZERS[name](**kw)
    x = image(shape, seed)
    values = regularizer(x)
    assert values.shape == (shape[0],)
    assert bool((values > 0).all())
    assert bool((regularizer(torch.zeros_like(x)) == 0).all())
    alone = torch.cat([regularizer(x[b : b + 1]) for b in range(shape[0])])
    torch.testing.assert_close(values, alone, rtol=1e-12, atol=0)  # the order of the sum may differ


@pytest.mark.parametrize(("name", "kw"), CASES)
def test_every_regularizer_is_homogeneous_and_blind_to_mirrors_of_the_border(name, kw):
    regularizer = REGULARIZERS[name](**kw)
    x = image((2, 3, 6, 5))
    power = kw.get("alpha", kw.get("beta", 2.0 if name in ("nearby", "l2") else 6.0))
    torch.testing.assert_close(regularizer(2 * x), 2**power * regularizer(x))
    torch.testing.assert_close(regularizer(-x), regularizer(x))
    torch.testing.assert_close(regularizer(x.transpose(2, 3)), regularizer(x))  # rows and columns count alike


@pytest.mark.parametrize(("name", "kw"), CASES)
def test_every_regularizer_passes_gradcheck_and_is_finite_at_flat_pixels(name, kw):
    regularizer = REGULARIZERS[name](**kw)
    assert torch.autograd.gradcheck(regularizer, (image((2, 3, 4, 5)).requires_grad_(),))
    flat = torch.zeros(1, 3, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(regularizer(flat).sum(), flat)
    assert bool((gradient == 0).all())


@pytest.mark.parametrize(("name", "kw"), CASES)
@given(shape=sizes, seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_every_closed_form_is_what_autograd_finds_also_at_flat_pixels(name, kw, shape, seed):
    regularizer = REGULARIZERS[name](**kw)
    x = image(shape, seed)
    x[..., : shape[2] // 2, :] = 7.0
    x[:, :, -1, -1] = 0.0
    leaf = x.clone().requires_grad_()
    expected = regularizer(leaf)
    (slope,) = torch.autograd.grad(expected.sum(), leaf)
    gradient = torch.zeros_like(x)
    values = regularizer.add_gradient(x, gradient)
    torch.testing.assert_close(values, expected.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, slope, rtol=1e-10, atol=1e-14)
    regularizer.add_gradient(x, gradient)
    torch.testing.assert_close(gradient, 2 * slope, rtol=1e-10, atol=1e-14)


def test_a_regularizer_of_ones_own_needs_no_closed_form():
    x, gradient = image((2, 1, 3, 3)), torch.ones(2, 1, 3, 3, dtype=torch.float64)
    values = add_gradient(lambda x: x.pow(4).sum(dim=(1, 2, 3)), x, gradient)
    torch.testing.assert_close(gradient, 1 + 4 * x**3)
    assert values.shape == (2,) and not values.requires_grad


@given(level=st.floats(-150, 150), beta=st.sampled_from([1.0, 1.5, 2.0, 4.0]))
@settings(max_examples=20, deadline=None)
def test_variation_ignores_a_constant(level, beta):
    x = image((1, 3, 5, 6))
    torch.testing.assert_close(TVBeta(beta)(x + level), TVBeta(beta)(x))
    assert float(TVBeta(beta)(torch.full((1, 3, 5, 5), level))) == 0


@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.0, 6.0])
def test_range_equals_the_plain_writing_in_value_and_gradient(alpha):
    x = image((3, 6, 5)).requires_grad_()
    value = AlphaNorm(alpha)(x[None])
    (gradient,) = torch.autograd.grad(value.sum(), x)
    expected, expected_gradient = reference.alpha_norm(x.detach().numpy(), alpha)
    np.testing.assert_allclose(value.item(), expected, rtol=1e-12)
    np.testing.assert_allclose(gradient.numpy(), expected_gradient, rtol=1e-10, atol=1e-16)


@pytest.mark.parametrize("beta", [1.0, 1.5, 2.0, 3.0])
def test_variation_equals_the_plain_writing_in_value_and_gradient(beta):
    x = image((3, 6, 5)).requires_grad_()
    value = TVBeta(beta)(x[None])
    (gradient,) = torch.autograd.grad(value.sum(), x)
    expected, expected_gradient = reference.total_variation(x.detach().numpy(), beta)
    np.testing.assert_allclose(value.item(), expected, rtol=1e-12)
    np.testing.assert_allclose(gradient.numpy(), expected_gradient, rtol=1e-10, atol=1e-16)


def test_the_weights_are_those_of_get_defaults():
    """lambda_alpha and lambda_beta of the original, to the digits that its specification prints."""
    pixel = torch.zeros(1, 1, 1, 2, dtype=torch.float64)
    pixel[..., 0] = 1.0  # one pixel of norm 1, one difference of 1, N = 2
    assert 2 * AlphaNorm()(pixel).item() == pytest.approx(3.814697e-12, rel=1e-6)
    assert 2 * TVBeta()(pixel).item() == pytest.approx(0.00660156, rel=1e-5)
    assert 2 * TVBeta(1.5)(pixel).item() == pytest.approx(0.0231598, rel=1e-5)
    assert 2 * TVBeta(1.0)(pixel).item() == pytest.approx(0.08125, rel=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: AlphaNorm(0.5),
        lambda: AlphaNorm(B=0),
        lambda: TVBeta(float("nan")),
        lambda: TVBeta(V=-1),
        lambda: Jitter(0),
        lambda: PixelBall(-3),
    ],
)
def test_wrong_constants_are_refused_with_what_was_wanted(make):
    with pytest.raises(InputError, match="got"):
        make()


def test_jitter_keeps_the_gradient_inside_each_sample_s_own_window():
    jitter = Jitter(4)
    x = image((3, 2, *jitter.canvas((5, 6)))).requires_grad_()
    offsets = [(0, 0), (3, 1), (2, 3)]
    window = jitter(x, offsets)
    assert window.shape == (3, 2, 5, 6)
    (gradient,) = torch.autograd.grad(window.sum(), x)
    for b, (top, left) in enumerate(offsets):
        expected = torch.zeros(8, 9, dtype=x.dtype)
        expected[top : top + 5, left : left + 6] = 1
        assert bool((gradient[b] == expected).all())
        assert bool((window[b] == x[b, :, top : top + 5, left : left + 6]).all())
    assert torch.autograd.gradcheck(lambda v: jitter(v, offsets), (x,))


def test_jitter_draws_are_each_sample_s_own_and_cover_every_shift():
    generators = [torch.Generator().manual_seed(s) for s in (1, 2)]
    draws = [view for (view,) in Jitter(3).draw(generators, 200)]
    first, second = [d[0] for d in draws], [d[1] for d in draws]
    assert first != second
    assert {o for d in draws for o in d} == {(i, j) for i in range(3) for j in range(3)}
    alone = [view for (view,) in Jitter(3).draw([torch.Generator().manual_seed(2)], 200)]
    assert [d[0] for d in alone] == second


def test_equal_offsets_take_the_short_way_to_the_same_window():
    x = image((2, 1, 6, 6))
    same = Jitter(3)(x, [(1, 2), (1, 2)])
    mixed = torch.cat([Jitter(3)(x[:1], [(1, 2)]), Jitter(3)(x[1:], [(1, 2)])])
    assert bool((same == mixed).all())
    assert bool((Jitter(4).crop(image((1, 1, 8, 8))) == image((1, 1, 8, 8))[..., 1:6, 1:6]).all())


@given(seed=st.integers(0, 99), channels=st.sampled_from([1, 3]))
@settings(max_examples=20, deadline=None)
def test_the_ball_shortens_long_pixels_and_touches_no_other(seed, channels):
    x = image((2, channels, 5, 5), seed) * 4
    y = PixelBall(160)(x)
    before, after = x.norm(dim=1, keepdim=True), y.norm(dim=1, keepdim=True)
    assert bool((after <= 160 * (1 + 1e-12)).all())
    torch.testing.assert_close(y * before, x * after)  # same direction
    inside = (before <= 160).expand_as(x)
    torch.testing.assert_close(y[inside], x[inside], rtol=1e-14, atol=0)
    assert PixelBall(float("inf"))(x) is x
