"""What several samples say together: spread over restarts, intervals, and whose reconstruction an image is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..seeds import generator


@dataclass(frozen=True)
class Interval:
    """A mean and half the width of its 95 % interval; half is NaN for a single value."""

    mean: float
    half: float

    def __str__(self) -> str:
        return f"{self.mean:.4g} ± {self.half:.2g}"


def interval(values: Tensor) -> Interval:
    """mean ± 1.96·std/√n over all values, std with n − 1 (figure_quantresults_cnn.m, table2.m).

    >>> print(interval(torch.tensor([0.1, 0.2, 0.3, 0.4])))
    0.25 ± 0.13
    """
    x = values.double().flatten()
    n = len(x)
    if n == 0:
        raise InputError("There is no interval of no values.")
    half = 1.96 * x.std().item() / math.sqrt(n) if n > 1 else math.nan
    return Interval(x.mean().item(), half)


def bootstrap(values: Tensor, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Return the ends of the percentile bootstrap's interval of the mean (Efron 1979): of means over values drawn anew, with replacement.

    Parameters
    ----------
    values : tensor (n,)
        One for each image; what is not finite is left out.
    confidence : float, default 0.95
        Of the interval.
    resamples : int, default 2000
        How often n values are drawn.
    seed : int, default 0
        Of the draws: the same values have the same interval.

    Returns
    -------
    (low, high)
        NaN twice for less than two values.

    >>> low, high = bootstrap(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    >>> 1.0 <= low < 2.5 < high <= 4.0
    True
    """
    x = values.double().flatten()
    x = x[x.isfinite()]
    if len(x) < 2:
        return math.nan, math.nan
    drawn = generator(seed, "bootstrap")
    at_once = max(1, min(resamples, 2**21 // len(x)))
    counts = [min(at_once, resamples - k) for k in range(0, resamples, at_once)]
    means = torch.cat([x[torch.randint(len(x), (n, len(x)), generator=drawn)].mean(dim=1) for n in counts])
    tail = (1 - confidence) / 2
    low, high = means.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def spread(errors: Tensor) -> Tensor:
    """Standard deviation over restarts, n − 1: (images, restarts) -> (images,).

    errors: of each restart, as ``result.error.view(-1, restarts)`` (images are in that order). The paper's figure has the squared
    ones, ‖Φ−Φ0‖²/‖Φ0‖² (figure_mean_variation_in_relative_error.m): give ``error**2``. Raises InputError for a single restart.

    >>> spread(torch.tensor([[0.1, 0.3], [0.2, 0.2]]))
    tensor([0.1414, 0.0000])
    """
    if errors.ndim != 2 or errors.shape[1] < 2:
        raise InputError(f"The spread is over at least 2 restarts, (images, restarts); got {tuple(errors.shape)}.")
    return errors.std(dim=1)


def rms(images: Tensor, reference: Tensor) -> Tensor:
    """Root mean square difference: (B, ...) and (B, ...) or one for all (1, ...) -> (B,); grey levels for images, not clipped.

    >>> rms(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 3.0))
    tensor([3.])
    """
    return (images - reference).flatten(1).square().mean(dim=1).sqrt()


Distance = Callable[[Tensor, Tensor], Tensor]


def pairwise_distance(images: Tensor, distance: Distance = rms) -> Tensor:
    """How different restarts look: the mean distance over their pairs, (images, restarts, ...) -> (images,).

    distance: (N, ...), (N, ...) -> (N,). Raises InputError for a single restart.

    >>> pairwise_distance(torch.tensor([[[0.0], [3.0], [3.0]]]))
    tensor([2.])
    """
    if images.ndim < 3 or images.shape[1] < 2:
        raise InputError(f"Distances are between at least 2 restarts, (images, restarts, ...); got {tuple(images.shape)}.")
    first, second = torch.triu_indices(images.shape[1], images.shape[1], offset=1).tolist()
    return torch.stack([distance(of[first], of[second]).mean() for of in images])


def reidentified(images: Tensor, originals: Tensor, sources: Tensor | None = None, distance: Distance = rms) -> Tensor:
    """Whether an image's own original is nearer to it than every other one: (B, ...) and (N, ...) -> (B,) booleans.

    images, originals: pictures, or features of any shape. sources: (B,) which original each image is of, by default the b-th.
    distance: (N, ...), (N, ...) -> (N,), small for what is alike (for a similarity give its negative). A tie is no
    re-identification, so two equal originals are never found again. The mean over samples is the rate; 1/N would be chance.
    Raises InputError for a source that is not there, and for less than two originals.

    >>> x = torch.tensor([[0.0], [10.0], [20.0]])
    >>> reidentified(x + 4, x), reidentified(x[:1] + 6, x)
    (tensor([True, True, True]), tensor([False]))
    """
    sources = torch.arange(len(images)) if sources is None else sources
    if len(originals) < 2:
        raise InputError("Among fewer than 2 originals there is nothing to be found again.")
    if len(sources) != len(images) or (len(sources) and not 0 <= int(sources.min()) <= int(sources.max()) < len(originals)):
        raise InputError(f"Each of {len(images)} images has one source among {len(originals)} originals; got {sources.tolist()[:8]}.")
    found = []
    for image, source in zip(images, sources.tolist(), strict=True):
        apart = distance(image.expand_as(originals), originals)
        own = apart[source].clone()
        apart[source] = torch.inf
        found.append(bool(own < apart.min()))
    return torch.tensor(found, dtype=torch.bool)
