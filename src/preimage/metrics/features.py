"""How well features and decisions come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import InputError
from ..pixels.images import resize

if TYPE_CHECKING:
    from ..networks.network import Network


def normalised_error(features: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Reconstruction error :math:`\|M\odot(\Phi-\Phi_0)\| / \|M\odot\Phi_0\|`, IJCV Sect. 5.1 (the root of the code's `error`).

    features, target: (B, ...), mask broadcastable to one sample -> (B,), 0 for a perfect inversion.

    >>> normalised_error(torch.tensor([[3.0, 3.0]]), torch.tensor([[3.0, 4.0]]))
    tensor([0.2000])
    """
    m = 1.0 if mask is None else mask.to(features)
    difference, reference = ((features - target) * m).flatten(1), (target * m).flatten(1)
    error: Tensor = torch.linalg.vector_norm(difference, dim=1) / torch.linalg.vector_norm(reference, dim=1)
    return error


def top1_agreement(network: Network, images: Tensor, originals: Tensor) -> Tensor:
    """Classification consistency: whether a network calls both images the same class (exp_match_accuracy.m), (B,) booleans.

    images, originals: (B, C, H, W) levels 0–255, not clipped; squashed to the network's size where they have another, as imresize
    does there. The mean colour is subtracted, where the original subtracts its full mean image. Their mean over samples is the
    paper's number. Raises InputError if there is not one original for each image.

    >>> import preimage
    >>> net = preimage.load_network("squeezenet1_1", weights=None)
    >>> x = torch.rand(2, 3, 227, 227) * 255
    >>> top1_agreement(net, x, x)
    tensor([True, True])
    """
    if len(images) != len(originals):
        raise InputError(f"{len(images)} images and {len(originals)} originals: give one original for each image.")
    return _top1(network, images) == _top1(network, originals)


def _top1(network: Network, images: Tensor) -> Tensor:
    space, found = network.space, []
    for image in images.detach().float().cpu():  # one at a time: the last bits must not depend on the batch
        levels = image
        if space.size is not None and tuple(image.shape[-2:]) != space.size:
            levels = torch.from_numpy(resize(image.permute(1, 2, 0).numpy(), space.size)).permute(2, 0, 1)
        found.append(network.predict(levels - space.mean_colour).argmax(dim=1).cpu())
    return torch.cat(found)
