"""A layer of any `nn.Module` as a representation: found by its dotted name, run only as far as the layer."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..pixels.pixelspace import PixelSpace
from ..ranges import is_real
from ..registry import unknown
from .base import Representation, check_pixels, differentiable, inside
from .batches import Batch
from .listing import LayerInfo, Output, check_hooks, check_module, choice_of, find_batches, in_words, listed, noted, plain_number, watch
from .outputs import find_key, only_key, parse_name, tensors_in
from .receptive_field import Layout, paper_jitter
from .relus import Leaky
from .sessions import (
    Draws,
    Reached,
    ReachedInHooks,
    channels_last_kernels,
    evaluating,
    likes_channels_last,
    on_device,
    plain_torch,
    signal_for,
)
from .tokens import Part, find_part


class Layer(Representation):
    """Φ: canonical image (B, C, H, W) -> the output of one layer (B, ...), differentiable in the image.

    module: any nn.Module that takes images. name: a dotted name of `module.named_modules()` ("" for the whole module),
    optionally with "[key]" and "#call" as `layers` lists them, and of a transformer's tokens ":cls" (the class token), ":prefix"
    (it and the registers) or ":grid" (the patches as a map of channels, rows and columns; also of a map with channels last).
    space: the pixels that the module takes.
    output: which tensor, where the layer gives a tuple, list or dict of several. call: which run, where the module runs several
    times in a pass (0 is the first; the default is the last). leak: slope given to ReLUs below zero, to revive dead units.

    The forward pass stops at the layer: forward hooks on modules around it do not run, but for those registered with
    ``always_call=True``, which do. During a call the module is in eval mode, its weights take no gradients, and where it draws random
    numbers even then it draws the same in every pass; all is restored afterwards and no hook stays behind, whatever happens. One thread
    at a time computes: another one waits, and its own passes of the module are not disturbed. Where another dimension than the first runs
    along the images, as in (tokens, B, channels), or windows of one image are samples of their own, the features are put in order.
    Raises UnknownName for a wrong name and InputError for an output or call that must be chosen, or that has no dimension of images.

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
        output: Any = None,
        call: int | None = None,
        leak: float = 0.0,
        title: str | None = None,
    ) -> None:
        check_module(module, space, "Layer")
        if not isinstance(name, str):
            raise InputError(f"The name of a layer is a text, as preimage.layers(module, space) lists them; got {name!r:.80}.")
        if not is_real(leak) or not 0.0 <= leak < 1.0:
            raise InputError(f"leak is the slope of ReLUs below zero, from 0 to less than 1; got {leak!r}")
        self._module, self.space, self.leak = module, space, leak
        self.can_open, self.prefers_channels_last = True, likes_channels_last(module)
        found = dict(module.named_modules(remove_duplicate=False))
        dotted, key, run, part = parse_name(name, found)
        if dotted not in found:
            raise unknown("layer", dotted, [n for n in found if n], see="preimage.layers(module, space)")
        self._target = found[dotted]
        check_hooks(self._target, "Layer")
        dotted = next(n for n, m in module.named_modules() if m is self._target)  # the first of its names
        self._key = output if output is not None else key
        self._call = call if call is not None else run
        self.name = title or name or type(module).__name__
        self._draws = Draws()
        self._owner: int | None = None  # the thread that is inside a session
        self._running: int | None = None  # the thread that is inside a pass
        self._channels_last = False
        self._direct = False  # run by its forward alone, past all hooks
        self._seen = 0
        self._kept: Tensor | None = None
        self._left = [1]  # layers that the pass has not reached yet, one number for all that share it
        self._signal: type[Reached] | type[ReachedInHooks] = Reached
        self.info, self.skipped, self._batch = self._examine(dotted)
        self._part: Part | None = None
        if part is not None:
            self.info, self._part = _part_of(self.info, part, space, module, dotted)
        self.shape, self.stride, self.receptive_field = self.info.shape, self.info.stride, self.info.receptive_field
        if self._batch.each > 1:
            self._put_in_order()

    def __call__(self, x: Tensor) -> Tensor:
        check_pixels(self)
        if self._owner == threading.get_ident():
            return self._features(x)
        with self.session():
            return self._features(x)

    def beside(self, others: Sequence[Layer], x: Tensor) -> list[Tensor]:
        """Compute the features of this layer and of others of the same module in one pass, which ends when the last of them is reached.

        Each is as it comes alone; gradients of several differ from a sum over passes by rounding, as they meet inside the network.
        Raises InputError for layers of another module, pixels or leak: they have no pass in common.
        """
        mine = (id(self.module), self.space, self.leak, True)
        if any((id(o.module), o.space, o.leak, o.can_share) != mine for o in [self, *others]):
            raise InputError(f"{self!r} shares no pass with {others!r}: another module, other pixels, another leak, or run past its hooks.")
        check_pixels(self)
        with ExitStack() as stack:
            for layer in (self, *others):
                if layer._owner != threading.get_ident():
                    stack.enter_context(layer.session())
            return self._pass([self, *others], x)

    def go_on(self, features: Tensor, to: Layer, x: Tensor) -> Tensor | None:
        """Compute a later layer from features of this one, which stand in the place of its own; None where that sees the image besides.

        features: (B, ...) of this layer. to: another layer of the same module, which sees the image through this one alone, or not: two
        images that give the same show it. x: canonical images (B, C, H, W) of the features' size; their values do not count.
        """
        if self._part is not None or self._key is not None or self._batch != Batch() or self._direct or to.module is not self.module:
            return None
        calls = 0

        def put(module: nn.Module, args: Any, output: Any) -> Any:
            nonlocal calls
            calls += 1
            return features.to(output).clone() if calls == (self._call or 0) + 1 else None  # what follows may write into it

        found: list[Tensor] = []
        handle = self._target.register_forward_hook(put)
        try:
            for image in (torch.zeros_like(x), torch.linspace(-80.0, 80.0, x[0].numel()).to(x).view(x[:1].shape).expand_as(x)):
                calls = 0
                with torch.no_grad():
                    found.append(to(image))
        finally:
            handle.remove()
        return found[0] if torch.equal(*found) else None

    @property
    def can_share(self) -> bool:
        """Say whether it can share a pass with others: not where its module is run by its forward alone."""
        return not self._direct

    def _features(self, x: Tensor) -> Tensor:
        """One pass, inside a session of this thread."""
        return self._pass([self], x)[0]

    def _pass(self, layers: Sequence[Layer], x: Tensor) -> list[Tensor]:
        """The features of several layers of this module from one pass, inside a session of each."""
        pixels = self.space.to_network(x)
        if self._channels_last:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        if pixels.data_ptr() == x.data_ptr():  # the module may write into its input; the caller's x is not its to write
            pixels = pixels.clone()
        left = [len(layers)]
        for layer in layers:
            layer._seen, layer._kept, layer._left, layer._running = 0, None, left, threading.get_ident()
        try:
            with inside(self, canonical=False), nullcontext() if self._draws.none else self._draws.same(x.device):
                self.module(pixels)
        except (Reached, ReachedInHooks):
            pass
        except Exception:
            if left[0]:  # otherwise a module has swallowed the signal, and went on with what it cannot use
                raise
        finally:
            for layer in layers:
                layer._running = None
        return [layer._arranged(x) for layer in layers]

    def _arranged(self, x: Tensor) -> Tensor:
        """What was kept of the pass, in order."""
        kept = self._take()
        if kept is None:
            raise InputError(f"Layer {self.name!r} was called {self._seen} time(s) in this pass; call {self._call} never came.")
        features = differentiable(self._batch.arrange(kept, len(x), self.name), x, f"Layer {self.name!r}")
        return features if self._part is None else self._part(features, *x.shape[-2:])

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
        Another thread waits until the session has ended.
        """
        first = self._owner != threading.get_ident()
        with ExitStack() as stack:
            if first:
                stack.enter_context(evaluating(self.module))
                stack.callback(setattr, self, "_owner", None)
                self._owner, self._draws, self._signal = threading.get_ident(), Draws(), signal_for(self.module)
            if first or device is not None or dtype is not None:
                stack.enter_context(on_device(self.module, device, dtype))
            if channels_last:
                stack.enter_context(channels_last_kernels(self.module, self.skipped))
                stack.callback(setattr, self, "_channels_last", self._channels_last)
                self._channels_last = True
            if first:
                stack.enter_context(noted(self._target, self._keep, self._direct))
                if self.leak:
                    stack.enter_context(Leaky(self.leak))
            yield

    def opened(self, slope: float, pool_share: float = 0.0) -> AbstractContextManager[None]:
        """Let the gradient pass ReLUs below zero with this slope for a while; the values stay those of the network.

        pool_share: the part of the gradient at a window of max pooling that all its places get evenly.
        """
        return Leaky(slope, opened=True, pool_share=pool_share)

    def _keep(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._running != threading.get_ident():  # somebody else runs the module while a session is open
            return
        if self._seen == self._call:
            kept = _pick(output, self._key, self.name)
            self._left[0] -= 1
            goes_on = self._signal is ReachedInHooks or self._left[0] > 0
            self._kept = kept.clone() if goes_on else kept  # a module that goes on may write into it
            self._seen += 1
            if self._left[0] > 0:
                return
            raise self._signal
        self._seen += 1

    def _take(self) -> Tensor | None:
        kept, self._kept = self._kept, None
        return kept

    def _examine(self, dotted: str) -> tuple[LayerInfo, tuple[str, ...], Batch]:
        """Choose the call, check the output, and see what the layer is and what it does not need."""
        order, error = watch(self.module, self.space, self.leak, of=dotted)
        runs = [i for i, run in enumerate(order) if run.name == dotted]
        if not runs and error is None:
            self._direct = True
            order, error = watch(self.module, self.space, self.leak, direct=dotted, of=dotted)
            runs = [i for i, run in enumerate(order) if run.name == dotted]
        if not runs:
            raise (
                in_words(error)
                if error
                else InputError(f"Module {dotted!r} exists but does not run in the forward pass, so it has no output.")
            )
        call = len(runs) - 1 if self._call is None else self._call
        if not -len(runs) <= call < len(runs):
            raise InputError(f"Layer {dotted!r} runs {len(runs)} time(s) in a pass; call {call} is not one of 0..{len(runs) - 1}.")
        self._call = call % len(runs)
        end = runs[self._call]
        outputs = order[end].outputs
        try:
            self._key = find_key(self._key, outputs) if self._key is not None else None if None in outputs else only_key(outputs)
        except KeyError:
            if self._key is None:
                raise InputError(choice_of(outputs, self.name.partition(":")[0])) from None
            raise InputError(f"Layer {self.name!r} has no output {self._key!r}. It gives: {listed(outputs)}.") from None
        if not outputs[self._key].dtype.is_floating_point:
            raise InputError(
                f"Layer {self.name!r} gives {outputs[self._key].dtype}, and an image is found by derivatives of real numbers: choose the "
                "layer before it, or make real numbers of it with preimage.from_callable."
            )
        if error is None and outputs[self._key].doubtful:
            find_batches(order, self.module, self.space, self.leak, dotted if self._direct else None)
        batch = outputs[self._key].batch
        if batch is None:
            raise InputError(
                f"Layer {self.name!r} gives a tensor of shape {outputs[self._key].shape} whether it is shown one image or two: no "
                "dimension of it runs along the images, so there are no features of each. Choose another layer."
            )
        ran = {run.name for run in order[: end + 1]}
        leaves = [n for n, m in self.module.named_modules() if n and not any(m.children())]
        inside = f"{dotted}." if dotted else ""
        skipped = tuple(n for n in leaves if n not in ran and not n.startswith(inside or "\0"))
        return order[end].info(self._key, self.name), skipped, batch

    def _put_in_order(self) -> None:
        """See whether the windows of an image lie together or one of each image after another. Raises InputError if neither."""
        assert self.space.size is not None
        first = next((t for t in self.module.parameters() if t.is_floating_point()), torch.zeros(0, dtype=torch.float32, device="cpu"))
        noise = torch.randn(2, self.space.count, *self.space.size, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
        x = 40.0 * noise.to(device=first.device, dtype=first.dtype)
        with torch.no_grad(), plain_torch():
            alone = self(x[1:])[0]
            for interleaved in (False, True):
                self._batch = replace(self._batch, interleaved=interleaved)
                if torch.allclose(self(x)[1], alone, rtol=1e-2, atol=1e-3 * float(alone.abs().max())):
                    return
        raise InputError(
            f"Layer {self.name!r} gives {self._batch.each} samples an image, and which are whose cannot be told. Choose another layer."
        )


def _pick(output: Any, key: Any, name: str) -> Tensor:
    choices = tensors_in(output)
    if key in choices:
        return choices[key]
    try:
        return choices[only_key(choices)]
    except KeyError:
        outputs = {k: Output(tuple(t.shape), t.dtype, None, Batch()) for k, t in choices.items()}
        raise InputError(choice_of(outputs, name)) from None


def _part_of(info: LayerInfo, which: str, space: PixelSpace, module: nn.Module, dotted: str) -> tuple[LayerInfo, Part]:
    """What a part of a layer is, and the function that takes it."""
    assert space.size is not None
    part = find_part(which, info.name, info.shape, info.field, space.size, module, dotted)
    shape = tuple(part(torch.zeros(1, *info.shape), *space.size).shape[1:])
    if info.field is None or which != "grid":
        return replace(info, shape=shape, receptive_field=None, field=None), part
    layout: Layout = [[(1, None)], [(shape[0], None)], [(shape[1], 0)], [(shape[2], 1)]]
    stride = max(part.rows, part.cols)
    jitter = paper_jitter(float(stride))
    return replace(info, shape=shape, stride=plain_number(stride), jitter=jitter, field=replace(info.field, layout=layout)), part
