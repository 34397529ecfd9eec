"""A module made ready for many evaluations, and given back as it was: eval mode, frozen weights, device, type, random draws."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .turns import TURNS


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Hold a module in eval mode and its weights without gradients, and restore each module's and each weight's own setting.

    The modes are changed through ``train`` and ``eval``, which some modules override to do more, as adapters that merge their weights
    into those of the network. Weights that such a module has brought back but for rounding get their own bits again. Other threads
    wait for their turn. Enter it before `on_device`: a change of mode may change weights, and must meet the module's own.
    """
    with TURNS.take(module):
        modes = {m: m.training for m in module.modules()}
        flags = [(p, p.requires_grad) for p in module.parameters()]
        merged = _own_tensors([m for m, training in modes.items() if training and _does_more(m)])
        frozen: list[nn.Parameter] = []
        try:
            _switch(module, dict.fromkeys(modes, False))
            for p in module.parameters():
                if p.requires_grad:
                    frozen.append(p)
                    p.requires_grad_(False)
            yield
        finally:
            for p in frozen:
                p.requires_grad_(True)
            _switch(module, modes)
            for m, training in modes.items():
                if m.training != training:
                    m.training = training
            for p, flag in flags:
                if p.requires_grad != flag:
                    p.requires_grad_(flag)
            _bring_back(merged)


def _does_more(module: nn.Module) -> bool:
    """Whether a change of mode is more to the module than a flag."""
    kind = type(module)
    return kind.train is not nn.Module.train or kind.eval is not nn.Module.eval


def _switch(module: nn.Module, wanted: Mapping[nn.Module, bool]) -> None:
    """Bring a module and all in it to their modes, by as few calls as will do; a module that is there already is not touched."""
    inside = list(module.modules())
    if all(m.training == wanted.get(m, m.training) for m in inside):
        return
    modes = {wanted.get(m, m.training) for m in inside}
    mode = wanted.get(module, module.training)
    if len(modes) == 1:
        _change(module, mode)
        return
    if _does_more(module):
        if module.training != mode:
            _change(module, mode)
    else:
        module.training = mode
    for child in module.children():
        _switch(child, wanted)


def _change(module: nn.Module, training: bool) -> None:
    try:
        _ = module.train() if training else module.eval()
    except NotImplementedError:  # of an exported program, which computes what it was exported with in either mode
        for m in module.modules():
            m.training = training


def _own_tensors(modules: Sequence[nn.Module]) -> list[tuple[Tensor, Tensor]]:
    own = [t for m in modules for t in [*m.parameters(recurse=False), *m.buffers(recurse=False)] if t.is_floating_point()]
    return [(t, t.detach().clone()) for t in own]


def _bring_back(before: Sequence[tuple[Tensor, Tensor]]) -> None:
    """The bits of tensors that are what they were but for rounding; one that is really another is the module's own business."""
    for tensor, value in before:
        now = tensor.data
        if now.shape == value.shape and now.dtype == value.dtype and now.device == value.device and not torch.equal(now, value):
            near = 1e-2 * value.abs().max().clamp(min=torch.finfo(value.dtype).tiny)
            if bool(((now - value).abs() <= near).all()):
                now.copy_(value)


@contextmanager
def on_device(module: nn.Module, device: torch.device | None, dtype: torch.dtype | None) -> Iterator[None]:
    """Put a module on a device and into a floating-point type for a while; its own tensors come back untouched."""
    tensors = [*module.parameters(), *module.buffers()]
    if all((device is None or t.device == device) and (dtype is None or not t.is_floating_point() or t.dtype == dtype) for t in tensors):
        yield
        return
    with _replaced(tensors, lambda t: t.to(device=device, dtype=dtype if t.is_floating_point() else None)):
        yield


@contextmanager
def channels_last_kernels(module: nn.Module, without: Sequence[str] = ()) -> Iterator[None]:
    """Put the kernels of a module into channels last for a while, but for those of the modules named in `without`."""
    modules = [m for n, m in module.named_modules() if n not in without]
    kernels = [p for m in modules for p in m.parameters(recurse=False) if p.dim() == 4]
    with _replaced(kernels, lambda t: t.contiguous(memory_format=torch.channels_last)):
        yield


