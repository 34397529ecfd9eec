"""A layer of any `nn.Module` as a representation: found by its dotted name, run only as far as the layer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..energy.regularizers import Jitter
from ..errors import InputError
from ..pixels.pixelspace import PixelSpace
from ..registry import unknown
from .base import Representation
from .receptive_field import Field, Follow, Layout, Number
from .sessions import channels_last_kernels, evaluating, likes_channels_last, placed
from .tokens import Part, find_part, parts_of


@dataclass(frozen=True)
class LayerInfo:
    """What one layer is.

    name: "dotted.name", with "[key]" where its output is several tensors and "#k" where it runs more than once a pass.
    kind: the class of the module. shape: of its output for one image of the space's size, without the batch.
    receptive_field: side in pixels of the part of the image that one of its units sees (padding counted; the larger side
    where they differ); None: the whole image. stride: pixels from one unit to the next, or of the last grid before it became
    global. jitter: the paper's amount for it. field: exact start, size and stride along rows and columns. parts: "cls", "prefix"
    and "grid" where it has them, to be named as "dotted.name:grid".
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    receptive_field: Number | None
    stride: Number
    jitter: int
    field: Field | None
    parts: tuple[str, ...] = ()


class Layer(Representation):
    """Φ: canonical image (B, C, H, W) -> the output of one layer (B, ...), differentiable in the image.

    module: any nn.Module that takes images. name: a dotted name of `module.named_modules()` ("" for the whole module),
    optionally with "[key]" and "#call" as `layers` lists them, and of a transformer's tokens ":cls" (the class token), ":prefix"
    (it and the registers) or ":grid" (the patches as a map of channels, rows and columns; also of a map with channels last).
    space: the pixels that the module takes.
    output: which tensor, where the layer gives a tuple, list or dict of several. call: which run, where the module runs several
    times in a pass (0 is the first; the default is the last). leak: slope given to ReLUs below zero, to revive dead units.

    The forward pass stops at the layer. During a call the module is in eval mode and its weights take no gradients; both are
    restored afterwards and no hook stays behind, whatever happens. Raises UnknownName for a wrong name and InputError for an
    output or call that must be chosen.

    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 8, 3))
    >>> phi = Layer(net, "0", space=PixelSpace(12, "grey", scale=1.0))
    >>> phi(torch.zeros(2, 1, 12, 12)).shape, phi.receptive_field, phi.stride, phi.skipped
    (torch.Size([2, 4, 10, 10]), 3, 1, ('1', '2'))
    """

    def __init__(
        self,
        module: nn.Module,
        name: str,
        *,
        space: PixelSpace,
        output: int | str | None = None,
        call: int | None = None,
        leak: float = 0.0,
        title: str | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise InputError(f"Layer takes an nn.Module; got {type(module).__name__}. For a function use preimage.from_callable(f, space).")
        if space.size is None:
            raise InputError("The pixel space of a network needs a size: PixelSpace(size=(H, W), …).")
        if not 0.0 <= leak < 1.0:
            raise InputError(f"leak is the slope of ReLUs below zero, from 0 to less than 1; got {leak!r}")
        self._module, self.space, self.leak = module, space, leak
        self.can_open, self.prefers_channels_last = True, likes_channels_last(module)
        dotted, key, run, part = parse_name(name)
        found = dict(module.named_modules())
        if dotted not in found:
            raise unknown("layer", dotted, [n for n in found if n], see="preimage.layers(module, space)")
        self._target = found[dotted]
        self._key = output if output is not None else key
        self._call = call if call is not None else run
        self.name = title or name or type(module).__name__
        self._depth = 0
        self._channels_last = False
        self._running = False
        self._seen = 0
        self._kept: Tensor | None = None
        self.info, self.skipped = self._examine(dotted)
        self._part: Part | None = None
        if part is not None:
            self.info, self._part = _part_of(self.info, part, space, module, dotted)
        self.shape, self.stride, self.receptive_field = self.info.shape, self.info.stride, self.info.receptive_field

    def __call__(self, x: Tensor) -> Tensor:
        with self.session():
            pixels = self.space.to_network(x)
            if self._channels_last:
                pixels = pixels.contiguous(memory_format=torch.channels_last)
            if pixels.data_ptr() == x.data_ptr():  # the module may write into its input; the caller's x is not its to write
                pixels = pixels.clone()
            self._seen, self._kept, self._running = 0, None, True
            try:
                with suppress(_Reached):
                    self.module(pixels)
            finally:
                self._running = False
            kept: Tensor | None = self._kept
            self._kept = None
            if kept is None:
                raise InputError(f"Layer {self.name!r} was called {self._seen} time(s) in this pass; call {self._call} never came.")
            return kept if self._part is None else self._part(kept, *x.shape[-2:])

    def __repr__(self) -> str:
        field = f"receptive field {self.receptive_field}" if self.receptive_field else "global"
        return f"Layer({self.name!r}, shape={self.shape}, stride={self.stride}, {field}, skips {len(self.skipped)} modules)"

    @property
    def module(self) -> nn.Module:
        """Give the module that the layer belongs to."""
        return self._module

    @contextmanager
    def session(self, device: torch.device | None = None, dtype: torch.dtype | None = None, channels_last: bool = False) -> Iterator[None]:
        """Prepare the module once for many calls (eval mode, frozen weights, the hook, device and type) and restore all of it.

        channels_last: compute in that memory format, which convolutions and pooling are often faster in; values differ by rounding.
        """
        with ExitStack() as stack:
            if self._depth == 0 or device is not None or dtype is not None:
                stack.enter_context(placed(self.module, device, dtype))
            if channels_last:
                stack.enter_context(channels_last_kernels(self.module, self.skipped))
                stack.callback(setattr, self, "_channels_last", self._channels_last)
                self._channels_last = True
            if self._depth == 0:
                stack.enter_context(evaluating(self.module))
                stack.callback(self._target.register_forward_hook(self._keep).remove)
                if self.leak:
                    stack.enter_context(_Leaky(self.leak))
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1

    @contextmanager
    def opened(self, slope: float) -> Iterator[None]:
        """For a while the gradient passes ReLUs below zero with this slope; the values stay those of the network."""
        with _Leaky(slope, _OpenReLU.apply):
            yield

    def _keep(self, module: nn.Module, args: Any, output: Any) -> None:
        if not self._running:  # somebody else runs the module while a session is open
            return
        if self._seen == self._call:
            self._kept = _pick(output, self._key, self.name)
            raise _Reached
        self._seen += 1

    def _examine(self, dotted: str) -> tuple[LayerInfo, tuple[str, ...]]:
        """Choose the call, check the output, and see what the layer is and what it does not need."""
        order, error = _watch(self.module, self.space, self.leak)
        runs = [i for i, run in enumerate(order) if run.name == dotted]
        if not runs:
            raise error or InputError(f"Module {dotted!r} exists but does not run in the forward pass, so it has no output.")
        call = len(runs) - 1 if self._call is None else self._call
        if not -len(runs) <= call < len(runs):
            raise InputError(f"Layer {dotted!r} runs {len(runs)} time(s) in a pass; call {call} is not one of 0..{len(runs) - 1}.")
        self._call = call % len(runs)
        end = runs[self._call]
        key = self._key
        if key is None and list(order[end].outputs) != [None]:
            key = _only_key(order[end].outputs, self.name.partition(":")[0])
        if key not in order[end].outputs:
            raise InputError(f"Layer {self.name!r} has no output {key!r}. It gives: {_listed(order[end].outputs)}.")
        self._key = key
        ran = {run.name for run in order[: end + 1]}
        leaves = [n for n, m in self.module.named_modules() if n and not any(m.children())]
        inside = f"{dotted}." if dotted else ""
        return order[end].info(key, self.name), tuple(n for n in leaves if n not in ran and not n.startswith(inside or "\0"))


def layers(module: nn.Module, space: PixelSpace) -> list[LayerInfo]:
    """Every layer of a module in the order in which it runs, from one pass over an image of the space's size.

    A module that runs several times is listed for each, as "name#0", "name#1"; one that gives several tensors as "name[key]".
    Raises what the module raises if it does not run through.

    >>> [(l.name, l.shape, l.receptive_field, l.stride) for l in layers(nn.Sequential(nn.Conv2d(3, 8, 3, 2)), PixelSpace(9))]
    [('0', (8, 4, 4), 3, 2)]
    """
    order, error = _watch(module, space, 0.0)
    if error is not None:
        raise error
    times: dict[str, int] = {}
    for run in order:
        times[run.name] = times.get(run.name, 0) + 1
    seen: dict[str, int] = {}
    infos = []
    for run in order:
        call = seen[run.name] = seen.get(run.name, -1) + 1
        if run.name:
            suffix = f"#{call}" if times[run.name] > 1 else ""
            found = [run.info(key, run.name + ("" if key is None else f"[{key}]") + suffix) for key in run.outputs]
            assert space.size is not None
            infos += [replace(i, parts=parts_of(i.shape, i.field, space.size, module, run.name)) for i in found]
    return infos


def parse_name(name: str) -> tuple[str, int | str | None, int | None, str | None]:
    """ "dotted[key]#call:part" -> its four parts.

    >>> parse_name("layer1.0.relu#1"), parse_name("lstm[0]"), parse_name("blocks.3:cls")
    (('layer1.0.relu', None, 1, None), ('lstm', 0, None, None), ('blocks.3', None, None, 'cls'))
    """
    match = re.fullmatch(r"(?P<name>[^\[#:]*)(\[(?P<key>[^\]]*)\])?(#(?P<call>\d+))?(:(?P<part>\w+))?", name)
    if match is None:
        raise InputError(f"A layer is named dotted.name, dotted.name[output], dotted.name#call or dotted.name:part; got {name!r}")
    key, call = match["key"], match["call"]
    return match["name"], int(key) if key is not None and key.isdigit() else key, None if call is None else int(call), match["part"]


class _Reached(BaseException):
    """Ends a forward pass at the layer. Not an Exception: a module that catches those must not swallow it."""


class _Leaky(TorchFunctionMode):
    """Every ReLU becomes a leaky one, whether a module or a function calls it."""

    def __init__(self, slope: float, function: Callable[[Tensor, float], Any] = F.leaky_relu) -> None:
        super().__init__()
        self.slope, self.function = slope, function

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.relu, torch.relu_, F.relu, Tensor.relu, Tensor.relu_):
            return self.function(args[0], self.slope)
        return func(*args, **(kwargs or {}))


