"""FILE.pt2 and FILE.ts: programs of torch.export and TorchScript, whose layers are the nodes of their graphs.

Both kinds of file can do anything when they are opened or run (an export holds Python expressions, TorchScript can write files),
so they are opened on trust only. A program has no modules to hook: each value of its graph is passed through an `nn.Identity`
that carries its name, and `Layer` finds that. TorchScript is turned into an export first, on one image of the network's size.
"""

from __future__ import annotations

import logging
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..errors import InputError, first_line
from ..pixels.pixelspace import PixelSpace
from .network import SOURCES, NetworkCard, Source

_INPUT, _WEIGHTS = "_input", "_weights"  # modules of our own beside those that carry the program's names
_SCRIPTED = (".ts", ".torchscript", ".pt", ".pth")
_TRAINING = {"aten.batch_norm.default": 5, "aten.dropout.default": 2, "aten.dropout_.default": 2}  # the place of their flag


def open_exported(name: str) -> NetworkCard:
    """The card of a torch.export program that takes one batch of images, of the batch and size that it was exported for.

    Its layers are the modules that it was exported from (`layer1.0`) and all nodes of its graph (`relu__3`).
    Raises InputError for what is no such program, and for one exported in training mode.
    """
    try:
        program = torch.export.load(name)
    except Exception as error:
        raise InputError(f"{name!r} is no program of torch.export, or damaged ({first_line(error)}).") from error
    module = with_identities(program, name)
    shape: Any = module.get_submodule(_INPUT).shape
    size = shape[2:] if all(isinstance(n, int) for n in shape[2:]) else None
    return NetworkCard(name, None, lambda: module, whole=True, size=size, source="torch.export")


def open_scripted(name: str) -> NetworkCard:
    """The card of a TorchScript program, traced or scripted; its layers are the nodes of its graph (`conv2d_2`).

    Raises InputError for a checkpoint (that is given as weights), and when it is loaded for what torch.export cannot take over.
    """
    if not is_scripted(name):
        raise InputError(
            f"{name!r} is no TorchScript program. Weights alone are no network: give the network's name, and this file as its weights "
            "(load_network(NAME, weights=FILE), --net NAME --weights FILE)."
        )
    return NetworkCard(name, None, nn.Identity, whole=True, made_for=partial(_turned, name), source="TorchScript")


def is_scripted(name: str) -> bool:
    """Whether the file holds TorchScript code; nothing of it is run. Raises InputError if it is not there."""
    if not Path(name).is_file():
        raise InputError(f"There is no file {name!r}.")
    if not zipfile.is_zipfile(name):
        return False
    with zipfile.ZipFile(name) as archive:
        return any("/code/" in member for member in archive.namelist())


def with_identities(program: torch.export.ExportedProgram, name: str) -> nn.Module:
    """A module that runs the program and has an `nn.Identity` behind every tensor of its graph, named as the node is, and one
    behind the output of every module that it was exported from, under that module's dotted name.

    Raises InputError if it takes anything but one batch of images or is in training mode.
    """
    source: Any = program.module()
    given = [n for n in source.graph.nodes if n.op == "placeholder"]
    shapes = [tuple(n.meta["val"].shape) for n in given if isinstance(n.meta.get("val"), Tensor)]
    if len(given) != 1 or len(shapes) != 1 or len(shapes[0]) != 4:
        raise InputError(f"{name!r} takes inputs of shapes {shapes}; wanted one batch of images, (B, C, H, W).")
    outputs = [(node, dotted) for node, dotted in _module_outputs(source.graph) if dotted.partition(".")[0] not in (_INPUT, _WEIGHTS)]
    taken = {dotted.partition(".")[0] for _, dotted in outputs}
    root = nn.Module()
    root.add_module(_WEIGHTS, source)
    root.add_module(_INPUT, _Takes(name, shapes[0]))
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in source.graph.nodes:
        if str(node.target) in ("_guards_fn", "aten._assert_tensor_metadata.default"):
            continue  # checks of the input, which `_Takes` makes, and of device and type, which may change
        _check_mode(node, name)
        copies[node] = graph.node_copy(node, copies.__getitem__)
        if node.op == "get_attr":
            copies[node].target = f"{_WEIGHTS}.{node.target}"
        elif node.op == "placeholder":
            copies[node] = graph.call_module(_INPUT, (copies[node],))
        elif node.op == "call_function" and isinstance(node.meta.get("val"), Tensor):
            own = f"{node.name}_node" if node.name in taken else node.name
            for identity in [own, *[dotted for output, dotted in outputs if output is node]]:
                _add(root, identity)
                copies[node] = graph.call_module(identity, (copies[node],))
    return fx.GraphModule(root, graph)


