"""What a representation declares, and the ways to one: a function, another representation, an object of one's own."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from ..errors import InputError, first_line
from ..pixels.pixelspace import PixelSpace
from .receptive_field import Number
from .sessions import Draws, evaluating, on_device
from .used import check_values, modules_of


class Representation(ABC):
    """Φ: canonical image (B, C, H, W) -> features (B, ...); differentiable; sample b depends on x[b] alone.

    Everything that tasks ask of a representation is declared here with what holds where a subclass says nothing else. A subclass
    has a call, a space and a name; an object that is no subclass is taken too (see `as_representation`), and `Wrapped` is the
    base of a representation that is made of another one.

    Attributes
    ----------
    space : PixelSpace
        The pixels that it takes.
    name : str
        What results and errors call it.
    stride : number, default 1
        Pixels from one feature to the next; 1 if there is no grid.
    receptive_field : number or None
        Side in pixels of what one feature sees; None is the whole image.
    jitter : int or None
        The amount of jitter; None is the paper's rule for the stride.
    leak : float, default 0
        Slope of its ReLUs below zero.
    fast_rate : float or None
        Step of the solver "fast"; None is the solver's own.
    network : object or None
        The `preimage.Network` that it belongs to.
    can_open : bool, default False
        Whether `opened` can be entered.
    prefers_channels_last : bool, default False
        Whether `session` should be asked for that memory format on a CPU.
    """

    space: PixelSpace
    name: str
    stride: Number = 1
    receptive_field: Number | None = None
    jitter: int | None = None
    leak: float = 0.0
    fast_rate: float | None = None
    network: object | None = None
    can_open: bool = False
    prefers_channels_last: bool = False

    @abstractmethod
    def __call__(self, x: Tensor, /) -> Tensor:
        """Compute the features (B, ...) of canonical images x (B, C, H, W)."""

    @property
    def module(self) -> nn.Module | None:
        """Give the module that holds the weights, which are moved to the device and hashed for the record; None if there is none."""
        return self if isinstance(self, nn.Module) else None

    def session(
        self, device: torch.device | None = None, dtype: torch.dtype | None = None, channels_last: bool = False
    ) -> AbstractContextManager[None]:
        """Prepare for many calls on a device and in a type, and restore everything at the end. Here there is nothing to prepare."""
        return nullcontext()

    def opened(self, slope: float, pool_share: float = 0.0) -> AbstractContextManager[None]:
        """Let the gradient pass ReLUs below zero with this slope for a while; the values stay. Only where `can_open` is True.

        pool_share: the part of the gradient at a window of max pooling that all its places get evenly.
        """
        raise InputError(f"{self.name} cannot be opened: it does not say which of its units are closed by a ReLU.")

    def unit_named(self, name: str) -> int:
        """Find the unit of a class name. Raises InputError where units have no names."""
        raise InputError(f"{self.name} has no class names: give the unit as a number.")


@runtime_checkable
class RepresentationLike(Protocol):
    """The least that an object must have to be used as a representation; `as_representation` adds what `Representation` declares."""

    space: PixelSpace
    name: str
    stride: Number
    receptive_field: Number | None

    def __call__(self, x: Tensor, /) -> Tensor: ...


def as_representation(phi: RepresentationLike) -> Representation:
    """Take an object as a representation: itself if it is one, or wrapped if it has at least a call, space, name, stride, receptive_field.

    What else of `Representation` the object has (jitter, session, module, …) is used as it is. Raises InputError for anything else.

    >>> class Mean:
    ...     space, name, stride, receptive_field = PixelSpace(8, "grey"), "mean", 1, None
    ...     def __call__(self, x):
    ...         return x.mean(dim=(2, 3))
    >>> phi = as_representation(Mean())
    >>> phi.name, phi.jitter, phi(torch.ones(2, 1, 8, 8)).shape
    ('mean', None, torch.Size([2, 1]))
    """
    if isinstance(phi, Representation):
        return phi
    if isinstance(phi, RepresentationLike) and isinstance(phi.space, PixelSpace):
        return _Adapted(phi)
    raise InputError(
        f"phi is a representation (net.layer(…), Layer(…), from_callable(…)); got {type(phi).__name__}, which has not "
        "all of: a call, space, name, stride, receptive_field."
    )


class _Adapted(Representation):
    """An object of somebody's own behind the full declaration: the only place that asks what else it has."""

    def __init__(self, own: RepresentationLike) -> None:
        self.own: Any = own
        self.space, self.name, self.stride, self.receptive_field = own.space, own.name, own.stride, own.receptive_field
        for field in ("jitter", "leak", "fast_rate", "network", "prefers_channels_last"):
            if hasattr(own, field):
                setattr(self, field, getattr(own, field))
        self.can_open = bool(getattr(own, "can_open", hasattr(own, "opened")))

    def __call__(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.own(x))

    def __repr__(self) -> str:
        return repr(self.own)

    @property
    def module(self) -> nn.Module | None:
        return _module_in(self.own)

    @contextmanager
    def session(self, device: torch.device | None = None, dtype: torch.dtype | None = None, channels_last: bool = False) -> Iterator[None]:
        with ExitStack() as stack:
            if hasattr(self.own, "session"):
                stack.enter_context(self.own.session(device, dtype, **({"channels_last": True} if channels_last else {})))
            yield

    def opened(self, slope: float, pool_share: float = 0.0) -> AbstractContextManager[None]:
        if not self.can_open:
            return super().opened(slope, pool_share)
        given = (slope, pool_share) if pool_share else (slope,)
        return cast("AbstractContextManager[None]", self.own.opened(*given))

    def unit_named(self, name: str) -> int:
        return int(self.own.unit_named(name)) if hasattr(self.own, "unit_named") else super().unit_named(name)


