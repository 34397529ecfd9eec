"""The protocol of a representation, and the shortest way to one: a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..pixels.pixelspace import PixelSpace
from .cnn import evaluating, placed
from .receptive_field import Number


@runtime_checkable
class Representation(Protocol):
    """Φ: canonical image (B, C, H, W) -> features (B, ...); differentiable; sample b depends on x[b] alone.

    space: the pixels that it takes. stride: pixels from one feature to the next, 1 if there is no grid.
    receptive_field: side in pixels of what one feature sees; None is the whole image.
    A representation may have ``session(device, dtype)``, a context manager entered once around many calls.
    """

    space: PixelSpace
    name: str
    stride: Number
    receptive_field: Number | None

    def __call__(self, x: Tensor, /) -> Tensor: ...


class FromCallable:
    """See `from_callable`."""

    def __init__(self, f: Callable[[Tensor], Tensor], space: PixelSpace, name: str, stride: int, receptive_field: int | None) -> None:
        self.f, self.space, self.name, self.stride, self.receptive_field = f, space, name, stride, receptive_field

    def __call__(self, x: Tensor) -> Tensor:
        with ExitStack() as stack:
            if isinstance(self.f, nn.Module):
                stack.enter_context(evaluating(self.f))
            features = self.f(self.space.to_network(x))
        if not isinstance(features, Tensor) or features.ndim < 1 or len(features) != len(x):
            got = f"a tensor of shape {tuple(features.shape)}" if isinstance(features, Tensor) else type(features).__name__
            raise InputError(f"{self.name} must give a tensor with one entry for each of the {len(x)} images; got {got}.")
        return features

    def __repr__(self) -> str:
        return f"from_callable({self.name}, space={self.space})"

    @contextmanager
    def session(self, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Iterator[None]:
        """Put a module on the device and in the type for a while; a plain function must follow its input by itself."""
        with ExitStack() as stack:
            if isinstance(self.f, nn.Module):
                stack.enter_context(placed(self.f, device, dtype))
                stack.enter_context(evaluating(self.f))
            yield


def from_callable(
    f: Callable[[Tensor], Tensor],
    space: PixelSpace,
    *,
    name: str | None = None,
    stride: int = 1,
    receptive_field: int | None = None,
) -> FromCallable:
    """Anything differentiable as a representation.

    f: (B, C, H, W) in the space's pixels (its order, scale, mean and std) -> (B, ...). stride sets the jitter by the paper's rule.
    Raises InputError if f is not callable, and at a call if it does not give one entry for each image.

    >>> phi = from_callable(lambda x: x.mean(dim=(2, 3)), PixelSpace(8, "grey"))
    >>> phi(torch.ones(5, 1, 8, 8)).shape
    torch.Size([5, 1])
    """
    if not callable(f):
        raise InputError(f"from_callable takes a function or a module; got {type(f).__name__}.")
    title: Any = name or getattr(f, "__name__", type(f).__name__)
    return FromCallable(f, space, str(title), stride, receptive_field)


def features_of(phi: Representation, x: Tensor) -> Tensor:
    """Φ(x) without a graph, checked."""
    size = 1 if x.device.type == "cpu" else len(x)  # on a CPU the last bits would depend on the batch
    with torch.no_grad():
        features = torch.cat([phi(x[k : k + size]) for k in range(0, len(x), size)])
    if not bool(torch.isfinite(features).all()):
        module = module_of(phi)
        bad = [] if module is None else [n for n, p in module.state_dict().items() if p.is_floating_point() and not p.isfinite().all()]
        cause = f"the weights {', '.join(bad[:3])} do. Load them again." if bad else "the weights are finite: look at the layer."
        raise InputError(f"The features of {phi.name} hold NaN or infinite values; {cause}")
    return features.detach()


def module_of(phi: Any) -> nn.Module | None:
    for candidate in (phi, getattr(phi, "module", None), getattr(phi, "f", None)):
        if isinstance(candidate, nn.Module):
            return candidate
    return None


def device_of(phi: Any) -> torch.device:
    module = module_of(phi)
    tensors = [] if module is None else [*module.parameters(), *module.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")
