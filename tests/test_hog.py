"""HOG against VLFeat's own numbers, against a plain second writing, and against what must hold of any such histogram."""

from __future__ import annotations

import copy
import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.shallow import LiteralHOG
from torch import Tensor

from preimage.errors import InputError
from preimage.representations.base import Representation
from preimage.representations.hog import HOG, nearest_orientation
from tests import shallow_reference as reference

GOLDEN = Path(__file__).parent / "data" / "golden_shallow.npz"
SHA256 = "ba6112e7007d82c6cecba499c2b70be392d873826ef217e6bc0914b53a14d2a1"

ALL = [HOG(texture=True), HOG(bilinear=True, texture=True), HOG(border="paper"), HOG(bilinear=True, border="paper")]


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return {key: file[key] for key in file.files}


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return 255 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def distance(features: Tensor, expected: np.ndarray) -> float:
    assert tuple(features.shape) == expected.shape
    return float(np.abs(features.double().numpy() - expected).max())


def test_the_golden_file_is_the_one_that_vlfeat_made() -> None:
    assert hashlib.sha256(GOLDEN.read_bytes()).hexdigest() == SHA256


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("picture", range(8))
def test_every_cell_is_vlfeats(golden: dict[str, np.ndarray], picture: int, dtype: torch.dtype) -> None:
    x = torch.from_numpy(golden["gray"][picture : picture + 1, None]).to(dtype)
    # VLFeat sums in float32: its own distance from exact arithmetic is 1.6e-7 on these pictures
    assert distance(HOG(texture=True)(x)[0], golden["hog"][picture]) < 2e-7
    # acosf of a cosine near 1, rounded to float32, is good to 3e-4 radians only
    assert distance(HOG(bilinear=True, texture=True)(x)[0], golden["hogb"][picture]) < 1.2e-4
    assert distance(HOG(bilinear=True)(x)[0], golden["hogb_x64"][picture]) < (1e-6 if dtype == torch.float32 else 2e-8)


def test_every_cell_of_an_odd_size_is_vlfeats(golden: dict[str, np.ndarray]) -> None:
    picture, height, width = golden["odd_crop"]
    x = torch.from_numpy(golden["gray"][picture, :height, :width].copy())[None, None]
    assert distance(HOG(texture=True)(x)[0], golden["odd_hog"]) < 2e-7
    assert distance(HOG(bilinear=True, texture=True)(x)[0], golden["odd_hogb"]) < 1.2e-4


def test_the_papers_border_leaves_the_inner_cells_as_vlfeats(golden: dict[str, np.ndarray]) -> None:
    x = torch.from_numpy(golden["gray"][:, None])
    inner = (slice(None), slice(None, 27), slice(2, -2), slice(2, -2))
    hard, bilinear = HOG(border="paper")(x)[inner], HOG(bilinear=True, border="paper")(x)[inner]
    assert distance(hard, golden["hog"][inner]) < 2e-6
    assert distance(bilinear, golden["hogb"][inner]) < 1.2e-4
    assert distance(bilinear, golden["hogb_x64"][inner]) < 3e-6


@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize(("cell", "n", "size"), [(8, 9, (41, 27)), (5, 6, (23, 32)), (4, 4, (17, 18)), (1, 3, (5, 4)), (6, 9, (4, 15))])
def test_a_plain_second_writing_gives_the_same(cell: int, n: int, size: tuple[int, int], bilinear: bool) -> None:
    x = noise(1, 1, *size, seed=cell).round()  # whole levels: equal neighbours and vertical gradients occur
    x[..., 3:9, 2:7] = 90.0
    features = HOG(cell, n, bilinear, texture=True)(x)[0]
    assert distance(features, reference.hog(x[0, 0].numpy(), cell, n, bilinear)) < 1e-12


@pytest.mark.parametrize("size", [(64, 72), (47, 35)])
@pytest.mark.parametrize("bilinear", [False, True])
def test_the_papers_form_is_the_network_of_dense_convolutions(size: tuple[int, int], bilinear: bool) -> None:
    x = noise(2, 1, *size).requires_grad_()
    ours, network = HOG(bilinear=bilinear, border="paper")(x), LiteralHOG(8, bilinear)(x)
    assert distance(ours.detach(), network.detach().numpy()) < 1e-11
    direction = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    ((a,), (b,)) = (torch.autograd.grad((f * direction).sum(), x) for f in (ours, network))
    assert (a - b).norm() < 1e-6 * b.norm()  # the network's arc cosine loses half the digits near 1


