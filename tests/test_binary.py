"""BRIEF against scikit-image, FREAK against OpenCV, and what their soft bits must do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor

import preimage
from preimage.errors import InputError
from preimage.representations.base import Representation
from preimage.representations.binary import BinaryDescriptor
from preimage.representations.brief import BRIEF
from preimage.representations.freak import FREAK

GOLDEN = Path(__file__).parent / "data" / "golden_freak.npz"
SMALL = {
    "brief": lambda **given: BRIEF(40, 11, step=4, **given),
    "brief uniform": lambda **given: BRIEF(40, 9, "uniform", 2.0, step=4, **given),
    "freak": lambda **given: FREAK(scale=8, step=4, **given),
    "freak gaussian": lambda **given: FREAK("all", 6, "gaussian", step=4, **given),
}


@pytest.fixture(params=list(SMALL))
def make(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    return SMALL[request.param]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 255 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_brightness_changes_nothing_and_the_negative_has_the_opposite_features(make) -> None:  # type: ignore[no-untyped-def]
    phi, x = make(), noise(1, 1, 30, 34) - 128
    assert (phi(x + 70) - phi(x)).abs().max() < 1e-12
    assert (phi(-x) + phi(x)).abs().max() < 1e-12
    hard = make(temperature=0)
    assert torch.equal(hard(3.0 * x), hard(x))  # contrast


def test_moving_the_image_by_a_step_moves_the_grid(make) -> None:  # type: ignore[no-untyped-def]
    phi, x = make(), noise(1, 1, 48, 52)
    moved = phi(x[..., 4:, 8:])
    assert (moved - phi(x)[..., 1:, 2:])[..., 2:, 2:].abs().max() < 1e-12  # where no patch is near the mirrored edge


def test_samples_do_not_see_each_other(make) -> None:  # type: ignore[no-untyped-def]
    phi, x = make(), noise(3, 1, 28, 30).requires_grad_()
    assert isinstance(phi, Representation)
    assert (phi(x)[1:2] - phi(x[1:2])).abs().max() < 1e-12
    (gradient,) = torch.autograd.grad(phi(x)[1].square().sum(), x)
    assert gradient[1].any() and not gradient[[0, 2]].any()


def test_derivatives_are_those_of_finite_differences(make) -> None:  # type: ignore[no-untyped-def]
    phi = make(temperature=60.0)
    x, direction = noise(1, 1, 26, 27).requires_grad_(), noise(1, 1, 26, 27, seed=1) - 128
    weights = noise(*phi(x).shape, seed=2) - 128
    (gradient,) = torch.autograd.grad((phi(x) * weights).sum(), x)
    change = ((phi(x + 1e-5 * direction) - phi(x - 1e-5 * direction)) * weights).sum() / 2e-5
    assert (gradient * direction).sum().item() == pytest.approx(change.item(), rel=1e-6)


def test_what_is_compared_is_linear_and_a_flat_image_has_none(make) -> None:  # type: ignore[no-untyped-def]
    phi, x, y = make(), noise(1, 1, 27, 26), noise(1, 1, 27, 26, seed=1)
    assert (phi.differences(2 * x - 3 * y) - 2 * phi.differences(x) + 3 * phi.differences(y)).abs().max() < 1e-9
    flat = torch.full((1, 1, 27, 26), 90.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(phi(flat).sum(), flat)
    assert phi(flat).abs().max() < 1e-4 and gradient.isfinite().all()


def test_bits_harden_as_it_gets_cold(make) -> None:  # type: ignore[no-untyped-def]
    x = noise(1, 1, 26, 26)
    hard = make(temperature=0)(x)
    distances = [(make(temperature=t)(x) - hard).abs().mean().item() for t in (100.0, 10.0, 1.0, 1e-9)]
    assert distances == sorted(distances, reverse=True) and distances[-1] < 1e-6


def test_a_keypoint_has_the_descriptor_of_the_grid_there(make) -> None:  # type: ignore[no-untyped-def]
    x, grid = noise(2, 1, 34, 38), make()
    places = grid.places(34, 38)
    chosen = [7, 0, 3]
    own = make(keypoints=[places[k] for k in chosen])
    assert own(x).shape == (2, grid.pairs, 3)
    assert (own(x) - grid(x).flatten(2)[:, :, chosen]).abs().max() < 1e-12


@pytest.mark.parametrize("mode", ["normal", "uniform"])
@pytest.mark.parametrize(("patch", "sigma", "seed"), [(49, 1.0, 1), (33, 2.0, 1), (20, 0.7, 5)])
def test_brief_s_bits_are_scikit_images(mode: str, patch: int, sigma: float, seed: int) -> None:
    from skimage import feature

    x = noise(1, 1, 70, 83, seed=seed)
    phi = BRIEF(128, patch, mode, sigma, seed, step=9, temperature=0)  # type: ignore[arg-type]
    theirs = feature.BRIEF(128, patch, mode, sigma, seed)
    theirs.extract(x[0, 0].numpy() / 255, np.array(phi.places(70, 83)))
    assert theirs.mask.all()
    assert np.array_equal(phi(x)[0].flatten(1).T.numpy() > 0, theirs.descriptors)


def rounded(phi: FREAK, x: Tensor, places: np.ndarray) -> np.ndarray:
    """The means of all fields as OpenCV rounds them, (43, n)."""
    rows, columns = torch.from_numpy(places).unbind(1)
    return np.floor(phi.means(x[:, 0], rows, columns)[0].numpy() + 0.5 + 1e-9)  # a mean is a sum of shares, whose last bit may be missing


def test_freak_s_bits_are_opencv_s() -> None:
    """OpenCV compares rounded means; where its smallest fields are interpolated, it rounds the shares too."""
    golden = np.load(GOLDEN)
    x = torch.from_numpy(golden["gray"].astype(np.float64))[None, None]
    for scale, places, packed, exact in zip(golden["scales"], golden["places"], golden["bits"], (False, True), strict=True):
        theirs = np.unpackbits(packed, axis=1).astype(bool).T
        phi = FREAK(scale=float(scale), keypoints=[(int(r), int(c)) for r, c in places], temperature=0)
        ours = phi.differences(x)[0].numpy()
        clear = np.abs(ours) > 1
        assert clear.mean() > 0.85 and np.array_equal(ours[clear] > 0, theirs[clear])
        means, (first, second) = rounded(phi, x, places), phi.tests.numpy()
        agree = (means[first] >= means[second]) == theirs
        assert agree.all() if exact else agree.mean() > 0.999


@pytest.mark.parametrize("field", ["box", "gaussian"])
def test_a_field_is_the_mean_that_the_pattern_says(field: str) -> None:
    """One field of the outermost ring and one inside, written out from the paper's figures."""
    x, scale = noise(1, 1, 81, 81), 18.0
    phi = FREAK(scale=scale, field=field)  # type: ignore[arg-type]
    means = phi.means(x[:, 0], torch.tensor([40]), torch.tensor([40]))[0, :, 0]
    levels = x[0, 0].numpy()
    u, v = np.mgrid[-40:41, -40:41]
    for index, radius, angle in ((1, 2 / 3, np.pi / 3), (9, 2 / 3 - 6 * (7 / 12) / 21, np.pi + np.pi / 6)):
        row, column, half = scale * radius * np.sin(angle), scale * radius * np.cos(angle), scale * radius / 2
        if field == "box":
            inside = (np.abs(u - row) <= half + 0.5) & (np.abs(v - column) <= half + 0.5)
            assert means[index].item() == pytest.approx(levels[inside].mean(), rel=0.01)  # its edges are rounded to pixels
        else:
            weights = np.exp(-((u - row) ** 2 + (v - column) ** 2) / (2 * half**2))
            assert means[index].item() == pytest.approx((levels * weights).sum() / weights.sum(), rel=0.005)  # not cut off


