"""The descent of `fast`: its transforms are rotations, its estimate of curvature is right where the truth is known, and it never rises."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import preimage
from preimage.energy.energy import Energy
from preimage.energy.losses import Euclidean, InnerProduct
from preimage.energy.terms import FeatureTerm
from preimage.energy.transforms import Jitter
from preimage.errors import InputError
from preimage.representations.natural import natural_colour
from preimage.solvers.loop import Minimum, minimize
from preimage.solvers.methods import LBFGS, Descend, FourierAdam
from preimage.solvers.monitor import Monitor
from preimage.solvers.plans import Asked, plan_for, plan_of
from preimage.solvers.quasinewton import EAGER, EVERY, Curvature, Descent, Level, Pairs, Waves, bands, chosen, cosines, dot, few, opponents
from preimage.solvers.run import Stage

from .energies import problem

FIXED = (Stage(60, jitter=False),)


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 12, 3, stride=2), nn.ReLU()).requires_grad_(False)


@pytest.mark.parametrize("n", [1, 2, 7, 16])
def test_cosines_and_colours_are_rotations(n: int) -> None:
    torch.testing.assert_close(cosines(n) @ cosines(n).T, torch.eye(n, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(opponents(3) @ opponents(3).T, torch.eye(3), rtol=0, atol=1e-6)
    assert torch.equal(opponents(n if n != 3 else 4), torch.eye(n if n != 3 else 4))


def test_cosines_are_scipys() -> None:
    scipy = pytest.importorskip("scipy.fft")
    x = torch.randn(9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(cosines(9) @ x, torch.from_numpy(scipy.dct(x.numpy(), norm="ortho")))


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 4), (20, 60)])
def test_waves_are_the_coarser_ones_of_the_cosine_transform_and_all_else_is_one_band(size: tuple[int, int]) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, *size, generator=g, dtype=torch.float64)
    waves, (k, m) = Waves(x), (few(n) for n in size)
    colours = torch.einsum("kc,bchw->bkhw", opponents(3).double(), x)
    plain = cosines(size[0]) @ colours @ cosines(size[1]).T
    found = waves.forth(x)
    torch.testing.assert_close(found, plain[:, :, :k, :m])
    squares = plain.square()
    power = torch.zeros(2, 3, waves.centres.numel(), dtype=torch.float64)
    power[..., :-1] = torch.einsum("bkhw,hwn->bkn", squares[:, :, :k, :m], bands(*size)[0].view(k, m, -1).double())
    power[..., -1] = squares.sum(dim=(2, 3)) - squares[:, :, :k, :m].sum(dim=(2, 3))
    torch.testing.assert_close(waves.power(found, x), power)

    scale, gains = torch.rand(2, 3, 1, 1, generator=g).double(), torch.rand(2, 3, k, m, generator=g).double()
    factors = scale.expand_as(plain).clone()
    factors[:, :, :k, :m] = gains
    wanted = cosines(size[0]).T @ (plain * factors) @ cosines(size[1])
    torch.testing.assert_close(waves.back(found * (gains - scale), x, scale), torch.einsum("kc,bkhw->bchw", opponents(3).double(), wanted))
    torch.testing.assert_close(waves.small(found), cosines(k).T @ found @ cosines(m))


def test_one_number_for_the_curvature_is_that_of_the_last_step_along_which_the_gradient_rose() -> None:
    s = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    level = Level(s)
    assert torch.equal(level(s), s)
    level.learn(s, torch.tensor([4.0, -4.0]).view(2, 1, 1, 1) * s)
    torch.testing.assert_close(level(s), torch.tensor([0.25, 1.0]).view(2, 1, 1, 1) * s)


def test_each_frequency_belongs_wholly_to_the_bands() -> None:
    weights, centres = bands(12, 60)  # of 60 cosines 32 are coarse
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(12 * 32))
    assert bool((weights >= 0).all())
    assert bool((centres.diff()[:-1] > 0).all())
    assert len(centres) == weights.shape[1] + 1
    assert math.hypot(0, 32 / 120) < centres[-1].item() < math.hypot(0.5, 0.5)  # of all that is finer
    assert bands(9, 16)[1][-1] == bands(9, 16)[1][-2]  # nothing is


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 6, 5), (1, 18, 35)])
def test_the_estimate_of_the_inverse_hessian_stays_symmetric_and_positive(channels: int, height: int, width: int) -> None:
    g, shape = torch.Generator().manual_seed(0), (1, channels, height, width)
    inverse = Curvature(torch.zeros(shape, dtype=torch.float64))
    for _ in range(4):
        inverse.learn(*torch.randn(2, *shape, generator=g, dtype=torch.float64))
    matrix = torch.stack([inverse(e.view(shape)).flatten() for e in torch.eye(math.prod(shape), dtype=torch.float64)])
    torch.testing.assert_close(matrix, matrix.T, rtol=0, atol=1e-12 * matrix.abs().max().item())
    assert torch.linalg.eigvalsh(matrix).min() > 0


def test_curvature_that_depends_on_frequency_alone_is_found() -> None:
    """y = H s with H = 5 f² in the cosines. Bands are wide, so a coefficient is right to a factor 2, over a range of 1000."""
    n, g = 32, torch.Generator().manual_seed(0)
    frequency = torch.hypot(torch.arange(n)[:, None] / (2 * n), torch.arange(n) / (2 * n)).clamp(min=0.5 / n).double()
    rotate, hessian = cosines(n), 5 * frequency**2
    inverse = Curvature(torch.zeros(1, 1, n, n, dtype=torch.float64))
    for _ in range(30):
        waves = torch.randn(1, 1, n, n, generator=g, dtype=torch.float64) / frequency  # the lowest bands have few coefficients
        inverse.learn(rotate.T @ waves @ rotate, rotate.T @ (waves * hessian) @ rotate)
    for row, col in [(1, 0), (2, 3), (0, 9), (15, 15), (31, 20)]:
        wave = (rotate[row][:, None] * rotate[col])[None, None]
        found = dot(wave, inverse(wave)) * hessian[row, col]
        assert 0.5 < found.item() < 2.0, (row, col)


def test_the_estimate_learns_from_every_step_at_first_and_then_from_every_third() -> None:
    g = torch.Generator().manual_seed(0)
    inverse, gradient = Curvature(torch.zeros(1, 3, 6, 5)), torch.randn(1, 3, 6, 5, generator=g)
    changed, before = [], inverse(gradient)
    for _ in range(EAGER + 2 * EVERY):
        inverse.learn(*torch.randn(2, 1, 3, 6, 5, generator=g))
        changed.append(not torch.equal(inverse(gradient), before))
        before = inverse(gradient)
    assert changed == [True] * EAGER + [*[False] * (EVERY - 1), True] * 2


def test_of_two_images_a_sample_takes_the_one_that_is_said() -> None:
    a, b = torch.zeros(3, 1, 2, 2), torch.ones(3, 1, 2, 2)
    assert torch.equal(chosen(torch.tensor([True, False, True]), a, b), torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1, 1).expand(3, 1, 2, 2))
    assert torch.equal(chosen(torch.ones(3, dtype=torch.bool), a, b), a)
    assert torch.equal(chosen(torch.zeros(3, dtype=torch.bool), a, b), b)


def test_the_recursion_meets_the_secant_condition_and_leaves_out_concave_pairs() -> None:
    g = torch.Generator().manual_seed(0)
    s, y = torch.randn(2, 1, 1, 5, 5, generator=g)
    s, y = s.double(), (y + 3 * s).double()  # exact in float32, in which pairs are kept
    pairs, inverse = Pairs(), Curvature(s)
    assert pairs.add(s, y).tolist() == [True]
    torch.testing.assert_close(pairs.solve(y, inverse), s)
    before = pairs.solve(s, inverse)
    assert pairs.add(s, -y).tolist() == [False]
    torch.testing.assert_close(pairs.solve(s, inverse), before)


@pytest.mark.parametrize("length", [5.0, 0.5])
def test_the_first_step_is_as_long_as_was_asked(length: float) -> None:
    target = 30 * torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    energy = Energy(FeatureTerm(Euclidean(), lambda x: x, target, C=100.0), {})
    found = minimize(energy, torch.zeros(1, 3, 8, 8), solver=f"descent:first_step={length}", iterations=2, stages=FIXED)
    assert found.x.square().mean().sqrt().item() == pytest.approx(length, rel=1e-5)


@pytest.mark.parametrize("solver", ["descent", "lbfgs"])
def test_a_run_ends_when_its_energy_falls_no_more_than_the_tolerance(solver: str) -> None:
    module, g = network(), torch.Generator().manual_seed(1)
    target = module(40 * torch.randn(2, 3, 13, 13, generator=g))
    start = 10 * torch.randn(2, 3, 13, 13, generator=g)

    def solve(which: list[int], solver: str, count: int = 400) -> Minimum:
        energy = Energy(FeatureTerm(Euclidean(), module, target[which]))
        return minimize(energy, start[which], solver=solver, stages=[Stage(count)])

    together = solve([0, 1], f"{solver}:tolerance=0.02")
    alone = [solve([k], f"{solver}:tolerance=0.02") for k in (0, 1)]
    lengths = [one.evaluations for one in alone]
    assert together.evaluations == max(lengths) < 400
    assert lengths[0] != lengths[1]
    for k, one in enumerate(alone):
        assert torch.equal(together.x[k], one.x[0])  # the one that settles first waits unchanged
        assert torch.equal(one.x, solve([k], solver, lengths[k]).x)  # until then nothing is different
        kept = one.trace["total"][:, 0].cummin(dim=0).values
        assert kept[-11] - kept[-1] <= 0.02 * kept[-1]
        assert (kept[:-11] - kept[10:-1] > 0.02 * kept[10:-1]).all()  # and no sooner


def test_a_run_with_a_tolerance_goes_on_as_if_it_had_not_stopped() -> None:
    module, g = network(), torch.Generator().manual_seed(1)
    energy = Energy(FeatureTerm(Euclidean(), module, module(40 * torch.randn(1, 3, 13, 13, generator=g))))
    start, solver = 10 * torch.randn(1, 3, 13, 13, generator=g), "descent:tolerance=0.02"
    whole = minimize(energy, start, solver=solver, stages=[Stage(400)])
    some = minimize(energy, start, solver=solver, stages=[Stage(whole.evaluations - 5)], monitor=Monitor(keep_state=True))
    rest = minimize(energy, start, solver=solver, stages=[Stage(400)], resume=some.state)
    assert rest.evaluations == whole.evaluations
    assert torch.equal(rest.x, whole.x)


def test_a_tolerance_is_a_share() -> None:
    with pytest.raises(InputError, match=r"tolerance is at most 1; got 1\.5"):
        plan_of("descent:tolerance=1.5", FIXED)
    with pytest.raises(InputError, match="tolerance is a number of at least 0; got -1"):
        LBFGS(tolerance=-1)


def test_a_trial_that_does_not_lower_the_energy_is_not_kept() -> None:
    g = torch.Generator().manual_seed(0)
    x, gradient = 30 * torch.randn(2, 2, 3, 8, 8, generator=g)
    search = Descent(x, torch.tensor([5.0, 5.0]), gradient, Curvature(x))
    trial = search.ask()
    assert (trial - x).square().mean().sqrt().item() == pytest.approx(5.0)
    search.tell(trial, torch.tensor([4.0, 6.0]), gradient + 0.1 * (trial - x))
    assert torch.equal(search.x[0], trial[0])
    assert torch.equal(search.x[1], x[1])
    assert search.energy.tolist() == [4.0, 5.0]
    assert torch.equal(search.gradient[1], gradient[1])
    search.tell(search.ask(), torch.tensor([3.0, float("nan")]), search.gradient)
    assert torch.equal(search.x[1], x[1])


@pytest.mark.slow
def test_it_gives_the_best_image_that_it_saw() -> None:
    """An energy with kinks and many minima: some trials must fail, and none of them may be kept."""
    energy = Energy(FeatureTerm(Euclidean(), lambda x: (x / 3).sin() + (x.abs() / 40), torch.full((2, 1, 6, 6), 1.5), C=100.0))
    start = 40 * torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    failed = False
    for count in range(5, 40):
        found = minimize(energy, start, solver="fast", stages=[Stage(count, jitter=False)])
        failed |= bool((found.trace["total"][-1] > found.trace["total"].amin(dim=0)).any())
        torch.testing.assert_close(found.energy["total"], found.trace["total"].amin(dim=0))
    assert failed


def test_a_quadratic_is_solved_to_rounding() -> None:
    target = 60 * torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    energy = Energy(FeatureTerm(Euclidean(), lambda x: x[..., ::2, ::2], target, C=100.0), {"tv": preimage.TVBeta()})
    found = minimize(energy, torch.zeros(2, 1, 8, 8, dtype=torch.float64), solver="fast", stages=[Stage(120, jitter=False)])
    best = minimize(energy, torch.zeros(2, 1, 8, 8, dtype=torch.float64), solver="lbfgs", stages=[Stage(400)])
    torch.testing.assert_close(found.energy["total"], best.energy["total"], rtol=1e-6, atol=0)


def test_samples_have_the_same_bits_alone_and_together() -> None:
    """On a CPU, where samples are evaluated one by one. 3·13·13 numbers a sample: no multiple of a vector's length."""
    module, g = network(), torch.Generator().manual_seed(1)
    target = module(40 * torch.randn(3, 3, 13, 13, generator=g))
    start = 10 * torch.randn(3, 3, 13, 13, generator=g)

    def solve(which: list[int]) -> torch.Tensor:
        energy = Energy(FeatureTerm(Euclidean(), module, target[which]))
        return minimize(energy, start[which], solver="fast", stages=FIXED).x

    together = solve([0, 1, 2])
    assert torch.equal(together[1:2], solve([1]))
    assert torch.equal(together[[2, 0]], solve([2, 0]))


