"""A visual vocabulary: typical dense SIFT descriptors or answers of filters, learned with scikit-learn, kept in one safetensors file."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..bars import progress_bar
from ..errors import InputError, missing_extra
from ..pixels.images import ImageLike, atomic_write, read_image, resize, to_grey
from ..ranges import checked
from .dsift import DenseSIFT
from .leung_malik import FILTERS, LeungMalik

Kind = Literal["kmeans", "gmm"]
FLOOR = 5e-4  # added to the variances of a mixture (a fifth of their median): bins that are nearly always 0 would outweigh all others
ROUNDS = 100  # of Lloyd's or the EM algorithm, at most
_SETTINGS = ("bin", "step", "form", "window")
_TEXTONS = ("filters", "step", "support")


@dataclass(frozen=True)
class Vocabulary:
    """K words of D numbers. kind "kmeans": their centres (K, D); "gmm": also variances (K, D) and weights (K,), summing to 1.

    descriptor: the settings of the `DenseSIFT` (D = 128) or the `LeungMalik` (D = 48) that it describes, by `settings_of`. about: where
    it came from, plain values.
    Raises InputError if the parts do not belong together.

    >>> Vocabulary("kmeans", torch.zeros(8, 128)).words
    8
    """

    kind: Kind
    centres: Tensor
    variances: Tensor | None = None
    weights: Tensor | None = None
    descriptor: Mapping[str, Any] = field(default_factory=lambda: settings_of(DenseSIFT(4, 4)))
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(f"A vocabulary is of kind 'kmeans' or 'gmm'; got {self.kind!r}.")
        textons = set(self.descriptor) == set(_TEXTONS)
        if not textons and set(self.descriptor) != set(_SETTINGS):
            raise InputError(f"The descriptor of a vocabulary has {', '.join(_SETTINGS)}; got {dict(self.descriptor)!r}.")
        size = FILTERS if textons else 128
        if self.centres.ndim != 2 or self.centres.shape[1] != size or len(self.centres) < 1:
            raise InputError(f"The words of a vocabulary are (K, {size}) numbers; got {tuple(self.centres.shape)}.")
        mixture = self.kind == "gmm"
        if mixture != (self.variances is not None) or mixture != (self.weights is not None):
            raise InputError("A vocabulary of kind 'gmm' has variances and weights beside its centres, one of 'kmeans' has neither.")
        for name, shape in (("centres", (self.words, size)), ("variances", (self.words, size)), ("weights", (self.words,))):
            part: Tensor | None = getattr(self, name)
            if part is None:
                continue
            if part.shape != shape or not part.is_floating_point() or not bool(torch.isfinite(part).all()):
                raise InputError(f"The {name} of a vocabulary are {shape} finite numbers; got {tuple(part.shape)}, {part.dtype}.")
            if name != "centres" and not bool((part > 0).all()):
                raise InputError(f"The {name} of a vocabulary are above 0; the least is {part.min().item():g}.")

    @property
    def words(self) -> int:
        """K."""
        return len(self.centres)

    def sift(self) -> DenseSIFT:
        """Return the descriptor that the words are of. Raises InputError for a vocabulary of textons."""
        if set(self.descriptor) == set(_TEXTONS):
            raise InputError("These words are textons, answers of filters. Learn words of SIFT: preimage vocabulary IMAGES… -o FILE")
        return DenseSIFT(**self.descriptor)

    def filters(self) -> LeungMalik:
        """Return the filters that the textons are answers of. Raises InputError for a vocabulary of SIFT."""
        if set(self.descriptor) != set(_TEXTONS) or self.kind != "kmeans":
            raise InputError("Textons need a vocabulary of their own. Learn one: preimage vocabulary IMAGES… --textons -o FILE")
        return LeungMalik(self.descriptor["step"], self.descriptor["support"])

    def save(self, path: str | os.PathLike[str]) -> None:
        """One safetensors file, written whole or not at all."""
        from safetensors.torch import save

        parts = {"centres": self.centres, "variances": self.variances, "weights": self.weights}
        record = {"preimage-vocabulary": 1, "kind": self.kind, "descriptor": dict(self.descriptor), "about": dict(self.about)}
        tensors = {k: v.contiguous() for k, v in parts.items() if v is not None}
        with atomic_write(path) as file:
            file.write(save(tensors, metadata={"vocabulary": json.dumps(record)}))


def load_vocabulary(path: str | os.PathLike[str]) -> Vocabulary:
    """Read back what `Vocabulary.save` or `preimage vocabulary` wrote. Raises InputError if the file holds something else."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})["vocabulary"])
            parts = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        return Vocabulary(record["kind"], **parts, descriptor=record["descriptor"], about=record["about"])
    except InputError as error:
        raise InputError(f"{str(path)!r} is no usable vocabulary: {error}") from error
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise InputError(f"{str(path)!r} holds no vocabulary ({error}). Make one: preimage vocabulary IMAGES… -o FILE") from error