def test_a_mirrored_image_has_the_mirrored_fields() -> None:
    x, phi = noise(1, 1, 45, 45), FREAK(field="gaussian", scale=12)
    centre = torch.tensor([22])
    means, mirrored = (phi.means(image[:, 0], centre, centre).sort(dim=1).values for image in (x, x.flip(2)))
    assert (means - mirrored).abs().max() < 1e-9
    assert (phi.means(x[:, 0], centre, centre) - phi.means(x.flip(2)[:, 0], centre, centre)).abs().max() > 1


def test_freak_tells_its_pairs_apart_and_knows_903() -> None:
    every, learned = FREAK("all").tests, FREAK().tests
    assert every.shape == (2, 903) and learned.shape == (2, 512)
    assert bool((every[0] > every[1]).all()) and bool((learned[0] > learned[1]).all())
    assert len({tuple(pair) for pair in learned.T.tolist()}) == 512


@pytest.mark.parametrize("phi", [BRIEF(patch=17, step=6), FREAK(scale=10, step=6)], ids=["brief", "freak"])
def test_each_inverts_from_its_bits_alone_by_the_same_call(phi: BinaryDescriptor) -> None:
    with PIL.Image.open(next(p for p in preimage.images.reference_images() if "chelsea" in p)) as picture:
        cat = np.asarray(picture.convert("L").resize((48, 48)))
    result = preimage.invert(phi, cat, iterations=30, progress=False, release=torch.sign)
    assert result.status == ["ok"] and result.error is not None
    assert result.error.item() < 0.6
    a, b = (image.flatten() - image.mean() for image in (result.images[0], torch.from_numpy(cat.astype(np.float32))))
    assert float(a @ b / (a.norm() * b.norm())) > 0.7


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: BRIEF(temperature=-1), "temperature"),
        (lambda: BRIEF(mode="even"), "mode"),  # type: ignore[arg-type]
        (lambda: BRIEF(sigma=0), "sigma"),
        (lambda: BRIEF(keypoints=[]), "keypoints"),
        (lambda: FREAK("best"), "learned"),  # type: ignore[arg-type]
        (lambda: FREAK(field="disc"), "gaussian"),  # type: ignore[arg-type]
        (lambda: FREAK(scale=1), "scale"),
        (lambda: FREAK()(torch.zeros(1, 1, 30, 60)), "at least 45x45"),
        (lambda: BRIEF(keypoints=[(5, 30)])(torch.zeros(1, 1, 60, 60)), r"\(5, 30\) is nearer to the edge"),
    ],
)
def test_wrong_settings_are_named(build, match: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=match):
        build()
