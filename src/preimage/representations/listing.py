"""Which layers a module has, and what each is: seen in a pass over a grey image."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ..errors import InputError, first_line
from ..pixels.pixelspace import PixelSpace
from .batches import Batch, find_batch
from .outputs import Path, tensors_in
from .receptive_field import Field, Follow, Number, paper_jitter
from .relus import Leaky
from .sessions import Draws, evaluating, plain_torch
from .tokens import parts_of
from .used import check_values

_SCRIPTED: type[Any] = torch.jit.RecursiveScriptModule  # type: ignore[attr-defined, unused-ignore]


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


def layers(module: nn.Module, space: PixelSpace) -> list[LayerInfo]:
    """List every layer of a module in the order in which it runs, from a pass over an image of the space's size.

    A module that runs several times is listed for each, as "name#0", "name#1"; one that gives several tensors as "name[key]". `Layer` takes
    every name that is listed; outputs that are no features of single images (numbers that are not real, or the same for any number of
    images) are left out. A module of which no part runs as a module, as one layer by itself or a traced or exported network, is listed
    as a whole, by the name "". Raises InputError, with the module's reason, if it does not run through, and for a scripted one.

    >>> [(l.name, l.shape, l.receptive_field, l.stride) for l in layers(nn.Sequential(nn.Conv2d(3, 8, 3, 2)), PixelSpace(9))]
    [('0', (8, 4, 4), 3, 2)]
    """
    check_module(module, space, "layers")
    order, error = watch(module, space, 0.0)
    if error is not None:
        raise in_words(error)
    if any(output.doubtful for run in order for output in run.outputs.values()):
        find_batches(order, module, space, 0.0)
    inner = [run for run in order if run.name]
    return _infos(inner, module, space) or _infos([run for run in order if not run.name], module, space)


def _infos(order: Sequence[ModuleCall], module: nn.Module, space: PixelSpace) -> list[LayerInfo]:
    """What runs gave that can be features."""
    times: dict[str, int] = {}
    for run in order:
        times[run.name] = times.get(run.name, 0) + 1
    seen: dict[str, int] = {}
    infos = []
    for run in order:
        call = seen[run.name] = seen.get(run.name, -1) + 1
        suffix = f"#{call}" if times[run.name] > 1 else ""
        usable = [key for key, output in run.outputs.items() if output.batch is not None and output.dtype.is_floating_point]
        found = [run.info(key, run.name + ("" if key is None else f"[{key}]") + suffix) for key in usable]
        assert space.size is not None
        infos += [replace(i, parts=parts_of(i.shape, i.field, space.size, module, run.name)) for i in found]
    return infos


def with_title(info: LayerInfo, name: str) -> LayerInfo:
    """The same layer under another name."""
    return replace(info, name=name)


def check_module(module: Any, space: PixelSpace, caller: str) -> None:
    """Whether a module can be looked at. Raises InputError with what to do."""
    if not isinstance(module, nn.Module):
        hint = "take its .module()" if hasattr(module, "graph_module") else "For a function use preimage.from_callable(f, space)"
        raise InputError(f"{caller} takes an nn.Module; got {type(module).__name__}. {hint[0].upper()}{hint[1:]}.")
    if not isinstance(space, PixelSpace):
        raise InputError(f"The space of {caller} is a preimage.PixelSpace(…); got {space!r:.80}.")
    if space.size is None:
        raise InputError("The pixel space of a network needs a size: PixelSpace(size=(H, W), …).")
    check_hooks(module, caller)
    check_values(module)


def check_hooks(module: nn.Module, caller: str) -> None:
    """Refuse a module that cannot be watched while it runs. Raises InputError with what to do."""
    if isinstance(module, _SCRIPTED):
        raise InputError(
            f"{caller} cannot look into a scripted module ({module.original_name}). Take the nn.Module that it was made of; or save it and "
            'open the file, preimage.load_network("net.ts", space=…, trust=True); or take it whole, preimage.from_callable(module, space).'
        )


def in_words(error: Exception) -> Exception:
    """What a module raises on a grey image, in words; our own errors as they are."""
    if isinstance(error, (InputError, MemoryError, torch.OutOfMemoryError)):
        return error
    own = InputError(f"The module fails on a grey image of the space's size: {type(error).__name__}: {first_line(error)}")
    own.__cause__ = error
    return own


@contextmanager
def noted(module: nn.Module, note: Callable[[nn.Module, Any, Any], None], direct: bool = False) -> Iterator[None]:
    """Tell of every run of a module: by a hook, or, where it is run past its hooks, by a forward of our own around its own."""
    if not direct:
        handle = module.register_forward_hook(note)
        try:
            yield
        finally:
            handle.remove()
        return
    before, forward = module.__dict__.get("forward"), module.forward

    def told(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        note(module, args, output)
        return output

    module.forward = told
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before


@dataclass
class Output:
    """One tensor of a run: its shape for one image as it comes, its type and field, and how the images lie in it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    field: Field | None
    batch: Batch | None

    @property
    def doubtful(self) -> bool:
        """Whether a first dimension of 1 does not say that it is the images': that of one image alone, or followed by another 1."""
        return self.batch is None or self.shape[:1] != (1,) or (len(self.shape) == 3 and self.shape[1] == 1)