def test_stages_with_jitter_are_those_of_fourier_adam() -> None:
    module, g = network(), torch.Generator().manual_seed(1)
    energy = Energy(FeatureTerm(Euclidean(), module, module(40 * torch.randn(1, 3, 12, 12, generator=g))))
    start = 40 * torch.randn(1, 3, 14, 14, generator=g)
    plan = plan_of("fast", [Stage(12)], fast_rate=7.0)
    found = minimize(problem(energy, jitter=Jitter(3)), start, plan=plan).x
    alone = minimize(problem(energy, jitter=Jitter(3)), start, solver=FourierAdam(rate=7.0), stages=[Stage(12)]).x
    assert torch.equal(found, alone)


def test_a_descent_after_an_exploration_works_on_the_crop_and_goes_lower() -> None:
    module, g = network(), torch.Generator().manual_seed(1)
    energy = Energy(FeatureTerm(Euclidean(), module, module(40 * torch.randn(2, 3, 12, 12, generator=g))))
    start = 40 * torch.randn(2, 3, 14, 14, generator=g)
    explored = minimize(problem(energy, jitter=Jitter(3)), start, solver="fast", stages=[Stage(15)])
    both = minimize(problem(energy, jitter=Jitter(3)), start, solver="fast", stages=[Stage(15), Stage(15, jitter=False)])
    assert both.x.shape == (2, 3, 12, 12)
    assert both.evaluations == 30
    assert bool((both.energy["total"] < explored.energy["total"]).all())