def learn_vocabulary(
    images: Sequence[ImageLike],
    words: int = 64,
    kind: Kind = "kmeans",
    *,
    sift: DenseSIFT | LeungMalik | None = None,
    descriptors: int = 50_000,
    size: int | None = 256,
    seed: int = 0,
    progress: bool = True,
) -> Vocabulary:
    """Learn `words` typical descriptors: k-means for `BagOfWords` and `VLAD`, a diagonal Gaussian mixture for `FisherVector`.

    images: paths or PIL images, made grey, the short side reduced to `size` pixels where it is longer. sift: by default bins of
    4 pixels, a descriptor every 4; a `LeungMalik` for the words of `Textons`. descriptors: how many to learn from at most, as many
    from each image. The same seed and images give the same words. Needs the extra `shallow` (scikit-learn). Raises InputError if
    there are fewer descriptors than words.
    """
    if kind not in get_args(Kind):
        raise InputError(f"kind is 'kmeans' or 'gmm'; got {kind!r}.")
    for name, value in (("words", words), ("descriptors", descriptors), ("seed", seed)):
        checked(name, value)
    if not images:
        raise InputError("There is no image to learn from.")
    _sklearn()
    sift = sift or DenseSIFT(4, 4)
    found, digest = _sample(images, sift, -(-descriptors // len(images)), size, seed, progress)
    if len(np.unique(found, axis=0)) < words:
        raise InputError(
            f"{len(images)} image(s) give {len(found)} descriptors, not all different: too few for {words} words. Give more images."
        )
    about = {"images": len(images), "images_sha256": digest, "descriptors": len(found), "size": size, "seed": seed}
    about |= {"scikit-learn": _sklearn().__version__}
    learn = _kmeans if kind == "kmeans" else _mixture
    parts = {k: torch.from_numpy(np.ascontiguousarray(v, dtype=np.float32)) for k, v in learn(found, words, seed, progress).items()}
    return Vocabulary(kind, **parts, descriptor=settings_of(sift), about=about)


def settings_of(sift: DenseSIFT | LeungMalik) -> dict[str, Any]:
    """Return what makes the same descriptor or filters again, as plain values."""
    if isinstance(sift, LeungMalik):
        return {"filters": "leung-malik", "step": sift.step, "support": sift.support}
    return {name: getattr(sift, name) for name in _SETTINGS}


def _sklearn() -> Any:
    try:
        import sklearn
    except ImportError:
        raise missing_extra("Learning needs scikit-learn", "shallow") from None
    return sklearn


def _sample(
    images: Sequence[ImageLike], sift: DenseSIFT | LeungMalik, each: int, size: int | None, seed: int, progress: bool
) -> tuple[np.ndarray, str]:
    """At most `each` descriptors of every image, (N, D) float64, and a hash of the images."""

    rng, found, digest = np.random.default_rng(seed), [], hashlib.sha256()
    for image in progress_bar(images, desc="descriptors", unit="image", shown=progress):
        levels = to_grey(read_image(image))
        short = min(levels.shape)
        if size is not None and short > size:
            levels = resize(levels, (round(levels.shape[0] * size / short), round(levels.shape[1] * size / short)))
        digest.update(np.ascontiguousarray(levels).tobytes())
        with torch.no_grad():
            rows = sift(torch.from_numpy(np.array(levels, dtype=np.float32))[None, None])[0].flatten(1).T.double().numpy()
        found.append(rows[rng.permutation(len(rows))[:each]])
    return np.concatenate(found), digest.hexdigest()


def _rounds(title: str, progress: bool) -> Iterator[int]:

    return iter(progress_bar(range(ROUNDS), desc=title, unit="round", shown=progress))


def _kmeans(found: np.ndarray, words: int, seed: int, progress: bool) -> dict[str, np.ndarray]:
    """scikit-learn's k-means, one round of Lloyd's algorithm at a time so that there is something to watch."""
    from sklearn.cluster import KMeans, kmeans_plusplus

    centres, _ = kmeans_plusplus(found, words, random_state=seed)
    spread = found.var(axis=0).mean()
    for _ in _rounds("k-means", progress):
        with _unconverged():
            model = KMeans(words, init=centres, n_init=1, max_iter=1, random_state=seed).fit(found)
        moved = np.square(model.cluster_centers_ - centres).sum()
        centres = model.cluster_centers_
        if moved <= 1e-4 * spread:  # KMeans' own rule
            break
    return {"centres": centres}


def _mixture(found: np.ndarray, words: int, seed: int, progress: bool) -> dict[str, np.ndarray]:
    """scikit-learn's Gaussian mixture with diagonal covariances, one round of EM at a time."""
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(words, covariance_type="diag", max_iter=1, warm_start=True, reg_covar=FLOOR, random_state=seed)
    for _ in _rounds("mixture", progress):
        with _unconverged():
            model.fit(found)
        if model.converged_:
            break
    return {"centres": model.means_, "variances": model.covariances_, "weights": model.weights_}


@contextmanager
def _unconverged() -> Iterator[None]:
    """scikit-learn warns that one round is not enough; the loop around it knows."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