class Wrapped(Representation):
    """The base of a representation that computes its features from those of another, its `inner`.

    A subclass has a ``__call__`` that calls ``self.inner(x)``. Pixels, device, memory format, session, weights, network and the
    opening of closed units are the inner one's, so that nothing of it is lost. The units are others, so class names do not pass.

    Parameters
    ----------
    inner : Representation
        The representation that the features are made of.
    name : str, optional
        The inner one's by default.
    stride : number, optional
        The inner one's by default.
    receptive_field : number or None, optional
        The inner one's by default; None is the whole image.

    Examples
    --------
    >>> class Means(Wrapped):
    ...     def __call__(self, x):
    ...         return self.inner(x).mean(dim=(2, 3))
    >>> inner = from_callable(nn.Conv2d(1, 4, 3), PixelSpace(8, "grey"), receptive_field=3)
    >>> phi = Means(inner, name="means", receptive_field=None)
    >>> phi(torch.zeros(2, 1, 8, 8)).shape, phi.module is inner.module, phi.receptive_field
    (torch.Size([2, 4]), True, None)
    """

    def __init__(
        self,
        inner: RepresentationLike,
        *,
        name: str | None = None,
        stride: Number | None = None,
        receptive_field: Number | Literal["inner"] | None = "inner",
    ) -> None:
        self.inner = as_representation(inner)
        self.space = self.inner.space
        self.name = name or self.inner.name
        self.stride = self.inner.stride if stride is None else stride
        self.receptive_field = self.inner.receptive_field if receptive_field == "inner" else receptive_field
        self.jitter, self.leak, self.fast_rate = self.inner.jitter, self.inner.leak, self.inner.fast_rate
        self.network, self.can_open, self.prefers_channels_last = self.inner.network, self.inner.can_open, self.inner.prefers_channels_last

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, of {self.inner!r})"

    @property
    def module(self) -> nn.Module | None:
        """Give the inner representation's module."""
        return self.inner.module

    def session(
        self, device: torch.device | None = None, dtype: torch.dtype | None = None, channels_last: bool = False
    ) -> AbstractContextManager[None]:
        """Prepare the inner representation."""
        return self.inner.session(device, dtype, channels_last)

    def opened(self, slope: float, pool_share: float = 0.0) -> AbstractContextManager[None]:
        """Open the inner representation's units."""
        return self.inner.opened(slope, pool_share)


@dataclass(frozen=True)
class _Outer:
    """The function or module whose pass this is. canonical: whether it is shown canonical images, not network pixels."""

    name: str
    space: PixelSpace
    canonical: bool


