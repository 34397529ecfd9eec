"""ReLUs that let something pass below zero, whatever module or function calls them, in place or not, and under whatever name.

ReLU6, hardtanh, clamps, thresholds and the larger of x and a constant close units as ReLUs do; so does the square of a closed unit, whose
slope is zero at zero. Max pooling closes all places of a window but one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .pools import POOLS, pooled

Bound = Tensor | float | None
Given = dict[str, Any]
Found = tuple[Tensor | None, Bound, Bound, bool]  # x, its bounds, and whether the slope at them is zero
Slopes = tuple[Tensor, Tensor | None]


_entered = threading.local()


def opened_now() -> bool:
    """Whether gradients of this thread pass what is closed: a graph that was traced does not know it."""
    return getattr(_entered, "opened", 0) > 0


class Leaky(TorchFunctionMode):
    """While entered, every ReLU is one with a slope below zero; with `opened` only for the gradient, and the values stay the ReLU's.

    A clamp at zero, a threshold at zero and the larger of x and zero are ReLUs here, ReLU6 and hardtanh from zero ones with a ceiling. The
    gradient of `opened` passes whatever bounds x, from below or above, at whatever value, and the square of what is exactly zero.
    A ReLU in place stays in place: a tensor that others read, or a slice of one, changes as without it.
    pool_share: with `opened`, the part of the gradient at a window of max pooling that all its places get evenly, instead of the largest.
    """

    def __init__(self, slope: float, opened: bool = False, pool_share: float = 0.0) -> None:
        super().__init__()
        self.slope, self.opened, self.pool_share = slope, opened, pool_share

    def __enter__(self) -> Any:
        _entered.opened = getattr(_entered, "opened", 0) + self.opened
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        _entered.opened -= self.opened
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.pool_share and self.opened and func in POOLS:
            return pooled(func, self.pool_share, args, kwargs)
        if self.opened and not self.slope:
            return func(*args, **kwargs)
        how = _BOUNDS.get(func) or (_SLOPES.get(func) if self.opened else None)
        if how is None or "out" in kwargs:
            return func(*args, **kwargs)
        given, in_place = _read(func, how[0], args, kwargs)
        if not self.opened:
            x, low, high, _ = how[1](given)
            relu = _is_feature(x) and _from_zero(x, low) and given.get("value", 0) == 0
            return _leaky(x, high, self.slope, in_place) if relu else func(*args, **kwargs)
        x, slopes = _bounded(how[1](given)) if func in _BOUNDS else how[1](given)
        if slopes is None or not (torch.is_grad_enabled() and x.requires_grad):
            return func(*args, **kwargs)
        if slopes.dtype != torch.bool:
            slopes = torch.where(slopes == 0, self.slope, slopes)
        return _Opened.apply(x, slopes, self.slope, lambda: func(*args, **kwargs), in_place)


class _Opened(torch.autograd.Function):
    """A function as it is forward, with these slopes backward, or where they are booleans with 1 and the slope of what is closed.

    run: of x as it is given, which it may change in place.
    """

    @staticmethod
    def forward(ctx, x, slopes, closed, run, in_place):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(slopes)
        ctx.closed = closed
        if in_place:
            ctx.mark_dirty(x)
        return run()

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (slopes,) = ctx.saved_tensors
        through = torch.where(slopes, grad, grad * ctx.closed) if slopes.dtype == torch.bool else grad * slopes
        return through, None, None, None, None


class Backward(TorchFunctionMode):
    """While entered, the gradient at every ReLU is rectified; the values stay. What is a ReLU is as for `Leaky`.

    gated: whether it must also have been open, as in guided backpropagation (Springenberg et al. 2015); without that, what passes depends
    on the gradient alone, as in the deconvnet of Zeiler and Fergus 2014, whose switches of max pooling are those of any gradient.
    """

    def __init__(self, gated: bool) -> None:
        super().__init__()
        self.gated = gated

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        how = _BOUNDS.get(func)
        if how is None or "out" in kwargs:
            return func(*args, **kwargs)
        given, in_place = _read(func, how[0], args, kwargs)
        found: Found = how[1](given)
        x, low, high, _ = found
        if x is None or not _is_feature(x) or not _from_zero(x, low) or not (torch.is_grad_enabled() and x.requires_grad):
            return func(*args, **kwargs)
        within = x > 0 if high is None else (x > 0) & (x < high)
        return _Rectified.apply(x, within if self.gated else None, lambda: func(*args, **kwargs), in_place)


class _Rectified(torch.autograd.Function):
    """A function as it is forward, and a rectified gradient backward, where `within` says so."""

    @staticmethod
    def forward(ctx, x, within, run, in_place):  # type: ignore[no-untyped-def]
        ctx.within = within
        if in_place:
            ctx.mark_dirty(x)
        return run()

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        passed = grad.clamp(min=0)
        return passed if ctx.within is None else passed * ctx.within, None, None, None


def _read(func: Any, names: Sequence[str], args: Any, kwargs: Any) -> tuple[Given, bool]:
    """The arguments of a call by their names, and whether it works in place."""
    given: Given = dict(zip(names, args, strict=False)) | {_ALIASES.get(k, k): v for k, v in kwargs.items()}
    name = func.__name__
    return given, (name.endswith("_") and not name.endswith("__")) or bool(given.get("inplace", False))


def _leaky(x: Tensor, high: Bound, slope: float, in_place: bool) -> Tensor:
    """A slope below zero, and the ceiling that there was."""
    if high is not None:
        x = x.clamp_(max=high) if in_place else x.clamp(max=high)
    return F.leaky_relu(x, slope, inplace=in_place)


def _is_feature(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()


def _from_zero(x: Tensor, low: Bound) -> bool:
    if isinstance(low, Tensor):
        return _fits(low, x) and bool((low == 0).all())
    return low is not None and low == 0


def _fits(bound: Bound, x: Tensor) -> bool:
    """Whether a bound leaves x its shape."""
    if not isinstance(bound, Tensor):
        return True
    return bound.dim() <= x.dim() and all(n in (1, m) for n, m in zip(reversed(bound.shape), reversed(x.shape), strict=False))


def _bounded(found: Found) -> tuple[Tensor, Tensor | None]:
    """x, and whether it is held by no bound; None where nothing is bounded by a constant."""
    x, low, high, strict = found
    if x is None or not _is_feature(x) or not (_fits(low, x) and _fits(high, x)):
        return torch.empty(0), None
    bounds = [] if low is None else [x > low if strict else x >= low]  # NaN is within no bound
    bounds += [] if high is None else [x < high if strict else x <= high]
    return x, torch.stack(bounds).all(dim=0) if len(bounds) > 1 else bounds[0] if bounds else ~x.isnan()


def _threshold(g: Given) -> Found:
    return g["input"], g["threshold"], None, True


def _two(larger: bool) -> Callable[[Given], Found]:
    """Of two tensors the one with a gradient is bounded by the other, if that is a constant; of two with gradients none is closed."""

    def read(g: Given) -> Found:
        a, b = g["input"], g.get("other")
        if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
            return None, None, None, False
        if torch.is_grad_enabled() and a.requires_grad == b.requires_grad:
            return None, None, None, False
        x, bound = (b, a) if b.requires_grad or b.dim() > a.dim() else (a, b)
        return (x, bound, None, False) if larger else (x, None, bound, False)

    return read


def _power(g: Given) -> Slopes:
    """Of a power above 1, whose slope is zero at zero."""
    x, exponent = g["input"], g.get("exponent", 2)
    if not _is_feature(x) or not isinstance(exponent, (int, float)) or exponent <= 1:
        return torch.empty(0), None
    return x, exponent * x.detach().pow(exponent - 1)


def _product(g: Given) -> Slopes:
    """Of x times itself."""
    x = g["input"]
    itself: bool = x is g.get("other")
    if not itself or not _is_feature(x):
        return torch.empty(0), None
    return x, 2 * x.detach()


def _hardswish(g: Given) -> Slopes:
    x = g["input"].detach()
    return g["input"], torch.where(x <= -3, 0.0, torch.where(x >= 3, 1.0, x / 3 + 0.5))


def _hardsigmoid(g: Given) -> Slopes:
    x = g["input"]
    return x, (x.detach().abs() < 3).to(x.dtype) / 6


def _table(entries: dict[tuple[str, ...], tuple[tuple[str, ...], Any]]) -> dict[Any, tuple[tuple[str, ...], Any]]:
    """The same by function: each name wherever torch has it, in place too."""
    found = {}
    for names, how in entries.items():
        for name in (n + end for n in names for end in ("", "_")):
            for place in (torch, F, Tensor):
                if hasattr(place, name):
                    found[getattr(place, name)] = how
    return found


_ALIASES = {"min_val": "min", "max_val": "max", "self": "input"}
_CLAMP = ("input", "min", "max", "inplace")
_BOUNDS = _table(
    {
        ("relu",): (("input", "inplace"), lambda g: (g["input"], 0.0, None, True)),
        ("relu6",): (("input", "inplace"), lambda g: (g["input"], 0.0, 6.0, True)),
        ("hardtanh",): (_CLAMP, lambda g: (g["input"], g.get("min", -1.0), g.get("max", 1.0), True)),
        ("clamp", "clip"): (_CLAMP[:3], lambda g: (g["input"], g.get("min"), g.get("max"), False)),
        ("clamp_min",): (("input", "min"), lambda g: (g["input"], g["min"], None, False)),
        ("clamp_max",): (("input", "max"), lambda g: (g["input"], None, g["max"], False)),
        ("threshold",): (("input", "threshold", "value", "inplace"), _threshold),
        ("maximum", "max", "fmax"): (("input", "other"), _two(True)),
        ("minimum", "min", "fmin"): (("input", "other"), _two(False)),
    }
)
_SLOPES = _table(
    {
        ("square",): (("input",), _power),
        ("pow", "__pow__"): (("input", "exponent"), _power),
        ("mul", "multiply", "__mul__"): (("input", "other"), _product),
        ("hardswish",): (("input", "inplace"), _hardswish),
        ("hardsigmoid",): (("input", "inplace"), _hardsigmoid),
    }
)
