"""A layer's channels as sums of a few factors, whose directions are seen together in pictures."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, missing_extra
from ..ranges import checked
from ..representations.base import RepresentationLike
from .features import channel_vectors, pictures_of

_MOST = 50_000  # activations that are factored


def factor_channels(phi: RepresentationLike, images: Any, count: int = 8, *, seed: int = 0) -> Tensor:
    """Factor the activations of a layer, over all places of some pictures, into a few directions (non-negative matrix factorisation).

    Parameters
    ----------
    phi : representation
        Whose features are not negative, as after a ReLU.
    images : files, folders, or pictures
        At most 50,000 of their places are taken, drawn by `seed`.
    count : int
        How many directions, default 8.
    seed : int
        Of the draw and of the factorisation's start.

    Returns
    -------
    tensor (count, C)
        Of unit length, not negative, the one that explains most first; each row is a direction for `maximize`.

    Raises
    ------
    InputError
        For features below 0, and for more directions than channels.
    MissingExtra
        Without scikit-learn.

    References
    ----------
    Olah, Satyanarayan, Johnson, Carter, Schubert, Ye, Mordvintsev: The building blocks of interpretability, Distill 2018.
    """
    try:
        from sklearn.decomposition import NMF
    except ImportError:
        raise missing_extra("Channels are factored by scikit-learn", "shallow") from None
    values = channel_vectors(phi, pictures_of(images, "pictures"), each=True)
    if bool((values < 0).any()):
        raise InputError("Only features that are not negative can be factored so: take the layer after its ReLU.")
    if checked("rank", count, "count") > min(values.shape):
        raise InputError(f"{count} factors are more than the {values.shape[1]} channels or the {len(values)} places.")
    if not bool(values.any()):
        raise InputError("All features of these pictures are 0.")
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(checked("seed", seed)))[:_MOST]
    model = NMF(count, init="nndsvda", random_state=seed, max_iter=500, tol=1e-3)
    amounts = torch.from_numpy(model.fit_transform(values[order].double().numpy()))
    factors = torch.from_numpy(model.components_)
    length = factors.norm(dim=1)
    weight = amounts.norm(dim=0) * length
    alive = [k for k in weight.argsort(descending=True).tolist() if length[k] > 0]
    found: Tensor = (factors[alive] / length[alive, None]).float()
    return found
