"""What holds of every encoding of dense SIFT; bags of words, VLAD, Fisher vectors against other libraries; vocabularies in files."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.errors import InputError, MissingExtra, PreimageWarning
from preimage.representations.base import Representation
from preimage.representations.codes import LLC, SparseCodes
from preimage.representations.dsift import DenseSIFT
from preimage.representations.encodings import VLAD, BagOfWords, FisherVector, SuperVector
from preimage.representations.vocabulary import Vocabulary, learn_vocabulary, load_vocabulary

SMALL = DenseSIFT(4, 4)


@pytest.fixture(scope="module")
def pictures() -> list[str]:
    return preimage.images.reference_images()


@pytest.fixture(scope="module")
def x(cat_levels: np.ndarray) -> Tensor:
    return torch.from_numpy(cat_levels.astype(np.float64))[None, None]


def rows(x: Tensor) -> np.ndarray:
    """Descriptors (n, 128) of one image."""
    return SMALL(x)[0].flatten(1).T.numpy()


def test_hard_words_are_those_of_scikit_learn(words: Vocabulary, x: Tensor) -> None:
    from sklearn.cluster import KMeans

    model = KMeans(words.words, n_init=1).fit(np.random.default_rng(0).random((20, 128)))
    model.cluster_centers_ = words.centres.double().numpy()
    labels = model.predict(rows(x)).reshape(SMALL(x).shape[2:])
    expected = []
    for side, weight in ((1, 0.25), (2, 0.25), (4, 0.5)):
        region = [np.arange(n) * side // n for n in labels.shape]
        counts = np.zeros((words.words, side, side))
        np.add.at(counts, (labels, region[0][:, None], region[1][None]), weight / labels.size)
        expected.append(counts.ravel())
    hard = BagOfWords(words, temperature=0)(x)[0].numpy()
    assert np.abs(hard - np.concatenate(expected)).max() < 1e-12
    cold = BagOfWords(words, temperature=1e-6)(x)[0].numpy()
    assert np.abs(cold - hard).sum() < 0.02  # a descriptor halfway between two words is the exception


def test_a_bag_of_words_sums_to_the_weights_of_its_grids(words: Vocabulary, x: Tensor) -> None:
    assert BagOfWords(words, grids=(1, 2, 3, 4))(x).sum().item() == pytest.approx(1 / 8 + 1 / 8 + 1 / 4 + 1 / 2)


@pytest.mark.parametrize("temperature", [0.0, 0.05])
def test_vlad_is_the_sum_of_residuals(words: Vocabulary, x: Tensor, temperature: float) -> None:
    d, c = rows(x), words.centres.double().numpy()
    distances = np.square(d[:, None] - c).sum(axis=2)
    if temperature:
        shares = np.exp(-(distances - distances.min(axis=1, keepdims=True)) / temperature)
        shares /= shares.sum(axis=1, keepdims=True)
    else:
        shares = np.eye(len(c))[distances.argmin(axis=1)]
    residuals = np.einsum("ik,ikd->kd", shares, d[:, None] - c)
    assert np.abs(VLAD(words, temperature=temperature, normalise="none")(x)[0].numpy() - residuals.ravel()).max() < 1e-10
    whole = VLAD(words, temperature=temperature, normalise="global")(x)[0].numpy()
    assert np.abs(whole - residuals.ravel() / np.linalg.norm(residuals)).max() < 1e-10
    intra = residuals / np.sqrt(np.square(residuals).sum(axis=1, keepdims=True) + 1e-12)  # no descriptor may be a word's
    assert np.abs(VLAD(words, temperature=temperature)(x)[0].numpy() - intra.ravel() / np.linalg.norm(intra)).max() < 1e-9


def test_residuals_of_regions_sum_to_those_of_the_image(words: Vocabulary, x: Tensor) -> None:
    parts = VLAD(words, grids=(1, 3), normalise="none")(x).view(10, -1)
    assert (parts[1:].sum(dim=0) - parts[0]).abs().max() < 1e-10


@pytest.mark.parametrize("improved", [False, True])
def test_fisher_vectors_are_scikit_images(mixture: Vocabulary, x: Tensor, improved: bool) -> None:
    from skimage.feature import fisher_vector
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(mixture.words, covariance_type="diag")
    assert mixture.variances is not None
    assert mixture.weights is not None
    model.means_, model.covariances_ = mixture.centres.double().numpy(), mixture.variances.double().numpy()
    model.weights_ = mixture.weights.double().numpy()
    model.precisions_cholesky_ = 1 / np.sqrt(model.covariances_)
    expected = fisher_vector(rows(x), model, improved=improved)
    ours = FisherVector(mixture, improved=improved)(x)[0].numpy()
    assert np.linalg.norm(ours - expected) < 1e-7 * np.linalg.norm(expected)  # 1e-12 under the power, where a value is near 0


def every(words: Vocabulary, mixture: Vocabulary) -> list[Representation]:
    by_moments = [BagOfWords(words), BagOfWords(words, (3,)), VLAD(words), VLAD(words, (2,)), FisherVector(mixture)]
    return [*by_moments, *by_codes(words)]


def by_codes(words: Vocabulary) -> list[Representation]:
    return [LLC(words, grids=(1, 2)), SparseCodes(words, grids=(1, 2)), SuperVector(words), SuperVector(words, (2,))]


def test_they_are_representations_whose_samples_are_independent(words: Vocabulary, mixture: Vocabulary, x: Tensor) -> None:
    both = torch.cat((x, x.flip(3)))
    for phi in every(words, mixture):
        assert isinstance(phi, Representation)
        assert (phi.stride, phi.jitter, phi.receptive_field) == (4, 1, None)  # type: ignore[attr-defined]
        assert (phi(both)[:1] - phi(x)).abs().max() < 1e-10
        probe = both.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(phi(probe)[1].square().sum(), probe)
        assert gradient[1].any()
        assert not gradient[0].any()


def test_derivatives_are_those_of_finite_differences(words: Vocabulary, mixture: Vocabulary, x: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    # levels that are no whole numbers: gradients along an axis lie on a kink of the orientation histogram
    patch = x[..., 20:48, 16:44] + torch.rand(28, 28, generator=generator, dtype=torch.float64)
    smooth = [BagOfWords(words, (1, 2)), VLAD(words), FisherVector(mixture), FisherVector(mixture, improved=False)]
    for phi in [*smooth, *by_codes(words)]:
        direction = torch.randn(patch.shape, generator=generator, dtype=torch.float64)
        weights = torch.randn(phi(patch).shape, generator=generator, dtype=torch.float64)
        probe = patch.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((phi(probe) * weights).sum(), probe)
        change = ((phi(patch + 1e-6 * direction) - phi(patch - 1e-6 * direction)) * weights).sum() / 2e-6
        assert (gradient * direction).sum().item() == pytest.approx(change.item(), rel=1e-4 if phi in smooth else 1e-3)


def test_flat_and_broken_images_do_not_crash(words: Vocabulary, mixture: Vocabulary) -> None:
    flat = torch.full((1, 1, 64, 64), 90.0, requires_grad=True)
    for phi in every(words, mixture):
        features = phi(flat)
        (gradient,) = torch.autograd.grad(features.sum(), flat)
        assert torch.isfinite(features).all()
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(("name", "reached"), [("bow", 0.1), ("vlad", 0.3), ("fisher", 0.55)])
def test_each_inverts_by_the_same_call(words: Vocabulary, mixture: Vocabulary, cat_levels: np.ndarray, name: str, reached: float) -> None:
    phi = {"bow": BagOfWords(words), "vlad": VLAD(words, (2,)), "fisher": FisherVector(mixture)}[name]
    # the path from noise is chaotic: at 160 iterations the Fisher vector's error is 0.36 to 0.50 over six seeds, at 80 it is 0.51 to 0.62
    result = preimage.invert(phi, cat_levels, iterations=160, progress=False)
    assert result.status == ["ok"]
    assert result.images.shape == (1, 1, 64, 64)
    assert result.error is not None
    assert result.error.item() < reached
    assert result.energy["total"] < 0.3 * result.trace["total"][0]
    assert result.config["weights_sha256"] is not None


def test_a_fisher_vector_that_is_not_reached_is_said_by_the_status_the_caption_and_the_exit_code(
    mixture: Vocabulary, tmp_path: Path
) -> None:
    levels = np.random.default_rng(0).integers(0, 255, (24, 24), dtype=np.uint8)
    phi = FisherVector(mixture)
    with pytest.warns(PreimageWarning, match="no nearer to the image's than none at all"):
        own = preimage.invert(phi, levels, C=1e-9, progress=False)
    assert own.error is not None and own.error.item() >= 1
    assert own.status[0].startswith("the error is 1") and "no nearer" in own.captions()[0] and "(not ok)" in own.captions()[0]
    short = preimage.invert(phi, levels, C=1e-9, iterations=3, progress=False)  # chosen: no failure, but not without a word
    assert short.status == ["ok"] and "no nearer to the image's features than none at all" in short.captions()[0]
    PIL.Image.fromarray(levels).save(tmp_path / "photo.png")
    mixture.save(tmp_path / "words.safetensors")
    given = ["--name", "fisher", "--vocabulary", tmp_path / "words.safetensors", "--C", "1e-9", "-q", "-o", tmp_path / "out"]
    with warnings.catch_warnings():
        warnings.simplefilter("always", PreimageWarning)
        done = CliRunner().invoke(app, [str(w) for w in ["invert-shallow", tmp_path / "photo.png", *given]])
    assert done.exit_code == 1 and "no nearer" in done.stdout and (tmp_path / "out" / "result.json").is_file(), done.output


def test_a_vocabulary_comes_back_from_its_file(mixture: Vocabulary, words: Vocabulary, tmp_path: Path) -> None:
    for vocabulary in (words, mixture):
        vocabulary.save(tmp_path / "words.safetensors")
        found = load_vocabulary(tmp_path / "words.safetensors")
        assert (found.kind, found.words, dict(found.descriptor)) == (vocabulary.kind, vocabulary.words, vocabulary.descriptor)
        assert dict(found.about) == dict(vocabulary.about)
        assert torch.equal(found.centres, vocabulary.centres)
        assert found.sift().extra_repr() == SMALL.extra_repr()


def test_the_same_seed_gives_the_same_words(pictures: list[str], words: Vocabulary) -> None:
    again = learn_vocabulary(pictures, 12, descriptors=1500, size=96, progress=False)
    other = learn_vocabulary(pictures, 12, descriptors=1500, size=96, seed=1, progress=False)
    assert torch.equal(again.centres, words.centres)
    assert not torch.equal(other.centres, words.centres)


def test_learned_words_are_near_the_descriptors(words: Vocabulary, pictures: list[str]) -> None:
    """Twelve words explain more of the descriptors' spread than any one; and as much as scikit-learn's own run does."""
    from sklearn.cluster import KMeans

    from preimage.representations.vocabulary import _sample

    found, _ = _sample(pictures, SMALL, 500, 96, 0, False)
    ours = np.square(found[:, None] - words.centres.double().numpy()).sum(axis=2).min(axis=1).mean()
    theirs = KMeans(12, n_init=1, random_state=0).fit(found).inertia_ / len(found)
    assert ours < 1.03 * theirs  # other first centres, another local minimum
    assert ours < 0.8 * found.var(axis=0).sum()


def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path, words: Vocabulary) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "words.safetensors"
    with pytest.raises(InputError, match="preimage vocabulary"):
        load_vocabulary(path)
    path.write_bytes(b"not a vocabulary")
    with pytest.raises(InputError, match="holds no vocabulary"):
        load_vocabulary(path)
    save_file({"centres": torch.zeros(3, 128)}, path)
    with pytest.raises(InputError, match="holds no vocabulary"):
        load_vocabulary(path)
    words.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(InputError, match="holds no vocabulary"):
        load_vocabulary(path)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"kind": "tree"}, "kmeans"),
        ({"centres": torch.zeros(3, 7)}, "128"),
        ({"variances": torch.ones(3, 128)}, "neither"),
        ({"kind": "gmm"}, "variances and weights"),
        ({"kind": "gmm", "variances": torch.zeros(3, 128), "weights": torch.ones(3)}, "above 0"),
        ({"centres": torch.full((3, 128), float("nan"))}, "finite"),
        ({"descriptor": {"bin": 4}}, "window"),
    ],
    ids=str,
)
def test_a_vocabulary_whose_parts_do_not_fit_is_refused(settings: dict, match: str) -> None:
    with pytest.raises(InputError, match=match):
        Vocabulary(**({"kind": "kmeans", "centres": torch.zeros(3, 128)} | settings))


def test_wrong_settings_are_named(words: Vocabulary, mixture: Vocabulary, x: Tensor, pictures: list[str]) -> None:
    with pytest.raises(InputError, match="--kind gmm"):
        FisherVector(words)
    with pytest.raises(InputError, match="--kind kmeans"):
        VLAD(mixture)
    with pytest.raises(InputError, match="temperature"):
        BagOfWords(words, temperature=-1)
    with pytest.raises(InputError, match="grids"):
        BagOfWords(words, ())
    with pytest.raises(InputError, match="normalise"):
        VLAD(words, normalise="l1")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="alpha"):
        FisherVector(mixture, alpha=0)
    with pytest.raises(InputError, match="coarser grid"):
        BagOfWords(words, (20,))(x)
    with pytest.raises(InputError, match="too few for 12 words"):
        learn_vocabulary([PIL.Image.new("L", (64, 64), 9)], 12, progress=False)
    with pytest.raises(InputError, match="no image"):
        learn_vocabulary([], progress=False)
    with pytest.raises(InputError, match="words"):
        learn_vocabulary(pictures, 0, progress=False)


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, pictures: list[str]) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    with pytest.raises(MissingExtra, match=r"preimage\[shallow\]"):
        learn_vocabulary(pictures, progress=False)
