"""HOGgles, the baseline of the paper's Table 2: HOG inverted by a paired dictionary (Vondrick et al., ICCV 2013)."""

from __future__ import annotations

import importlib.util
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..bars import progress_bar
from ..errors import InputError, missing_extra
from ..pixels.images import ImageLike, atomic_write, read_image, resize, to_grey
from ..representations.hog import HOG

CELL, WINDOW = 8, 5  # a window is 5x5 cells, 40x40 pixels
CHANNELS = 27
PENALTY = 0.1  # the lasso's, while learning
BATCH, SCALES, FAINT = 256, (1.0, 0.7, 0.5), 4.0  # patches whose levels spread less than FAINT show nothing
MEAN, SPREAD = 128.0, 55.0  # HOG knows neither brightness nor contrast: those of a usual photograph
PICTURES = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png")


@dataclass(frozen=True)
class PairedDictionary:
    r"""Atoms that are a window of HOG and a patch of pixels at once: a window is :math:`V\alpha`, its patch :math:`U\alpha`.

    hog: V (K, 27·5·5), atoms of length 1. pixels: U (K, 40·40), of patches with mean 0 and standard deviation 1. mean: the mean
    window (27·5·5,), subtracted first. atoms: how many a window is made of (orthogonal matching pursuit). about: plain values.
    HOG is that of `HOG()`. Calling it inverts: HOG (B, 27, h, w), h and w at least 5 -> grey levels (B, 1, 8h, 8w). Patches
    overlap and are averaged; brightness and contrast are set to a usual photograph's, as HOG does not know them.

    This is the idea of HOGgles, not its code: their dictionary has other sizes, was learned on PASCAL VOC with SPAMS, and is lost.
    """

    hog: Tensor
    pixels: Tensor
    mean: Tensor
    atoms: int = 10
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wanted = {"hog": (len(self.hog), CHANNELS * WINDOW**2), "pixels": (len(self.hog), (CELL * WINDOW) ** 2)}
        wanted["mean"] = wanted["hog"][1:]  # type: ignore[assignment]
        for name, shape in wanted.items():
            part: Tensor = getattr(self, name)
            if part.shape != shape or not part.is_floating_point() or not bool(torch.isfinite(part).all()) or 0 in shape:
                raise InputError(f"{name} of a paired dictionary is {shape} finite numbers; got {tuple(part.shape)}, {part.dtype}.")
        if isinstance(self.atoms, bool) or not isinstance(self.atoms, int) or not 1 <= self.atoms <= len(self.hog):
            raise InputError(f"atoms is a whole number from 1 to {len(self.hog)}; got {self.atoms!r}.")

    def __call__(self, features: Tensor) -> Tensor:
        decomposition = _sklearn()
        if features.ndim != 4 or features.shape[1] != CHANNELS or min(features.shape[2:]) < WINDOW:
            raise InputError(f"HOGgles inverts HOG (B, {CHANNELS}, h, w) of at least {WINDOW}x{WINDOW} cells; got {tuple(features.shape)}.")
        windows = F.unfold(features.double().cpu(), WINDOW).mT - self.mean.double()
        V = self.hog.double().numpy()
        with _quiet():
            codes = decomposition.sparse_encode(windows.flatten(0, 1).numpy(), V, algorithm="omp", n_nonzero_coefs=self.atoms)
        patches = (torch.from_numpy(codes) @ self.pixels.double()).view(len(features), -1, (CELL * WINDOW) ** 2).mT
        size = (CELL * features.shape[2], CELL * features.shape[3])
        total, count = (F.fold(p, size, CELL * WINDOW, stride=CELL) for p in (patches, torch.ones_like(patches)))
        images = total / count
        images = images - images.mean(dim=(1, 2, 3), keepdim=True)
        return (MEAN + SPREAD * images / images.std(dim=(1, 2, 3), keepdim=True).clamp(min=1e-9)).float()

    def save(self, path: str | os.PathLike[str]) -> None:
        """One safetensors file, written whole or not at all."""
        from safetensors.torch import save

        record = json.dumps({"preimage-hoggles": 1, "atoms": self.atoms, "about": dict(self.about)})
        parts = {name: getattr(self, name).contiguous() for name in ("hog", "pixels", "mean")}
        with atomic_write(path) as file:
            file.write(save(parts, metadata={"hoggles": record}))


