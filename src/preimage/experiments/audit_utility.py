"""What a protection costs: whether the rest of the network still says what it said, from the features that are released."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..networks.network import Network
from ..representations.release import Release
from ..representations.sessions import evaluating


def utility(network: Network, layer: str, shape: tuple[int, ...], release: Release, x: Tensor) -> Tensor:
    """Whether the most likely class stays as it is when the layer's features are replaced by what is released of them, (B,) of 0 and 1.

    Parameters
    ----------
    network : Network
        With scores of classes.
    layer : str
        A module's output, by the network's name for it.
    shape : tuple
        Of the layer's features, without the batch.
    release : Release
        What leaves; for the rest of the network it has the layer's shape.
    x : tensor (B, C, H, W)
        Canonical images.

    Returns
    -------
    tensor (B,)

    Raises
    ------
    InputError
        Where the rest of the network cannot be run from this layer: it is no module's one output, or there are no scores.
    """
    dotted = network.card.names.get(layer, layer)
    modules = dict(network.module.named_modules(remove_duplicate=False))
    if dotted not in modules:
        raise InputError(f"{layer} is a part of an output, and the rest of the network cannot be run from it alone.")
    if not network.classes:
        raise InputError(f"{network.card.name} has no classes, so nothing says what the protection costs it.")
    out = []
    for k in range(len(x)):
        levels = network.space.decode(x[k : k + 1])
        image = levels - network.space.mean_colour
        plain = network.predict(image).argmax(dim=1)
        out.append((plain == _replaced(network, modules[dotted], shape, release, image)).float().cpu())
    return torch.cat(out)


def _replaced(network: Network, module: nn.Module, shape: tuple[int, ...], release: Release, image: Tensor) -> Tensor:
    """The most likely class where the module's output is replaced."""
    calls = 0

    def swap(_: nn.Module, given: Any, output: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if not isinstance(output, Tensor) or tuple(output.shape[1:]) != shape or calls > 1:
            raise InputError("The layer is not the one output of a module that runs once, and the rest cannot be run from it alone.")
        return release(output.detach()).to(output)

    with evaluating(network.module):
        handle = module.register_forward_hook(swap)
        try:
            return network.predict(image).argmax(dim=1)
        finally:
            handle.remove()