class _OpenReLU(torch.autograd.Function):
    """ReLU forward, leaky ReLU backward."""

    @staticmethod
    def forward(ctx, x, slope):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        ctx.slope = slope
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        return torch.where(x > 0, grad, ctx.slope * grad), None


@dataclass
class _Run:
    """One call of one module."""

    name: str
    kind: str
    outputs: dict[int | str | None, tuple[tuple[int, ...], Field | None]]  # key -> shape without batch, field

    def info(self, key: int | str | None, name: str) -> LayerInfo:
        shape, field = self.outputs[key]
        if field is None:
            return LayerInfo(name, self.kind, shape, None, 1, 1, None)
        stride = max(field.rows.stride, field.cols.stride)
        whole = field.rows.whole or field.cols.whole
        size = None if whole else _plain_number(max(field.rows.largest, field.cols.largest))
        return LayerInfo(name, self.kind, shape, size, _plain_number(stride), Jitter.for_stride(float(stride)).amount, field)


def _watch(module: nn.Module, space: PixelSpace, leak: float) -> tuple[list[_Run], Exception | None]:
    """One pass of a grey image, every module's calls in the order in which they end; and the error that ended the pass, if any."""
    assert space.size is not None
    first = next((t for t in [*module.parameters(), *module.buffers()] if t.is_floating_point()), None)
    place: dict[str, Any] = {} if first is None else {"device": first.device, "dtype": first.dtype}
    order: list[_Run] = []
    image = space.to_network(torch.zeros(1, space.count, *space.size, **place)).clone()
    follow = Follow(image)

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def note(m: nn.Module, args: Any, output: Any) -> None:
            found = {k: (tuple(t.shape[1:]), follow.field(t)) for k, t in tensors_in(output).items()}
            order.append(_Run(name, type(m).__name__, found))

        return note

    with ExitStack() as stack:
        stack.enter_context(evaluating(module))
        stack.enter_context(torch.no_grad())
        for name, m in module.named_modules():
            stack.callback(m.register_forward_hook(hook(name)).remove)
        stack.enter_context(follow)
        if leak:
            stack.enter_context(_Leaky(leak))
        try:
            module(image)
        except Exception as error:
            return order, error
    return order, None