def load_dictionary(path: str | os.PathLike[str]) -> PairedDictionary:
    """Read back what `PairedDictionary.save` wrote. Raises InputError if the file holds something else."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})["hoggles"])
            parts = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        return PairedDictionary(**parts, atoms=record["atoms"], about=record["about"])
    except InputError as error:
        raise InputError(f"{str(path)!r} is no usable paired dictionary: {error}") from error
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise InputError(f"{str(path)!r} holds no paired dictionary ({error}). Name a new file: it will be learned.") from error


def learn_dictionary(
    images: Sequence[ImageLike] | None = None,
    size: int = 300,
    *,
    windows: int = 20_000,
    steps: int = 80,
    seed: int = 0,
    progress: bool = True,
) -> PairedDictionary:
    """Learn `size` paired atoms with scikit-learn's `MiniBatchDictionaryLearning`, about a minute on one core.

    images: to learn from, made grey, at three scales and mirrored; by default the colour photographs in scikit-image's package.
    windows: how many to learn from at most. steps: mini-batches of 256. The same seed gives the same dictionary.
    HOG windows and patches are joined, each divided by its root mean square, so that both count alike.
    Needs the extra `shallow`. Raises InputError if the images have fewer windows than atoms.
    """
    decomposition = _sklearn()
    given = scikit_image_photographs() if images is None else list(images)
    features, patches = _training_windows(given, progress)
    rng = np.random.default_rng(seed)
    if len(features) < size:
        raise InputError(f"{len(given)} image(s) give {len(features)} windows that show something: too few for {size} atoms.")
    chosen = rng.permutation(len(features))[:windows]
    features, patches = features[chosen], patches[chosen]
    mean = features.mean(axis=0)
    scales = [np.sqrt(np.square(p).sum(axis=1).mean()) for p in (features - mean, patches)]
    joint = np.concatenate([(features - mean) / scales[0], patches / scales[1]], axis=1)
    model = decomposition.MiniBatchDictionaryLearning(size, alpha=PENALTY, batch_size=BATCH, fit_algorithm="cd", random_state=seed)

    with _quiet():
        for _ in progress_bar(range(steps), desc="HOGgles dictionary", unit="batch", shown=progress):
            model.partial_fit(joint[rng.integers(0, len(joint), max(BATCH, size))])
    V, U = np.split(model.components_, [features.shape[1]], axis=1)
    V, U = V * scales[0], U * scales[1]
    length = np.linalg.norm(V, axis=1, keepdims=True)
    used = length[:, 0] > 1e-6 * length.max()
    about = {"images": len(given), "windows": len(features), "steps": steps, "seed": seed, "penalty": PENALTY}
    hog, pixels, middle = (
        torch.from_numpy(np.ascontiguousarray(p, dtype=np.float32)) for p in ((V / length)[used], (U / length)[used], mean)
    )
    return PairedDictionary(hog, pixels, middle, atoms=min(10, int(used.sum())), about=about)


def scikit_image_photographs() -> list[Path]:
    """The colour photographs of natural scenes that scikit-image carries; nothing is downloaded."""
    found = importlib.util.find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        raise missing_extra("The default pictures are scikit-image's", "shallow", ", or give images")
    paths = [Path(found.submodule_search_locations[0], "data", name) for name in PICTURES]
    missing = [p.name for p in paths if not p.is_file()]
    if missing:
        raise InputError(f"This scikit-image does not carry {', '.join(missing)}. Give images to learn from.")
    return paths


def _training_windows(images: Sequence[ImageLike], progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """HOG windows (N, 675) and their patches (N, 1600), which have mean 0 and standard deviation 1."""

    features, patches = [], []
    for image in progress_bar(images, desc="windows", unit="image", shown=progress):
        levels = to_grey(read_image(image))
        for scale in SCALES:
            height, width = (int(scale * n) // CELL * CELL for n in levels.shape)
            if min(height, width) < CELL * WINDOW:
                continue
            small = torch.from_numpy(np.array(resize(levels, (height, width)), dtype=np.float32))[None, None]
            x = torch.cat((small, small.flip(3)))
            rows = F.unfold(x, CELL * WINDOW, stride=CELL).mT.flatten(0, 1)
            spread, mean = torch.std_mean(rows, dim=1, keepdim=True)
            shown = spread[:, 0] > FAINT
            features.append(F.unfold(HOG(CELL)(x), WINDOW).mT.flatten(0, 1)[shown].numpy())
            patches.append(((rows - mean) / spread)[shown].numpy())
    if not features:
        raise InputError(f"No image has {CELL * WINDOW}x{CELL * WINDOW} pixels: there is nothing to learn from.")
    return np.concatenate(features).astype(np.float64), np.concatenate(patches).astype(np.float64)


def _sklearn() -> Any:
    try:
        from sklearn import decomposition
    except ImportError:
        raise missing_extra("HOGgles needs scikit-learn", "shallow") from None
    return decomposition


@contextmanager
def _quiet() -> Iterator[None]:
    """The lasso stops at 1000 rounds, a little short of its tolerance; the pursuit ends early where a window is explained.

    scikit-learn warns of either for each window, and neither matters here.
    """
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="\\s*Orthogonal matching pursuit ended prematurely", category=RuntimeWarning)
        yield