_outer: ContextVar[_Outer | None] = ContextVar("the function or module whose pass this is", default=None)


@contextmanager
def inside(phi: Representation, canonical: bool) -> Iterator[None]:
    """Around what a representation calls: a representation in there is refused where it would get the wrong pixels."""
    before = _outer.set(_Outer(phi.name, phi.space, canonical))
    try:
        yield
    finally:
        _outer.reset(before)


class FromCallable(Representation):
    """See `from_callable`."""

    def __init__(
        self,
        f: Callable[[Tensor], Tensor],
        space: PixelSpace,
        name: str,
        stride: Number,
        receptive_field: Number | None,
        canonical: bool = False,
    ) -> None:
        self.f, self.space, self.name, self.stride, self.receptive_field = f, space, name, stride, receptive_field
        self.canonical = canonical
        self._draws = Draws()
        self._modules = modules_of(f)
        for module in self._modules:
            check_values(module)
        self._owner: int | None = None  # the thread that is inside a session of its modules

    def __call__(self, x: Tensor) -> Tensor:
        check_pixels(self)
        with inside(self, self.canonical), self.session() if self._modules else nullcontext(), self._draws.same(x.device):
            features = self.f(x if self.canonical else self.space.to_network(x))
        if not isinstance(features, Tensor) or features.ndim < 1 or len(features) != len(x):
            got = f"a tensor of shape {tuple(features.shape)}" if isinstance(features, Tensor) else type(features).__name__
            raise InputError(f"{self.name} must give a tensor with one entry for each of the {len(x)} images; got {got}.")
        if not features.is_floating_point():
            raise InputError(
                f"{self.name} gives {features.dtype}, and an image is found by derivatives of real numbers: give floating-point features "
                "(of complex numbers their .abs(), or torch.view_as_real)."
            )
        return differentiable(features, x, self.name)

    def __repr__(self) -> str:
        return f"from_callable({self.name}, space={self.space})"

    @property
    def module(self) -> nn.Module | None:
        """Give the function where it is a module."""
        return self.f if isinstance(self.f, nn.Module) else None

    @contextmanager
    def session(self, device: torch.device | None = None, dtype: torch.dtype | None = None, channels_last: bool = False) -> Iterator[None]:
        """Hold the modules of the function in eval mode; one that is a module also on the device and in the type for a while.

        A plain function must follow its input by itself.
        """
        with ExitStack() as stack:
            first = bool(self._modules) and self._owner != threading.get_ident()
            if first:
                for module in self._modules:
                    stack.enter_context(evaluating(module))
                stack.callback(setattr, self, "_owner", None)
                self._owner = threading.get_ident()
            if isinstance(self.f, nn.Module) and (first or device is not None or dtype is not None):
                stack.enter_context(on_device(self.f, device, dtype))
            yield


def from_callable(
    f: Callable[[Tensor], Tensor],
    space: PixelSpace,
    *,
    name: str | None = None,
    stride: int = 1,
    receptive_field: int | None = None,
    canonical: bool = False,
) -> FromCallable:
    """Make a representation of anything differentiable.

    f: (B, C, H, W) in the space's pixels (its order, scale, mean and std) -> (B, ...), real numbers. stride sets the jitter by the
    paper's rule. canonical=True: f takes canonical images, as every representation does, so that it may call some (the features of
    two layers as one, say), whose spaces then must have the same colours and mean. Where f draws random numbers it draws the same in
    every call, and the modules that it is or uses are in eval mode meanwhile and left as they were. Raises InputError if f is not
    callable, and at a call if it does not give one entry for each image, gives features that have no derivative in the image, or
    shows its pixels to a representation that takes others.

    >>> phi = from_callable(lambda x: x.mean(dim=(2, 3)), PixelSpace(8, "grey"))
    >>> phi(torch.ones(5, 1, 8, 8)).shape
    torch.Size([5, 1])
    """
    if not callable(f):
        raise InputError(f"from_callable takes a function or a module; got {type(f).__name__}.")
    if not isinstance(space, PixelSpace):
        raise InputError(f"The space of from_callable is a preimage.PixelSpace(…); got {space!r:.80}.")
    title: Any = name or getattr(f, "__name__", type(f).__name__)
    return FromCallable(f, space, str(title), stride, receptive_field, canonical)


