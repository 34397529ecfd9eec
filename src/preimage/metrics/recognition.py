"""Whether another network sees in an image what it was made to show: classes, and whose reconstruction it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..networks.network import Network, weights_hash
from ..representations.sessions import evaluating

Maker = Network | nn.Module | str


@dataclass(frozen=True)
class Share:
    """How many of how many, with Wilson's interval (1927), which is inside 0–1 and has a width at 0 and at 1 too.

    Parameters
    ----------
    hits, trials : int
        How often it was so, of how many times.
    confidence : float, default 0.95
        Of the interval from `low` to `high`.

    Raises
    ------
    InputError
        For no trials, more hits than trials, or a confidence outside 0–1.

    Examples
    --------
    >>> print(Share(8, 10))
    0.80 [0.49, 0.94] of 10
    """

    hits: int
    trials: int
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not (0 <= self.hits <= self.trials and self.trials > 0):
            raise InputError(f"A share is of at least 1 trial, with hits from 0 to all of them; got {self.hits} of {self.trials}.")
        if not 0 < self.confidence < 1:
            raise InputError(f"The confidence of an interval is between 0 and 1, as 0.95; got {self.confidence}.")

    @property
    def value(self) -> float:
        """The share itself."""
        return self.hits / self.trials

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return max(self._middle - self._half, 0.0)

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return min(self._middle + self._half, 1.0)

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}] of {self.trials}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a record."""
        return {"hits": self.hits, "trials": self.trials, "value": self.value, "low": self.low, "high": self.high}

    @property
    def _squared(self) -> float:
        return NormalDist().inv_cdf(0.5 + self.confidence / 2) ** 2

    @property
    def _middle(self) -> float:
        return (self.hits + self._squared / 2) / (self.trials + self._squared)

    @property
    def _half(self) -> float:
        variance = self.value * (1 - self.value) / self.trials + self._squared / (4 * self.trials**2)
        return math.sqrt(self._squared * variance) / (1 + self._squared / self.trials)


@dataclass(frozen=True)
class Recognition:
    """What a judge says of images that were made to show a class, sample by sample.

    judge: its name. classes, rank, probability: (B,) the class wanted, its place among all classes (1 is the first; a tie counts
    against it) and its probability.
    """

    judge: str
    classes: Tensor
    rank: Tensor
    probability: Tensor

    def within(self, places: int) -> Share:
        """Return the share of images whose class is among the judge's first `places`: 1 for top-1, 5 for top-5.

        >>> Recognition("a judge", torch.arange(4), torch.tensor([1, 1, 3, 40]), torch.zeros(4)).within(5).hits
        3
        """
        return Share(int((self.rank <= places).sum()), len(self.rank))

    @property
    def median_rank(self) -> float:
        """The median of the ranks, the mean of the two middle ones for an even number."""
        return float(self.rank.double().quantile(0.5))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a record."""
        shares = {f"top{n}": self.within(n).to_dict() for n in (1, 5)}
        every = {name: getattr(self, name).tolist() for name in ("classes", "rank", "probability")}
        return {"judge": self.judge, **shares, "median_rank": self.median_rank, **every}


@dataclass(frozen=True)
class Resemblance:
    """How like its own original each image is to a judge, beside how like all others it is.

    judge: its name. similarity: (B, N) cosines between the judge's embeddings of images and originals. sources: (B,) the original
    of each image.
    """

    judge: str
    similarity: Tensor
    sources: Tensor

    @property
    def own(self) -> Tensor:
        """The similarity of each image to its own original, (B,)."""
        return self.similarity.gather(1, self.sources[:, None])[:, 0]

    @property
    def unrelated(self) -> Tensor:
        """The mean similarity of each image to the other originals, (B,): what `own` would be if nothing came back."""
        return (self.similarity.sum(dim=1) - self.own) / (self.similarity.shape[1] - 1)

    @property
    def rank(self) -> Tensor:
        """The place of the own original among all, (B,); 1 is the most similar, a tie counts against it."""
        return (self.similarity >= self.own[:, None]).sum(dim=1)

    @property
    def found(self) -> Share:
        """The share of images that are most like their own original; 1/N would be chance."""
        return Share(int((self.rank == 1).sum()), len(self.rank))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a record."""
        every = {name: getattr(self, name).tolist() for name in ("own", "unrelated", "rank", "sources")}
        return {"judge": self.judge, "found": self.found.to_dict(), "originals": self.similarity.shape[1], **every}


def recognition(images: Tensor, judge: Network, classes: Sequence[int | str] | Tensor, made_by: Maker | Sequence[Maker]) -> Recognition:
    """Show images to a network that did not make them and look where it puts the class that each was made for.

    An image is judged as the picture that people see: levels clipped and rounded to 8 bits, then brought to the judge's size as any
    photograph is. Feather et al. (Nature Neuroscience 26, 2023) found that images which other networks recognise are those that
    people recognise; a network recognises nearly everything that was made on itself.

    Parameters
    ----------
    images : (B, 3, H, W)
        Levels 0–255, as `Result.images`.
    judge : Network
        With class names; not the one that made the images.
    classes : (B,) integers, or names
        The class wanted of each image, among the judge's.
    made_by : Network, module or `weights_sha256` of a result's config, or several of them
        What made the images: a judge with the same weights is refused. () for images that no network made.

    Returns
    -------
    Recognition
        The rank and probability of each image, shares within the first places.

    Raises
    ------
    InputError
        For a judge that made the images or has no classes, for images of another shape, and for classes that are not there.

    Examples
    --------
    >>> from preimage import load_network
    >>> found = recognition(torch.rand(2, 3, 64, 64) * 255, load_network("squeezenet1_1"), ["flamingo", 207], made_by=())
    >>> found.rank.shape, found.within(5).trials
    (torch.Size([2]), 2)
    """
    _independent(judge, made_by)
    _pictures(images)
    wanted = _indices(judge, classes)
    if len(wanted) != len(images):
        raise InputError(f"{len(images)} images need as many classes; got {len(wanted)}.")
    probabilities = torch.cat([judge.predict(levels).cpu() for levels in _levels(images)])
    own = probabilities.gather(1, wanted[:, None])
    return Recognition(judge.card.name, wanted, (probabilities >= own).sum(dim=1), own[:, 0])