def only_tensor(output: Any, preferred: str = "") -> Tensor | None:
    """A module's output where it is one tensor or holds one, or the one under the preferred key; None where that is no choice."""
    choices = tensors_in(output)
    return choices.get(preferred, next(iter(choices.values())) if len(choices) == 1 else None)


def tensors_in(output: Any) -> dict[int | str | None, Tensor]:
    """The tensors of a module's output by the key that chooses each; None where the output is itself a tensor."""
    if isinstance(output, Tensor):
        return {None: output}
    if isinstance(output, Mapping):
        pairs: Sequence[tuple[Any, Any]] = list(output.items())
    elif isinstance(output, (tuple, list)):
        pairs = list(enumerate(output))
    else:
        pairs = list(vars(output).items()) if hasattr(output, "__dict__") else []
    return {k: v for k, v in pairs if isinstance(v, Tensor)}


def _pick(output: Any, key: int | str | None, name: str) -> Tensor:
    choices = tensors_in(output)
    if key not in choices:
        key = _only_key({k: (tuple(t.shape[1:]), None) for k, t in choices.items()}, name)
    return choices[key]


def _only_key(outputs: Mapping[Any, tuple[tuple[int, ...], Any]], name: str) -> Any:
    if len(outputs) != 1:
        raise InputError(f"Layer {name!r} gives {len(outputs)} tensors: {_listed(outputs)}. Choose one, with output= or {name}[KEY].")
    return next(iter(outputs))