def test_seventy_evaluations_end_below_the_papers_three_hundred_and_fifty_on_hogb() -> None:
    phi = preimage.HOG(bilinear=True)
    photo = phi.space.encode(preimage.images.reference_images()[0], size=(64, 64))
    fast = preimage.invert(phi, photo, iterations=70, progress=False)
    paper = preimage.invert(phi, photo, solver="paper", progress=False)
    assert (fast.evaluations, paper.evaluations) == (70, 350)
    assert fast.energy["total"].item() < paper.energy["total"].item()


def test_a_unit_that_answers_nothing_does_not_spoil_the_numbers() -> None:
    energy = Energy(FeatureTerm(InnerProduct(1.0), lambda x: torch.stack([x.mean((1, 2, 3)), 0 * x.mean((1, 2, 3))], 1), torch.eye(2)), {})
    with pytest.warns(preimage.errors.PreimageWarning, match="sample 1: the gradient of the loss was exactly zero"):
        found = minimize(energy, torch.ones(2, 1, 4, 4), solver="fast", stages=[Stage(400, jitter=False)], batch=2)
    assert bool(torch.isfinite(found.x).all())
    assert found.status[0] == "ok"


@pytest.mark.parametrize(("stride", "factor"), [(4, 1.0), (8, 1 / 4), (16, 1 / 16)])
def test_fast_starts_nearer_to_grey_the_coarser_the_layer_and_the_paper_does_not(stride: int, factor: float) -> None:
    phi = preimage.from_callable(lambda x: x[:, :, ::stride, ::stride], preimage.PixelSpace(32, "grey"))
    phi.stride = stride
    options = {"iterations": 3, "monitor": preimage.Monitor(frames=1), "transform": Jitter(1), "progress": False}
    fast, paper = (preimage.invert(phi, torch.full((1, 1, 32, 32), 20.0), solver=s, **options).frames[0] for s in ("fast", "paper"))
    grey = natural_colour(phi.space)
    torch.testing.assert_close(fast - grey, factor * (paper - grey), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(("stride", "pairs"), [(4.0, 4), (8.0, 4), (16.0, 20)])
@pytest.mark.parametrize("warm", [False, True])
def test_fast_keeps_few_pairs_for_layers_of_a_small_stride(stride: float, pairs: int, warm: bool) -> None:
    (phase,) = plan_for(Asked("invert", stride, warm=warm), "fast", stages=FIXED).phases
    assert phase.solver == Descend(memory=pairs, opened=15)
    assert plan_for(Asked("invert", stride, warm=warm), "descent").phases[0].solver == Descend()


def test_fast_starts_at_a_quarter_for_descriptors() -> None:
    photo, options = (
        20 * torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)),
        {"iterations": 3, "monitor": preimage.Monitor(frames=1), "progress": False},
    )
    fast, paper = (preimage.invert(preimage.HOG(), photo, solver=s, **options).frames[0] for s in ("fast", "paper"))
    torch.testing.assert_close(fast - 128, (paper - 128) / 4)