def resemblance(
    images: Tensor, originals: Tensor, judge: Network, made_by: Maker | Sequence[Maker], sources: Tensor | None = None
) -> Resemblance:
    """Compare images with the originals of all of them through the embedding of a network that did not make them.

    Parameters
    ----------
    images : (B, 3, H, W)
        Levels 0–255, as `Result.images`.
    originals : (N, 3, H', W')
        At least two, levels 0–255, as `Result.originals`.
    judge : Network
        Its `embeddings` are compared by their cosine.
    made_by : Network, module or `weights_sha256` of a result's config, or several of them
        What made the images: a judge with the same weights is refused. () for images that no network made.
    sources : (B,) integers, optional
        The original of each image; by default the b-th.

    Returns
    -------
    Resemblance
        The similarity to the own original and to the others, and the share of images that are found again.

    Raises
    ------
    InputError
        For a judge that made the images, fewer than two originals, and a source that is not there.

    Examples
    --------
    >>> from preimage import load_network
    >>> x = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    >>> resemblance(x, x, load_network("squeezenet1_1"), made_by=()).found.hits
    3
    """
    _independent(judge, made_by)
    sources = torch.arange(len(images)) if sources is None else sources
    if len(originals) < 2:
        raise InputError("Among fewer than 2 originals there is nothing to be found again.")
    if sources.shape != (len(images),) or (len(sources) and not 0 <= int(sources.min()) <= int(sources.max()) < len(originals)):
        raise InputError(f"Each of {len(images)} images has one source among {len(originals)} originals; got {sources.tolist()[:8]}.")
    return Resemblance(judge.card.name, embeddings(images, judge) @ embeddings(originals, judge).T, sources)


def embeddings(images: Tensor, judge: Network) -> Tensor:
    """Return what the judge's layer of classes sees of each image: the mean over positions, at norm 1, (B, D).

    The layer of classes is the last convolution or linear map that has as many outputs as there are classes.

    Parameters
    ----------
    images : (B, 3, H, W)
        Levels 0–255; shown to the judge as 8-bit pictures.
    judge : Network
        With class names.

    Raises
    ------
    InputError
        For images of another shape and for a network without a layer of classes.

    Examples
    --------
    >>> from preimage import load_network
    >>> embeddings(torch.full((1, 3, 64, 64), 90.0), load_network("squeezenet1_1")).shape
    torch.Size([1, 512])
    """
    _pictures(images)
    layer, seen = _layer_of_classes(judge), []
    handle = layer.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    try:
        with evaluating(judge.module):
            for levels in _levels(images):
                judge.predict(levels)
    finally:
        handle.remove()
    pooled = [s.flatten(2).mean(dim=2) if s.ndim == 4 else s.flatten(1) if s.ndim == 2 else s.mean(dim=1) for s in seen]
    return F.normalize(torch.cat(pooled).float().cpu(), dim=1)


def _layer_of_classes(judge: Network) -> nn.Module:
    count = len(judge.classes)
    for module in reversed(list(judge.module.modules())):
        if count and getattr(module, "out_channels", getattr(module, "out_features", None)) == count:
            return module
    raise InputError(f"{judge.card.name} has no layer with one output for each of its {count} classes, so there is no embedding before it.")


def _independent(judge: Network, made_by: Maker | Sequence[Maker]) -> None:
    """Raise InputError if the judge has the weights of what made the images."""
    own = weights_hash(judge.module)
    makers = [made_by] if isinstance(made_by, (Network, nn.Module, str)) else made_by
    for maker in makers:
        module = maker.module if isinstance(maker, Network) else maker
        if own == (module if isinstance(module, str) else weights_hash(module)):
            raise InputError(
                f"{judge.card.name} made these images, and a network recognises what was made on itself: give another judge, "
                "such as efficientnet-lite0 for images of squeezenet1_1."
            )


def _pictures(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise InputError(f"A judge looks at RGB levels 0–255, floating point (B, 3, H, W); got {images.dtype} {tuple(images.shape)}.")


def _levels(images: Tensor) -> list[Any]:
    """Each image as a screen shows it: uint8 (H, W, 3)."""
    return [*images.detach().cpu().round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()]


def _indices(judge: Network, classes: Sequence[int | str] | Tensor) -> Tensor:
    if not judge.classes:
        raise InputError(f"{judge.card.name} has no class names, so it cannot be asked for a class.")
    given = classes.tolist() if isinstance(classes, Tensor) else classes
    found = [judge.class_index(c) if isinstance(c, str) else int(c) for c in given]
    outside = [c for c in found if not 0 <= c < len(judge.classes)]
    if outside:
        raise InputError(f"{judge.card.name} has the classes 0 to {len(judge.classes) - 1}; got {outside[0]}.")
    return torch.tensor(found, dtype=torch.long)