@contextmanager
def _replaced(tensors: Sequence[Tensor], change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    own = [(t, t.data) for t in tensors]
    try:
        for t, data in own:
            t.data = change(data)
        yield
    finally:
        for t, data in own:
            t.data = data


def likes_channels_last(module: nn.Module) -> bool:
    """Say whether a network of this kind is faster with channels last on a CPU: one with a convolution that overlaps, not only patches.

    >>> likes_channels_last(nn.Conv2d(3, 8, 3)), likes_channels_last(nn.Conv2d(3, 8, 16, stride=16))
    (True, False)
    """
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.groups < m.in_channels]
    return any(kernel > stride for m in convolutions for kernel, stride in zip(m.kernel_size, m.stride, strict=True))


class Reached(BaseException):
    """Ends a forward pass at a layer. Not an Exception: a module that catches those must not swallow it."""


class ReachedInHooks(Exception):
    """Ends a forward pass where hooks wait for an error: torch runs those registered with ``always_call=True`` for Exceptions alone."""


def signal_for(module: nn.Module) -> type[Reached] | type[ReachedInHooks]:
    """Choose what ends a pass of a module, so that hooks that always want to be called are called, as those that close what they opened."""
    everywhere = torch.nn.modules.module._global_forward_hooks_always_called
    return ReachedInHooks if everywhere or any(m._forward_hooks_always_called for m in module.modules()) else Reached


class Draws:
    """Gives a function that draws random numbers the same ones in every call, so that it is one function and not many.

    The first call says whether it draws at all (torch's, NumPy's or Python's global generator); where it does not, later calls cost
    nothing. The generators themselves go on as if nothing had been drawn.
    """

    def __init__(self) -> None:
        self._any: bool | None = None

    @property
    def none(self) -> bool:
        """Whether it is known that the function draws none."""
        return self._any is False

    @contextmanager
    def same(self, device: torch.device) -> Iterator[None]:
        """Around one call."""
        if self._any is False:
            yield
            return
        before = _states(device)
        try:
            _seed(device)
            start = _states(device) if self._any is None else None
            try:
                yield
            finally:  # a pass that ends at a layer ends by an exception
                if start is not None:
                    self._any = not all(_equal(a, b) for a, b in zip(start, _states(device), strict=True))
        finally:
            _set_states(device, before)


def _states(device: torch.device) -> tuple[Any, ...]:
    own = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.default_generator.get_state(), own, random.getstate(), np.random.get_state(legacy=False)


def _set_states(device: torch.device, states: tuple[Any, ...]) -> None:
    torch.default_generator.set_state(states[0])
    if states[1] is not None:
        torch.cuda.set_rng_state(states[1], device)
    random.setstate(states[2])
    np.random.set_state(states[3])


def _seed(device: torch.device) -> None:
    torch.default_generator.manual_seed(0)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(0)
    random.seed(0)
    np.random.seed(0)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):  # NumPy's
        return a["state"]["pos"] == b["state"]["pos"] and np.array_equal(a["state"]["key"], b["state"]["key"])
    return bool(a == b)


_DEFAULT_TYPE = threading.RLock()
_types: list[torch.dtype] = []  # the process' default type, once for each thread that is inside `plain_torch`


@contextmanager
def plain_torch() -> Iterator[None]:
    """Set torch's global state for a while to what it is in a new process, so that nothing done outside changes a result.

    That is the default type and device, gradients and inference mode, and autocast; all of it is restored.
    """
    with ExitStack() as stack:
        stack.enter_context(_default_type())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for kind in {"cpu", "cuda", _accelerator()}:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            stack.enter_context(torch.enable_grad())
        yield


@contextmanager
def _default_type() -> Iterator[None]:
    """float32; the type is the whole process', so the last thread to leave restores it."""
    with _DEFAULT_TYPE:
        _types.append(_types[0] if _types else torch.get_default_dtype())
        if torch.get_default_dtype() != torch.float32:
            torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        with _DEFAULT_TYPE:
            own = _types.pop()
            if not _types and own != torch.float32:
                torch.set_default_dtype(own)


def _accelerator() -> str:
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "cpu" if found is None else found.type
