"""Which modules a function uses: they are held in eval mode while it runs, and given back as they were."""

from __future__ import annotations

import functools
import inspect
import types
from typing import Any

import torch
from torch import nn

from ..errors import InputError


def modules_of(f: Any) -> list[nn.Module]:
    """List the modules that a function is or uses, as far as it shows them.

    These are itself, what a method is bound to, what a partial function was given, the variables that a function has from outside, and
    what an object that can be called holds.

    >>> net = nn.Conv2d(3, 4, 3)
    >>> [modules_of(f) == [net] for f in (net, net.forward, lambda x: net(x), torch.relu)]
    [True, True, True, False]
    """
    found: list[nn.Module] = []
    for value in (f, *_used_by(f)):
        inside = value if isinstance(value, (list, tuple)) else value.values() if isinstance(value, dict) else [value]
        for one in inside:
            if isinstance(one, nn.Module) and not any(one is m for m in found):
                found.append(one)
    return found


def _used_by(f: Any) -> list[Any]:
    if isinstance(f, functools.partial):
        return [*f.args, *f.keywords.values(), *modules_of(f.func)]
    if isinstance(f, types.MethodType):
        return [f.__self__, *getattr(f.__self__, "__dict__", {}).values()] if not isinstance(f.__self__, nn.Module) else [f.__self__]
    if isinstance(f, types.FunctionType):
        try:
            outside = inspect.getclosurevars(f)
        except ValueError:  # a variable that has no value yet
            return []
        return [*outside.nonlocals.values(), *outside.globals.values()]
    return [] if isinstance(f, (nn.Module, type)) else list(getattr(f, "__dict__", {}).values())


def check_values(module: nn.Module) -> None:
    """Refuse a module whose weights have no values yet, or take no part in derivatives. Raises InputError with what to do."""
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if torch.nn.parameter.is_lazy(tensor):
            raise InputError(f"{name!r} of {type(module).__name__} has no shape yet: show the module one image first, module(images).")
        if tensor.is_meta:
            raise InputError(f"{name!r} of {type(module).__name__} is on the device 'meta' and has no values: load the weights first.")
        if tensor.is_inference():
            raise InputError(
                f"{name!r} of {type(module).__name__} was made inside torch.inference_mode() and takes no part in derivatives. "
                "Build and load the module outside of it; torch.no_grad() does no harm."
            )