def test_the_papers_least_norm_holds_for_faint_images() -> None:
    x = 3e-11 * noise(1, 1, 64, 64)  # blocks have norms of about 3e-7, below the least of 1e-6
    ours = HOG(border="paper")(x)
    assert distance(ours, LiteralHOG(8)(x).numpy()) < 1e-12
    assert (ours - HOG(border="paper")(x / 2) * 2).abs().max() < 1e-12
    assert ours.max() > 0


def test_the_first_of_equally_near_directions_wins() -> None:
    up, down = torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[7.3, -7.3]]])
    for dtype in (torch.float32, torch.float64):
        assert nearest_orientation(up.to(dtype), down.to(dtype), 9).tolist() == [[[4, 13]]]
        assert nearest_orientation(down.to(dtype), up.to(dtype), 9).tolist() == [[[0, 9]]]


def test_many_orientations_keep_their_numbers() -> None:
    angle = torch.arange(600, dtype=torch.float64) * (np.pi / 300)
    assert nearest_orientation(angle.cos()[None, None], angle.sin()[None, None], 300).flatten().tolist() == list(range(600))


@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize("border", ["vlfeat", "paper"])
def test_turning_the_image_by_90_degrees_permutes_cells_and_orientations(bilinear: bool, border: str) -> None:
    n = 8  # a quarter turn is a whole number of directions
    phi = HOG(8, n, bilinear, texture=border == "vlfeat", border=border)  # type: ignore[arg-type]
    x = noise(1, 1, 48, 64)
    turned, features = phi(x.rot90(1, (2, 3)))[0], phi(x)[0].rot90(1, (1, 2))
    directed = torch.arange(2 * n).add(n // 2) % (2 * n)
    undirected = torch.arange(n).add(n // 2) % n + 2 * n
    order = torch.cat((directed, undirected, 3 * n + torch.tensor([1, 3, 0, 2])))[: phi.channels]
    assert (turned - features[order]).abs().max() < 1e-12


def test_mirroring_the_image_mirrors_the_nine_orientations() -> None:
    for border in ("vlfeat", "paper"):
        phi = HOG(bilinear=True, border=border)  # type: ignore[arg-type]
        x = noise(1, 1, 48, 64)
        order = torch.cat(((9 - torch.arange(18)) % 18, (9 - torch.arange(9)) % 9 + 18))
        assert (phi(x.flip(3))[0] - phi(x)[0].flip(2)[order]).abs().max() < 1e-12


@pytest.mark.parametrize("phi", ALL, ids=repr)
def test_contrast_and_brightness_do_not_matter_where_the_image_is_not_flat(phi: HOG) -> None:
    x = noise(1, 1, 64, 64)
    # blocks have norms above 100, so the 1e-4 under VLFeat's root is a relative 1e-8; the paper's image edge needs the black ground
    assert (phi(3 * x) - phi(x)).abs().max() < 1e-8
    if phi.border == "vlfeat":
        assert (phi(x + 40) - phi(x)).abs().max() < 1e-10


@pytest.mark.parametrize("phi", [HOG(4, 9, b, t, e) for b in (False, True) for t, e in ((True, "vlfeat"), (False, "paper"))], ids=repr)
def test_derivatives_are_those_of_finite_differences(phi: HOG) -> None:
    x = noise(1, 1, 11, 10, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(phi, x, eps=1e-5, atol=1e-6)


def test_second_derivatives_exist() -> None:
    x = noise(1, 1, 9, 9, seed=4).requires_grad_()
    assert torch.autograd.gradgradcheck(HOG(4, bilinear=True), x, eps=1e-5, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize("phi", ALL, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_on_flat_and_nearly_flat_images(phi: HOG, dtype: torch.dtype) -> None:
    half = torch.full((1, 1, 40, 40), 17.0, dtype=dtype)
    half[..., 20:] = 200.0
    stripes = torch.zeros(1, 1, 40, 40, dtype=dtype)
    stripes[..., ::2, :] = 255.0
    faint = [10.0**-power * noise(1, 1, 40, 40, dtype=dtype) for power in (3, 8, 14, 22, 30, 44)]
    for x in (torch.zeros(1, 1, 40, 40, dtype=dtype), half, stripes, *faint):
        x = x.clone().requires_grad_()
        features = phi(x)
        (gradient,) = torch.autograd.grad(features.sum(), x)
        assert torch.isfinite(features).all()
        assert torch.isfinite(gradient).all()


def test_a_flat_image_has_no_features() -> None:
    assert not HOG(texture=True)(torch.full((1, 1, 40, 40), 17.3)).any()
    inner = HOG(border="paper")(torch.full((1, 1, 64, 64), 17.3))[..., 2:-2, 2:-2]
    assert not inner.any()


@pytest.mark.parametrize("phi", ALL, ids=repr)
def test_samples_do_not_see_each_other(phi: HOG) -> None:
    x = noise(3, 1, 40, 49, dtype=torch.float32).requires_grad_()
    together = phi(x)
    # the last bit of a vectorised atan2 depends on where in the row of images a pixel stands
    assert (together - torch.cat([phi(x[i : i + 1]) for i in range(3)])).abs().max() < 1e-6
    (gradient,) = torch.autograd.grad(together[1].sum(), x)
    assert gradient[1].any()
    assert not gradient[[0, 2]].any()


@pytest.mark.parametrize("phi", ALL, ids=repr)
def test_float32_is_float64_rounded(phi: HOG) -> None:
    x = noise(2, 1, 70, 61, dtype=torch.float32)
    single, double = phi(x), phi(x.double())
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    assert (single - double).abs().max() < 1e-6


def test_any_layout_of_the_input_is_taken() -> None:
    x = noise(2, 1, 40, 40)
    assert torch.equal(HOG()(x.mT.contiguous().mT), HOG()(x))
    assert torch.equal(HOG()(x[:1].expand(2, -1, -1, -1)), HOG()(x[:1].repeat(2, 1, 1, 1)))


def test_sizes_are_vlfeats_or_the_papers() -> None:
    for height, width in ((64, 64), (67, 60), (68, 59)):
        x = torch.zeros(1, 1, height, width)
        assert HOG()(x).shape[2:] == ((height + 4) // 8, (width + 4) // 8)
        assert HOG(border="paper")(x).shape[2:] == (height // 8, width // 8)
    assert HOG(texture=True)(torch.zeros(1, 1, 8, 8)).shape[1] == HOG(texture=True).channels == 31


@pytest.mark.parametrize(("cell", "border"), [(8, "vlfeat"), (5, "vlfeat"), (4, "paper")])
def test_a_feature_sees_its_receptive_field_and_no_more(cell: int, border: str) -> None:
    phi = HOG(cell, bilinear=True, border=border)  # type: ignore[arg-type]
    x = noise(1, 1, 9 * cell, 9 * cell).requires_grad_()
    (gradient,) = torch.autograd.grad(phi(x)[0, :, 4, 4].sum(), x)
    rows = gradient[0, 0].any(dim=1).nonzero().flatten()
    assert int(rows[-1] - rows[0]) + 1 == phi.receptive_field
    assert phi.stride == cell


def test_it_is_a_representation_without_state() -> None:
    phi = HOG(bilinear=True)
    assert isinstance(phi, Representation)
    assert (phi.name, HOG().name, phi.jitter) == ("hogb", "hog", 1)
    assert phi.space.size is None
    assert phi.space.count == 1
    assert not list(phi.parameters())
    assert not phi.state_dict()
    x = noise(1, 1, 32, 32)
    assert torch.equal(pickle.loads(pickle.dumps(phi))(x), phi(x))
    assert torch.equal(copy.deepcopy(phi)(x), phi(x))
    assert repr(phi) == "HOG(cell=8, orientations=9, bilinear=True, texture=False, border='vlfeat')"


def test_a_first_call_without_gradients_does_not_spoil_later_ones() -> None:
    phi, x = HOG(7), noise(1, 1, 83, 29)
    with torch.inference_mode():
        phi(x)
    x.requires_grad_()
    phi(x).sum().backward()
    assert x.grad is not None


def test_a_broken_image_gives_broken_features_and_no_crash() -> None:
    x = torch.full((1, 1, 40, 40), float("nan"))
    x[..., 20:] = 0
    for phi in ALL:
        assert not torch.isfinite(phi(x)).all()


@pytest.mark.parametrize(
    "settings", [{"cell": 0}, {"cell": 2.0}, {"cell": True}, {"orientations": 1}, {"border": "none"}], ids=lambda s: next(iter(s))
)
def test_wrong_settings_are_named(settings: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(settings))):
        HOG(**settings)  # type: ignore[arg-type]


def test_wrong_images_are_told_what_is_wanted() -> None:
    with pytest.raises(InputError, match=r"grey images of shape \(B, 1, H, W\)"):
        HOG()(torch.zeros(1, 3, 32, 32))
    with pytest.raises(InputError, match="float32 or float64"):
        HOG()(torch.zeros(1, 1, 32, 32, dtype=torch.float16))
    with pytest.raises(InputError, match="at least 4x4 pixels"):
        HOG(2)(torch.zeros(1, 1, 32, 3))
    with pytest.raises(InputError, match="at least 16x16 pixels"):
        HOG(border="paper")(torch.zeros(1, 1, 15, 32))