def _listed(outputs: Mapping[Any, tuple[tuple[int, ...], Any]]) -> str:
    return ", ".join(f"{key!r} of shape {shape}" for key, (shape, _) in outputs.items()) or "no tensor"


def _plain_number(value: Number) -> Number:
    return int(value) if value == int(value) else value


def _part_of(info: LayerInfo, which: str, space: PixelSpace, module: nn.Module, dotted: str) -> tuple[LayerInfo, Part]:
    """What a part of a layer is, and the function that takes it."""
    assert space.size is not None
    part = find_part(which, info.name, info.shape, info.field, space.size, module, dotted)
    shape = tuple(part(torch.zeros(1, *info.shape), *space.size).shape[1:])
    if info.field is None or which != "grid":
        return replace(info, shape=shape, receptive_field=None, field=None), part
    layout: Layout = [[(1, None)], [(shape[0], None)], [(shape[1], 0)], [(shape[2], 1)]]
    stride = max(part.rows, part.cols)
    jitter = Jitter.for_stride(float(stride)).amount
    return replace(info, shape=shape, stride=_plain_number(stride), jitter=jitter, field=replace(info.field, layout=layout)), part


def with_title(info: LayerInfo, name: str) -> LayerInfo:
    """The same layer under another name."""
    return replace(info, name=name)
