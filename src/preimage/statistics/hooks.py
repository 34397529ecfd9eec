"""Hooks on many layers: their outputs, taken in one forward pass."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from ..errors import InputError
from ..networks.network import Network
from ..pixels.pixelspace import PixelSpace
from ..registry import unknown
from ..representations.listing import LayerInfo, layers
from ..representations.outputs import find_key, parse_name, tensors_in
from ..representations.receptive_field import Field
from ..representations.sessions import Reached, ReachedInHooks, signal_for


@dataclass(frozen=True)
class HookedOutput:
    """Which output of which run of which module; the shape of one image's, and what its places see."""

    name: str
    dotted: str
    module: str
    key: int | str | None
    call: int
    shape: tuple[int, ...]
    field: Field | None = None


def choose_outputs(
    network: Network | nn.Module, module: nn.Module, space: PixelSpace, like: Tensor, names: Sequence[str] | None, images: int
) -> list[HookedOutput]:
    """Return the outputs to put hooks on: those named, or all that are real numbers for each image. `images` are tried together."""
    infos, known = layers(module, space), dict(module.named_modules())
    own = {dotted: name for name, dotted in network.card.names.items()} if isinstance(network, Network) else {}
    if names is None:
        wanted = [i for i in infos if i.name in own] if own else infos
    else:
        wanted = list({i.name: i for i in (_named(name, infos, own, known) for name in names)}.values())
    hooked = []
    for info in wanted:
        dotted, key, call, *_ = parse_name(info.name, known)
        hooked.append(HookedOutput(own.get(info.name, info.name), info.name, dotted, key, call or 0, info.shape, info.field))
    usable: dict[str, tuple[int, ...]] = {}

    def note_shape(output: HookedOutput, features: Tensor) -> None:
        if features.is_floating_point() and features.ndim and len(features) == images:
            usable[output.name] = tuple(features.shape[1:])

    assert space.size is not None
    run_hooked(module, space, like.new_zeros(images, space.count, *space.size), hooked, note_shape)
    bad = [o.name for o in hooked if o.name not in usable]
    if bad and names is not None:
        raise InputError(f"{', '.join(bad)}: the output is not one set of real numbers for each image, so it has no statistics.")
    return [replace(o, shape=usable[o.name]) for o in hooked if o.name in usable]


def _named(name: str, infos: Sequence[LayerInfo], own: Mapping[str, str], known: Collection[str]) -> LayerInfo:
    """The output that `Layer` would take for this name: the last run, the only tensor."""
    titles = {title: d for d, title in own.items()}
    dotted, key, call, *_ = parse_name(name, {*known, *titles})
    dotted = titles.get(dotted, dotted)
    parts = [(i, parse_name(i.name, known)) for i in infos]
    found = [(i, p) for i, p in parts if p[0] == dotted and call in (None, p[2] or 0) and (key is None or str(key) == str(p[1]))]
    found = [(i, p) for i, p in found if "][" not in str(p[1])] or found  # inside other containers only where nothing else is
    if not found:
        raise unknown("layer", name, [*own.values(), *(i.name for i in infos)], "preimage layers NET --all")
    if len(keys := {p[1] for _, p in found}) > 1:
        raise InputError(f"Layer {name!r} gives several tensors. Choose one: {', '.join(f'{name}[{k}]' for k in sorted(map(str, keys)))}.")
    return found[-1][0]


def run_hooked(
    module: nn.Module, space: PixelSpace, x: Tensor, hooked: Sequence[HookedOutput], take: Callable[[HookedOutput, Tensor], None]
) -> None:
    """One forward pass, which ends at the last of the outputs; each is handed over before an in-place operation can change it."""
    waiting: dict[str, list[HookedOutput]] = {}
    for output in hooked:
        waiting.setdefault(output.module, []).append(output)
    left, modules, me, signal = len(hooked), dict(module.named_modules()), threading.get_ident(), signal_for(module)

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        calls = -1

        def note(m: nn.Module, args: Any, output: Any) -> None:
            nonlocal calls, left
            if threading.get_ident() != me:  # somebody else runs the module meanwhile
                return
            calls += 1
            for wanted in waiting[name]:
                if wanted.call == calls:
                    choices = tensors_in(output)
                    take(wanted, choices[find_key(wanted.key, choices)])
                    left -= 1
            if left == 0:
                raise signal

        return note

    with ExitStack() as stack, suppress(Reached, ReachedInHooks):
        for name in waiting:
            stack.callback(modules[name].register_forward_hook(hook(name)).remove)
        module(space.to_network(x).clone())
