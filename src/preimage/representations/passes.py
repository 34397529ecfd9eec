"""Features of several representations of one image: layers of one network share its forward pass, and so its backward pass."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from torch import Tensor

from .cnn import Layer
from .natural import Centred
from .through import Through

REVISION = 1  # raised when the values that representations have together change
Phi = Callable[[Tensor], Tensor]


def features_together(phis: Sequence[Phi], x: Tensor) -> list[Tensor]:
    """Compute Φ(x) for each of several representations: one that stands twice runs once, and layers of one network run in one pass.

    Parameters
    ----------
    phis : representations, or any functions of canonical images
        Layers of one module share a pass where they take the same pixels with the same leak; also through `Through` and `Centred`.
    x : canonical images (B, C, H, W)

    Returns
    -------
    list of Tensor : the features of each, in their order, as each gives them alone

    >>> import torch
    >>> a, b = lambda x: 2 * x, lambda x: x + 1
    >>> [f.item() for f in features_together([a, b, a], torch.ones(1))]
    [2.0, 2.0, 2.0]
    """
    known: dict[int, Tensor] = {}
    groups: dict[Hashable, list[Phi]] = {}
    for phi in {id(phi): phi for phi in phis}.values():
        groups.setdefault(_group(phi), []).append(phi)
    for group in groups.values():
        first = group[0]
        if len(group) == 1:
            known[id(first)] = first(x)
            continue
        shown = first.shown(x) if isinstance(first, (Through, Centred)) else x
        layers = [layer_of(phi) for phi in group]
        assert layers[0] is not None
        found = layers[0].beside([layer for layer in layers[1:] if layer is not None], shown)
        known |= {id(phi): features for phi, features in zip(group, found, strict=True)}
    return [known[id(phi)] for phi in phis]


def layer_of(phi: Phi) -> Layer | None:
    """Return the layer that a representation is, or sees through other pixels, where it can share a pass; None for anything else."""
    inner = phi.inner if isinstance(phi, (Through, Centred)) else phi
    return inner if isinstance(inner, Layer) and inner.can_share else None


def _group(phi: Phi) -> Hashable:
    """What representations have in common that share a pass; one that shares none has its own."""
    layer = layer_of(phi)
    if layer is None:
        return id(phi)
    way = (type(phi), phi.space) if isinstance(phi, (Through, Centred)) else ()
    return (id(layer.module), layer.space, layer.leak, *way)