def check_pixels(phi: Representation, brightness: bool = True) -> None:
    """Refuse a representation inside the function of another that does not give it the canonical images that it takes.

    brightness: whether its features depend on the mean level; where they are of differences alone, any mean will do.
    """
    outer = _outer.get()
    if outer is None:
        return
    if not outer.canonical and not outer.space.is_canonical:
        raise InputError(
            f"{outer.name}, which is shown network pixels, calls {phi.name}, a representation, which takes canonical images (0–255 minus "
            f"the mean colour). Say preimage.from_callable(f, space, canonical=True), and f gets those."
        )
    if brightness and outer.space.canonical_mean != phi.space.canonical_mean:
        raise InputError(
            f"{outer.name} calls {phi.name}, whose pixels have another mean colour ({phi.space.canonical_mean} and "
            f"{outer.space.canonical_mean} of 255): canonical images of one are not those of the other. Give both the same space."
        )


def differentiable(features: Tensor, x: Tensor, name: str) -> Tensor:
    """The features, if there is a way back from them to an image that asks for one. Raises InputError if it is cut."""
    if x.requires_grad and not features.requires_grad and torch.is_grad_enabled():
        raise InputError(
            f"The features of {name} have no derivative in the image: something on the way cuts it (detach, torch.no_grad, "
            "torch.inference_mode, .data, NumPy, rounding, argmax), or they do not depend on it. Take that out, or an earlier layer."
        )
    return features


@contextmanager
def derived(phis: Sequence[Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Around features and their gradient: what autograd cannot follow is an InputError that names the representation."""
    try:
        yield
    except (torch.OutOfMemoryError, InputError):
        raise
    except RuntimeError as error:  # whatever autograd says of a way that it cannot take
        names = " and ".join(repr(phi) for phi in dict.fromkeys(phis))
        raise InputError(
            f"{names} has no derivative in the image that can be taken ({first_line(error)}). Take out what cuts the way "
            "(detach, torch.no_grad, reentrant checkpoints, writing in place or into out=), or take an earlier layer."
        ) from error


def features_of(phi: RepresentationLike, x: Tensor) -> Tensor:
    """Compute Φ(x) without a graph, checked. Raises InputError where Φ cannot take these images, with its reason, or gives NaN."""
    size = 1 if x.device.type == "cpu" else len(x)  # on a CPU the last bits would depend on the batch
    try:
        with torch.no_grad():
            features = torch.cat([phi(x[k : k + size]) for k in range(0, len(x), size)])
    except (InputError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a module raises on an image that is not for it
        canvas = f"a canvas of {x.shape[2]}x{x.shape[3]} pixels and {x.shape[1]} channels"
        raise InputError(
            f"{phi.name} cannot take {canvas} ({type(error).__name__}: {first_line(error)}). Choose another canvas."
        ) from error
    if not bool(torch.isfinite(features).all()):
        module = module_of(phi)
        bad = [] if module is None else [n for n, p in module.state_dict().items() if p.is_floating_point() and not p.isfinite().all()]
        cause = f"the weights {', '.join(bad[:3])} do. Load them again." if bad else "the weights are finite: look at the layer."
        raise InputError(f"The features of {phi.name} hold NaN or infinite values; {cause}")
    return features.detach()


def module_of(phi: Callable[[Tensor], Tensor]) -> nn.Module | None:
    """Find the module that holds the weights of a representation or of any other function of images."""
    return phi.module if isinstance(phi, Representation) else _module_in(phi)


def device_of(phi: Callable[[Tensor], Tensor]) -> torch.device:
    """Find where the weights are; the CPU if there are none."""
    module = module_of(phi)
    tensors = iter(()) if module is None else chain(module.parameters(), module.buffers())  # the first: listing all takes milliseconds
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def _module_in(own: Any) -> nn.Module | None:
    """The module that an object of somebody's own is, or has under the usual names."""
    for candidate in (own, getattr(own, "module", None), getattr(own, "f", None)):
        if isinstance(candidate, nn.Module):
            return candidate
    return None