def _turned(name: str, space: PixelSpace) -> nn.Module:
    """The TorchScript program as an export for one image of these pixels."""
    from torch._export.converter import TS2EPConverter  # torch has no public way from one to the other

    with _quiet():
        try:
            script = torch.jit.load(name, map_location="cpu").eval()  # type: ignore[no-untyped-call]
            program = TS2EPConverter(script, (torch.zeros(1, space.count, *(space.size or ())),)).convert()
        except Exception as error:
            raise InputError(
                f"torch.export cannot take over the TorchScript program {name!r} ({type(error).__name__}: {first_line(error)}). "
                "Where you have its source, use that: package.module:function, or torch.export.save."
            ) from error
        return with_identities(program, name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's remarks that TorchScript is deprecated, buffers are unused, and the export is for a batch of one."""
    logger = logging.getLogger("torch._export.non_strict_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _module_outputs(graph: fx.Graph) -> list[tuple[fx.Node, str]]:
    """Where each module of the original ends: the one tensor of it that is used outside of it; of several calls, the last."""
    inside: dict[str, list[fx.Node]] = {}
    dotted: dict[str, str] = {}
    for node in graph.nodes:
        for key, (path, _) in (node.meta.get("nn_module_stack") or {}).items():
            if path:
                inside.setdefault(key, []).append(node)
                dotted[key] = path.partition("@")[0]
    found: dict[str, fx.Node] = {}
    for key, nodes in inside.items():
        within = set(nodes)
        ends = [n for n in nodes if n.op == "call_function" and isinstance(n.meta.get("val"), Tensor) and not set(n.users) <= within]
        if len(ends) == 1:
            found[dotted[key]] = ends[0]
        else:
            found.pop(dotted[key], None)
    return [(node, path) for path, node in sorted(found.items(), key=lambda item: -item[0].count("."))]


def _check_mode(node: fx.Node, name: str) -> None:
    place = _TRAINING.get(str(node.target))
    if place is not None and len(node.args) > place and node.args[place] is True:
        raise InputError(f"{name!r} was exported in training mode (its node {node.name}): export the model after model.eval().")


def _add(root: nn.Module, dotted: str) -> None:
    """An identity under this name. Those on the way to it are identities too, which may have values of their own."""
    module = root
    for part in dotted.split("."):
        if part not in module._modules:
            module.add_module(part, nn.Identity())
        module = module.get_submodule(part)


class _Takes(nn.Module):
    """Lets images through that are of the shape that a program was made for."""

    def __init__(self, name: str, shape: tuple[Any, ...]) -> None:
        super().__init__()
        self.name, self.shape = name, shape

    def forward(self, x: Tensor) -> Tensor:
        if any(isinstance(want, int) and want != got for want, got in zip(self.shape, x.shape, strict=True)):
            shape = " x ".join(str(n) if isinstance(n, int) else "any" for n in self.shape)
            raise InputError(
                f"{self.name!r} was exported for images (batch x channels x height x width) of {shape}; got "
                f"{' x '.join(map(str, x.shape))}. Export it again with dynamic_shapes where these should be free."
            )
        return x


SOURCES.register("torch.export")(
    Source(
        form="FILE.pt2",
        matches=lambda name: name.lower().endswith(".pt2"),
        open=open_exported,
        about="a program of torch.export; a program can do anything: --trust; it does not say which pixels it takes: --space",
        program=lambda name: True,
    )
)
SOURCES.register("torchscript")(
    Source(
        form="FILE.ts",
        matches=lambda name: name.lower().endswith(_SCRIPTED),
        open=open_scripted,
        about="a TorchScript program (.ts, .torchscript, .pt): --trust and --space, as above",
        program=is_scripted,
    )
)
