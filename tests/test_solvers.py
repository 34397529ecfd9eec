"""Solvers: the paper's against a numpy transliteration, all against each other, and every way in which a run can fail."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from preimage import Monitor
from preimage.energy.energy import Energy
from preimage.energy.losses import Euclidean, InnerProduct
from preimage.energy.regularizers import PixelBall
from preimage.energy.terms import FeatureTerm
from preimage.energy.transforms import Jitter
from preimage.errors import InputError, OptimizationError, PreimageWarning, UnknownName
from preimage.solvers.loop import minimize
from preimage.solvers.methods import Adam, Paper, spectrum
from preimage.solvers.plans import solver_names
from preimage.solvers.run import Run, Stage

from . import reference
from .energies import problem

SIZE = (16, 16)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 2e-3)])
def test_paper_follows_a_numpy_transliteration_of_the_original_loop(dtype, tolerance):
    """20 iterations, jitter 3. In float32 one step is about a grey level and 20 sums of products round to 1e-7 of 50 each; the
    division by the root of small accumulators magnifies that, hence 2e-3 grey levels; float64 shows that it is rounding."""
    torch.manual_seed(1)
    first, second = nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 5, 3)
    kind = torch.float64 if dtype is np.float64 else torch.float32
    module = nn.Sequential(first, nn.ReLU(), second)
    plain = reference.SmallNetwork(first, second, dtype)
    module = module.to(kind)
    jitter = Jitter(3)
    photo = torch.randn(2, 3, *SIZE, dtype=kind) * 40
    start = (torch.rand(2, 3, *jitter.canvas(SIZE), dtype=kind) * 2 - 1) * 50
    target = module(photo).detach()
    energy = Energy(FeatureTerm(Euclidean(), module, target, C=100.0))

    def generators():
        return [torch.Generator().manual_seed(s) for s in (5, 6)]

    seen = []

    class Watching(Paper):
        def __call__(self, run, x, stages):
            out = super().__call__(run, x, stages)
            seen.append(out)
            return out

    found = minimize(problem(energy, jitter=jitter), start, solver=Watching(), stages=[Stage(20)], generators=generators())
    offsets = jitter.draw(generators(), 20)
    assert len({o for (view,) in offsets for o in view}) > 3
    for b in range(2):
        expected, energies = reference.paper_loop(
            plain, target[b].numpy(), start[b].numpy(), [view[b] for (view,) in offsets], SIZE, 100.0, 0.05 * 80**2 / 6
        )
        np.testing.assert_allclose(seen[0][b].numpy(), expected, rtol=0, atol=tolerance)
        for k, name in enumerate(["loss", "alpha-norm", "tv-beta"]):
            np.testing.assert_allclose(found.trace[name][:, b].numpy(), energies[:, k], rtol=max(tolerance, 1e-9), atol=1e-9)
        assert np.abs(expected - start[b].numpy()).max() > 10  # it went somewhere


def test_paper_s_step_starts_at_one_grey_level_and_tends_to_3_16():
    """Section 1.4 of the specification: scale-free steps."""
    for scale in (1.0, 1e3, 1e6):  # above 1/lr = 0.005 of this small image
        energy = Energy(FeatureTerm(InnerProduct(1.0), lambda x: x, torch.ones(1, 1, 2, 2), C=scale), {})
        found = minimize(
            problem(energy, ball=PixelBall(math.inf)),
            torch.full((1, 1, 2, 2), -1e4),
            solver="paper",
            stages=[Stage(80)],
            monitor=Monitor(frames=1),
        )
        positions = [f.mean().item() for f in found.frames]
        moves = np.diff(positions)
        assert moves[0] == pytest.approx(1.0, rel=1e-2)
        assert moves.max() == pytest.approx(3.4, abs=0.1)
        assert moves[-1] == pytest.approx(math.sqrt(10), rel=1e-2)


def test_paper_s_second_stage_works_on_the_crop_with_a_tenth_of_the_rate():
    shapes = []

    def phi(x):
        shapes.append(tuple(x.shape))
        return x

    energy = Energy(FeatureTerm(Euclidean(), phi, torch.full((1, 1, 6, 6), 50.0), C=10.0))
    jitter = Jitter(3)
    found = minimize(
        problem(energy, jitter=jitter),
        torch.zeros(1, 1, *jitter.canvas((6, 6))),
        solver="paper",
        stages=[Stage(4), Stage(3, 0.1, jitter=False)],
    )
    assert set(shapes) == {(1, 1, 6, 6)}
    assert found.evaluations == 7
    assert found.x.shape == (1, 1, 6, 6)


@pytest.fixture(scope="module")
def convex():
    target = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 60
    return Energy(FeatureTerm(Euclidean(), lambda x: x[..., ::2, ::2], target, C=100.0))


@pytest.fixture(scope="module")
def least(convex):
    """The energy of each sample at the minimum."""
    return minimize(convex, torch.zeros(2, 1, 8, 8), solver="lbfgs", stages=[Stage(400)]).energy["total"]


# one tidies the image up after each step, one asks for no gradient and would need many more
@pytest.mark.parametrize("solver", [s for s in solver_names() if s not in ("tidied-ascent", "evolution")])
def test_every_solver_finds_the_same_minimum_of_a_convex_problem(solver, convex, least):
    found = minimize(convex, torch.zeros(2, 1, 8, 8), solver=solver, stages=[Stage(300), Stage(50, 0.1)])
    torch.testing.assert_close(found.energy["total"], least, rtol=3e-3, atol=0)
    assert found.status == ["ok", "ok"]
    assert found.trace["total"].shape == (found.evaluations, 2)


@pytest.mark.parametrize("solver", solver_names())
def test_a_sample_takes_the_same_way_alone_and_beside_others_that_are_broken(solver):
    target = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 60
    start = torch.randn(3, 1, 10, 10, generator=torch.Generator().manual_seed(1)) * 30
    start[1] = float("nan")

    def run(which):
        energy = Energy(FeatureTerm(Euclidean(), lambda x: 2 * x[..., ::2, ::2], target[which], C=100.0))
        generators = [torch.Generator().manual_seed(7 + i) for i in which]
        return minimize(problem(energy, jitter=Jitter(3)), start[which], solver=solver, stages=[Stage(20)], generators=generators)

    with pytest.warns(PreimageWarning, match="sample 1: the energy became NaN"):
        together = run([0, 1, 2])
    alone = run([2])
    if "ascent" not in solver:  # steps of a fixed length go past a minimum that is near
        assert together.status[0] == together.status[2] == "ok"
    assert together.evaluations == alone.evaluations == 20
    torch.testing.assert_close(together.trace["total"][:1, 2], alone.trace["total"][:1, 0], rtol=1e-6, atol=0)
    torch.testing.assert_close(together.x[2], alone.x[0], rtol=0, atol=1e-2)
    torch.testing.assert_close(together.trace["total"][:, 2], alone.trace["total"][:, 0], rtol=1e-4, atol=0)


def test_no_solver_leaves_the_ball():
    for solver in solver_names():
        energy = Energy(FeatureTerm(InnerProduct(1.0), lambda x: x, torch.ones(1, 3, 6, 6), C=10.0), {})
        found = minimize(energy, torch.zeros(1, 3, 6, 6) + 1, solver=solver, iterations=150)
        norm = found.x.norm(dim=1)
        assert norm.max() <= 160.01, solver
        assert norm.min() > 150 or solver == "evolution", solver  # which asks for no gradient and would need many more steps


def test_a_nan_at_the_start_is_explained():
    energy = Energy(FeatureTerm(Euclidean(), lambda x: x / 0.0 * 0.0, torch.ones(1, 1, 4, 4)))
    with pytest.raises(OptimizationError, match=r"NaN or infinite at iteration 0 \(loss\)"):
        minimize(energy, torch.ones(1, 1, 4, 4))


def test_a_nan_on_the_way_gives_the_last_finite_image_and_says_so():
    calls = []

    def phi(x):
        calls.append(1)
        return x * (float("nan") if len(calls) == 8 else 1.0)

    energy = Energy(FeatureTerm(Euclidean(), phi, torch.full((2, 1, 4, 4), 50.0)))
    with pytest.raises(OptimizationError, match="iteration 7"):
        minimize(energy, torch.ones(2, 1, 4, 4), iterations=30, batch=2)

    def half(x):
        calls.append(1)
        factor = torch.ones(2, 1, 1, 1)
        if len(calls) >= 8:
            factor[0] = float("nan")
        return x * factor

    calls.clear()
    energy = Energy(FeatureTerm(Euclidean(), half, torch.full((2, 1, 4, 4), 50.0)))
    with pytest.warns(PreimageWarning, match="last finite image"):
        found = minimize(energy, torch.ones(2, 1, 4, 4), iterations=30, batch=2)
    assert bool(torch.isfinite(found.x).all())
    assert found.status[1] == "ok"


def test_a_gradient_of_exactly_zero_is_explained_and_ends_early():
    calls = []

    def dead(x):
        calls.append(1)
        return (x - 1e6).relu() + 1.0 + 0 * x

    energy = Energy(FeatureTerm(InnerProduct(1.0), dead, torch.ones(1, 1, 4, 4)))
    with pytest.raises(OptimizationError, match=r"exactly zero at every step.*leak=0.05"):
        minimize(energy, torch.ones(1, 1, 4, 4), iterations=500)
    assert len(calls) < 40


def test_one_dead_unit_does_not_take_the_others_with_it():
    energy = Energy(FeatureTerm(InnerProduct(1.0), lambda x: torch.stack([x.mean((1, 2, 3)), 0 * x.mean((1, 2, 3))], 1), torch.eye(2)))
    with pytest.warns(PreimageWarning, match="sample 1: the gradient of the loss was exactly zero"):
        found = minimize(energy, torch.ones(2, 1, 4, 4), iterations=30, batch=2)
    assert found.status[0] == "ok"


def test_a_loss_that_does_not_move_is_explained():
    energy = Energy(FeatureTerm(Euclidean(), lambda x: x.clamp(0, 1e-30) + 5.0, torch.full((1, 1, 4, 4), 9.0)))
    start = torch.full((1, 1, 4, 4), 5e-31)
    with pytest.warns(PreimageWarning, match="did not move from"):
        minimize(energy, start, solver=Adam(rate=1e-33), iterations=5)


def test_divergence_is_explained():
    energy = Energy(FeatureTerm(Euclidean(), lambda x: x, torch.full((1, 1, 4, 4), 10.0)))
    with pytest.warns(PreimageWarning, match=r"the energy rose .* diverged"):
        minimize(problem(energy, ball=PixelBall(1e6)), torch.full((1, 1, 4, 4), 9.0), solver=Paper(rho=0.999, rate=1e6), iterations=12)


def test_ctrl_c_gives_what_was_found():
    calls = []

    def phi(x):
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return x

    energy = Energy(FeatureTerm(Euclidean(), phi, torch.full((1, 1, 4, 4), 50.0)))
    found = minimize(energy, torch.ones(1, 1, 4, 4), iterations=30)
    assert found.interrupted
    assert found.evaluations == 11
    assert found.energy["total"] < found.trace["total"][0]


def test_wrong_words_are_refused():
    energy = Energy(FeatureTerm(Euclidean(), lambda x: x, torch.ones(1, 1, 4, 4)))
    with pytest.raises(UnknownName, match="Did you mean 'paper'"):
        minimize(energy, torch.ones(1, 1, 4, 4), solver="papper")
    for iterations in (0, -1, 2.5):
        with pytest.raises(InputError, match="iterations is a whole number"):
            minimize(energy, torch.ones(1, 1, 4, 4), iterations=iterations)


def test_frames_are_kept_every_so_often_and_at_the_end():
    energy = Energy(FeatureTerm(Euclidean(), lambda x: x, torch.full((2, 1, 4, 4), 50.0)))
    found = minimize(problem(energy, jitter=Jitter(3)), torch.ones(2, 1, 6, 6), iterations=10, monitor=Monitor(frames=4))
    assert [tuple(f.shape) for f in found.frames] == [(2, 1, 4, 4)] * 4  # 0, 4, 8 and the last
    torch.testing.assert_close(found.frames[-1], found.x)


def test_the_spectrum_is_one_over_f():
    s = spectrum(32, 32)
    assert s[0, 0] == s[0, 1] == s.max()
    assert (s[0, 2] / s[0, 8]).item() == pytest.approx(4.0)
    assert s.square().mean().item() == pytest.approx(1.0)


def test_the_progress_bar_shows_the_energy(capsys):
    energy = Energy(FeatureTerm(Euclidean(), lambda x: x, torch.full((1, 1, 4, 4), 50.0)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        minimize(energy, torch.ones(1, 1, 4, 4), iterations=10, progress=True, title="a title")
    shown = capsys.readouterr().err
    assert "a title: 100%" in shown
    assert "energy" in shown
    assert "10/10" in shown


@pytest.mark.parametrize("place", ["energies", "trace", "accept_final"])
def test_a_signal_after_the_last_iteration_loses_nothing_that_was_found(place, monkeypatch):
    energy = Energy(FeatureTerm(Euclidean(), lambda x: x, torch.full((1, 1, 4, 4), 9.0)))
    whole = minimize(energy, torch.zeros(1, 1, 4, 4), solver="paper", iterations=5)
    own, calls = getattr(Run, place), []

    def signalled(*given):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return own(*given)

    monkeypatch.setattr(Run, place, signalled)
    found = minimize(energy, torch.zeros(1, 1, 4, 4), solver="paper", iterations=5)
    assert found.interrupted and not whole.interrupted
    assert found.evaluations == 5 and found.energy.keys() == whole.energy.keys()
    assert torch.equal(found.trace["total"], whole.trace["total"])
    assert place == "accept_final" or torch.equal(found.x, whole.x)