def test_a_long_run_on_a_deep_layer_explores_and_a_short_one_descends() -> None:
    phi = preimage.from_callable(lambda x: x[:, :, ::16, ::16], preimage.PixelSpace(32, "grey"))
    phi.stride = 16
    photo = torch.full((1, 1, 32, 32), 20.0)

    def trace(**options: object) -> torch.Tensor:
        return preimage.invert(phi, photo, progress=False, **options).trace["total"]  # type: ignore[arg-type]

    assert len(trace()) == 300
    assert preimage.invert(preimage.HOG(), 20 * torch.eye(32)[None, None], progress=False).evaluations == 50
    assert torch.equal(trace(iterations=200), trace(iterations=200, solver="fourier-adam"))
    assert torch.equal(trace(iterations=30)[1:], trace(iterations=30, stages=[Stage(1, jitter=False)])[1:])
    assert bool((trace(iterations=30)[0] < trace(iterations=30, solver="fourier-adam")[0]).all())


@pytest.mark.parametrize("opened", [0, 4, 50])
def test_the_first_evaluations_of_a_descent_pass_closed_units_and_the_energies_stay_those_of_the_network(opened, monkeypatch) -> None:
    space = preimage.PixelSpace(24, "rgb", mean=117.0)
    phi, entered = preimage.Layer(network(), "3", space=space), []
    own = preimage.Layer.opened
    monkeypatch.setattr(preimage.Layer, "opened", lambda self, *passes: (entered.append(passes), own(self, *passes))[1])
    picture = torch.rand(24, 24, 3, generator=torch.Generator().manual_seed(2)).mul(255).byte().numpy()
    options = {"iterations": 9, "start": "noise", "progress": False}
    found = preimage.invert(phi, picture, solver=f"descent:opened={opened}", **options)
    assert entered == [(0.1, 0.35)] * min(opened, 9)
    plain = preimage.invert(phi, picture, solver="descent", **options)
    assert torch.equal(found.images, plain.images) == (opened == 0)
    assert torch.equal(found.trace["total"][0], plain.trace["total"][0])
    if opened:  # what is reported of the image that is kept is what the network as it is says of it
        wanted = phi(phi.space.encode(picture)).detach()
        error = (phi(found.images - phi.space.mean_colour) - wanted).norm() / wanted.norm()
        torch.testing.assert_close(found.error[0], error.detach(), rtol=1e-3, atol=1e-4)


def test_where_nothing_can_be_opened_a_descent_has_the_same_bits() -> None:
    target = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 100
    energy, x0 = Energy(FeatureTerm(Euclidean(), lambda x: x.relu(), target, C=10.0)), torch.full((1, 3, 8, 8), 5.0)
    found = [minimize(energy, x0, solver=s, stages=[Stage(8, jitter=False)]).x for s in ("descent", "descent:opened=5")]
    assert torch.equal(*found)
