"""Losses and the energy against a second writing; samples do not meet; wrong input is refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

import preimage
from preimage.energy.energy import Energy
from preimage.energy.fourier import Fourier
from preimage.energy.losses import Euclidean, InnerProduct, Loss
from preimage.energy.pull import pull
from preimage.energy.regularizers import TVBeta
from preimage.energy.resampling import Crops
from preimage.energy.terms import FeatureTerm, total
from preimage.energy.transforms import Jitter
from preimage.errors import InputError

from . import reference


def features(seed, shape=(2, 4, 3, 3)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


MASK = torch.tensor([1.0, 0.0, 1.0, 0.5], dtype=torch.float64).view(4, 1, 1)


@pytest.mark.parametrize("mask", [None, MASK])
def test_euclidean_equals_the_plain_writing_in_value_and_gradient(mask):
    f, t = features(1).requires_grad_(), features(2)
    value = Euclidean(mask)(f, t)
    (gradient,) = torch.autograd.grad(value.sum(), f)
    for b in range(2):
        m = np.ones((4, 1, 1)) if mask is None else mask.numpy()
        expected, expected_gradient = reference.euclidean(f[b].detach().numpy(), t[b].numpy(), m)
        np.testing.assert_allclose(value[b].item(), expected, rtol=1e-12)
        np.testing.assert_allclose(gradient[b].numpy(), expected_gradient, rtol=1e-10, atol=1e-14)
    assert torch.autograd.gradcheck(lambda v: Euclidean(mask)(v, t), (f,))


@pytest.mark.parametrize("mask", [None, MASK])
def test_inner_product_equals_the_plain_writing_in_value_and_gradient(mask):
    f, t = features(1).requires_grad_(), features(2)
    Z = torch.tensor([2.0, 5.0], dtype=torch.float64)
    value = InnerProduct(Z, mask)(f, t)
    (gradient,) = torch.autograd.grad(value.sum(), f)
    for b in range(2):
        m = np.ones((4, 1, 1)) if mask is None else mask.numpy()
        expected, expected_gradient = reference.inner_product(f[b].detach().numpy(), t[b].numpy(), Z[b].item(), m)
        np.testing.assert_allclose(value[b].item(), expected, rtol=1e-12)
        np.testing.assert_allclose(gradient[b].numpy(), np.broadcast_to(expected_gradient, (4, 3, 3)), rtol=1e-10, atol=1e-14)
    assert torch.autograd.gradcheck(lambda v: InnerProduct(Z, mask)(v, t), (f,))


def test_euclidean_is_zero_at_the_target_one_at_zero_and_does_not_see_the_scale():
    t = features(3)
    assert bool((Euclidean()(t, t) == 0).all())
    torch.testing.assert_close(Euclidean()(0 * t, t), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(Euclidean()(7 * features(1), 7 * t), Euclidean()(features(1), t))
    torch.testing.assert_close(Euclidean(normalise=False)(0 * t, t), t.flatten(1).square().sum(1))


def test_the_caricature_s_loss_is_minus_one_at_the_image_itself():
    t = features(3).clamp(min=0)
    torch.testing.assert_close(InnerProduct(None)(t, t), -torch.ones(2, dtype=torch.float64))


def phi(x):
    return x[:, :, ::2, ::2].square()


def test_energy_gives_each_term_per_sample_with_C_in_the_loss_and_samples_do_not_meet():
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64) * 30
    target = phi(torch.randn(3, 1, 8, 8, dtype=torch.float64) * 30)
    energy = Energy(FeatureTerm(Euclidean(), phi, target, C=7.0))
    terms = energy(x)
    assert list(terms) == ["loss", "alpha-norm", "tv-beta"] == list(energy.terms)
    torch.testing.assert_close(terms["loss"], 7 * Euclidean()(phi(x), target))
    changed = x.clone()
    changed[1] += 100
    other = energy(changed)
    for name, value in terms.items():
        assert bool((value[[0, 2]] == other[name][[0, 2]]).all()), name
    torch.testing.assert_close(total(terms), sum(terms.values()))
    assert torch.autograd.gradcheck(lambda v: total(energy(v)), (x.requires_grad_(),))


def test_the_loss_sees_the_window_and_the_regularizers_the_canvas():
    x = torch.randn(1, 1, 10, 10, dtype=torch.float64)
    target = phi(torch.ones(1, 1, 8, 8, dtype=torch.float64))
    energy = Energy(FeatureTerm(Euclidean(), phi, target, C=1.0), {"tv-beta": TVBeta()}, Jitter(3))
    terms = energy(x, [[(2, 1)]])
    torch.testing.assert_close(terms["loss"], Energy(FeatureTerm(Euclidean(), phi, target, C=1.0))(x[..., 2:10, 1:9])["loss"])
    torch.testing.assert_close(terms["tv-beta"], TVBeta()(x))


@pytest.mark.parametrize("C", [0.0, -1.0, float("nan"), float("inf")])
def test_a_C_that_is_not_above_zero_is_refused(C):
    with pytest.raises(InputError, match="C is the weight"):
        Energy(FeatureTerm(Euclidean(), phi, torch.ones(1, 1, 4, 4), C=C))


def test_targets_that_say_nothing_are_refused():
    with pytest.raises(InputError, match="nothing to invert"):
        Energy(FeatureTerm(Euclidean(), phi, torch.zeros(1, 1, 4, 4)))
    with pytest.raises(InputError, match="no unit of the target is active"):
        Energy(FeatureTerm(InnerProduct(None), phi, torch.zeros(1, 1, 4, 4)))
    with pytest.raises(InputError, match="do not belong together"):
        Energy(FeatureTerm(Euclidean(), phi, torch.ones(1, 1, 3, 3)))(torch.ones(1, 1, 8, 8))
    with pytest.raises(InputError, match="has these names itself"):
        Energy(FeatureTerm(Euclidean(), phi, torch.ones(1, 1, 3, 3), C=1.0), {"loss": TVBeta()})


class _Quartic(Loss):
    """A loss that does not know its derivative."""

    def scale(self, target):
        return torch.full((len(target),), 3.0, dtype=target.dtype)

    def __call__(self, features, target, scale=None):
        return (features - target).pow(4).flatten(1).sum(dim=1) / (self.scale(target) if scale is None else scale)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("loss", [Euclidean(), Euclidean(MASK), InnerProduct(None, MASK), InnerProduct(2.0), _Quartic()])
def test_the_gradient_is_what_autograd_finds_through_the_whole_energy(loss, targets, channels_last):
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(4, 3, 3, 3, generator=generator, dtype=torch.float64)
    memory = torch.channels_last if channels_last else torch.contiguous_format

    def phi(x):
        return torch.nn.functional.conv2d(x.contiguous(memory_format=memory), weight).tanh()

    target = torch.rand(targets, 4, 4, 4, generator=generator, dtype=torch.float64)
    energy, views = Energy(FeatureTerm(loss, phi, target, C=50.0), transform=Jitter(3)), [[(0, 2), (1, 1)]]
    x = torch.randn(2, 3, 8, 8, generator=generator, dtype=torch.float64) * 30
    leaf = x.clone().requires_grad_()
    expected = energy(leaf, views)
    (slope,) = torch.autograd.grad(sum(expected.values()).sum(), leaf)
    terms, gradient, felt = energy.differentiate(x, views)
    assert list(terms) == list(expected) and not any(t.requires_grad for t in terms.values())
    for name in terms:
        torch.testing.assert_close(terms[name], expected[name].detach())
    torch.testing.assert_close(gradient, slope)
    assert felt.tolist() == [True, True]


@pytest.mark.parametrize("parts", [{}, {"parameterization": Fourier(), "transform": Crops()}])
def test_a_run_does_not_import_sympy_which_takes_half_a_second(parts, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.fx.experimental.symbolic_shapes", None)  # from now on importing it is an error
    phi = preimage.from_callable(lambda x: x.square(), preimage.PixelSpace(8, "grey"))
    found = preimage.invert(phi, np.full((8, 8), 200, np.uint8), iterations=2, progress=False, **parts)
    assert found.error.isfinite().all()


def test_a_gradient_is_pulled_back_with_the_bits_of_autograd_itself():
    x = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    both = [y := torch.nn.functional.conv2d(x, weight).relu(), torch.nn.functional.conv2d(y.tanh(), weight.transpose(0, 1)).exp()]
    slopes = [torch.randn(b.shape, generator=torch.Generator().manual_seed(2)) for b in both]
    wanted = torch.autograd.grad(both, x, slopes, retain_graph=True)[0]
    assert pull(both, x, slopes).equal(wanted)


def test_a_graph_that_one_of_the_outputs_does_not_come_from_is_an_error():
    x = torch.ones(1, 2, requires_grad=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        pull([2 * x, torch.ones(1, 2)], x, [torch.ones(1, 2), torch.ones(1, 2)])
    with pytest.raises(RuntimeError, match="shape"):
        pull([2 * x], x, [torch.ones(1, 1)])