@dataclass
class ModuleCall:
    """One call of one module."""

    name: str
    kind: str
    outputs: dict[Any, Output]

    def info(self, key: Any, name: str) -> LayerInfo:
        output = self.outputs[key]
        batch = output.batch or Batch()
        shape, field = batch.shape_of(output.shape), output.field
        if field is None:
            return LayerInfo(name, self.kind, shape, None, 1, 1, None)
        field = replace(field, layout=batch.layout_of(field.layout))
        stride = max(field.rows.stride, field.cols.stride)
        whole = field.rows.whole or field.cols.whole
        size = None if whole else plain_number(max(field.rows.largest, field.cols.largest))
        return LayerInfo(name, self.kind, shape, size, plain_number(stride), paper_jitter(float(stride)), field)


def watch(
    module: nn.Module, space: PixelSpace, leak: float, direct: str | None = None, of: str | None = None
) -> tuple[list[ModuleCall], Exception | None]:
    """One pass of a grey image, every module's calls in the order in which they end; and the error that ended the pass, if any.

    direct: a module that is run past its hooks. of: the only module whose fields are wanted, as they take most of the time.
    """
    order: list[ModuleCall] = []
    follow: list[Follow] = []

    def note(name: str, m: nn.Module, output: Any) -> None:
        found = {}
        for key, t in tensors_in(output).items():
            found[key] = Output(tuple(t.shape), t.dtype, follow[0].field(t) if of in (None, name) else None, Batch() if t.ndim else None)
        order.append(ModuleCall(name, type(m).__name__, found))

    return order, _show(module, space, leak, 1, note, direct, follow)


def find_batches(order: list[ModuleCall], module: nn.Module, space: PixelSpace, leak: float, direct: str | None = None) -> None:
    """See by a pass of two images which dimension of each output runs along them."""
    shapes: dict[tuple[str, int], dict[Any, tuple[int, ...]]] = {}
    times: dict[str, int] = {}

    def note(name: str, m: nn.Module, output: Any) -> None:
        times[name] = times.get(name, -1) + 1
        shapes[name, times[name]] = {k: tuple(t.shape) for k, t in tensors_in(output).items()}

    alone = _show(module, space, leak, 2, note, direct) is not None  # a module that takes one image only
    count: dict[str, int] = {}
    for run in order:
        call = count[run.name] = count.get(run.name, -1) + 1
        for key, output in run.outputs.items():
            two = shapes.get((run.name, call), {}).get(key)
            output.batch = find_batch(output.shape, None if alone else two)


def _show(
    module: nn.Module,
    space: PixelSpace,
    leak: float,
    count: int,
    note: Callable[[str, nn.Module, Any], None],
    direct: str | None,
    follow: list[Follow] | None = None,
) -> Exception | None:
    """Show the module grey images, and tell of every run in this thread; the error that ended the pass, if any."""
    assert space.size is not None
    first = next((t for t in [*module.parameters(), *module.buffers()] if t.is_floating_point()), None)
    device, dtype = (torch.device("cpu"), torch.float32) if first is None else (first.device, first.dtype)
    me = threading.get_ident()

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda m, args, output: note(name, m, output) if threading.get_ident() == me else None

    with ExitStack() as stack:
        stack.enter_context(plain_torch())
        stack.enter_context(evaluating(module))
        stack.enter_context(torch.no_grad())
        stack.enter_context(Draws().same(device))
        image = space.to_network(torch.zeros(count, space.count, *space.size, device=device, dtype=dtype)).clone()
        for name, m in module.named_modules():
            if not isinstance(m, _SCRIPTED):  # which takes no hooks: it runs as a part of what is around it
                stack.enter_context(noted(m, hook(name), name == direct))
        if follow is not None:
            follow.append(stack.enter_context(Follow(image)))
        if leak:
            stack.enter_context(Leaky(leak))
        try:
            module(image)
        except Exception as error:
            return error
    return None


def choice_of(outputs: Mapping[Any, Output], name: str) -> str:
    return f"Layer {name!r} gives {len(outputs)} tensors: {listed(outputs)}. Choose one, with output= or {name}[KEY]."


def listed(outputs: Mapping[Any, Output]) -> str:
    shown = {str(k) if isinstance(k, Path) else k: o.shape[1:] for k, o in outputs.items()}
    return ", ".join(f"{k!r} of shape {shape}" for k, shape in shown.items()) or "no tensor"


def plain_number(value: Number) -> Number:
    return int(value) if value == int(value) else value
