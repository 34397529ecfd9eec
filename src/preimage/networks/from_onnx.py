"""FILE.onnx: a network in the ONNX format, turned into modules by onnx2torch."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..errors import InputError, first_line, missing_extra
from .executed import OUTPUT, Executed, is_quantised
from .labels import of_onnx
from .network import SOURCES, NetworkCard, Source


def open_card(name: str) -> NetworkCard:
    """The card of an ONNX file with one image input. Its layers are called by the file's own names of nodes.

    Such a file holds tensors and operations of a fixed list, no code. It does not say which pixels it takes. A quantised one is run as
    it is: it has one layer, its output, and no gradients.
    Raises InputError for what is no ONNX file or uses operations that onnx2torch lacks, MissingExtra without the libraries.
    """
    try:
        import onnx
        from onnx2torch import convert
    except ImportError as error:
        raise missing_extra(f"{name!r} needs onnx and onnx2torch ({error})", "onnx") from error
    if not Path(name).is_file():
        raise InputError(f"There is no file {name!r}.")
    try:
        model = onnx.load(name)
        onnx.checker.check_model(model)
    except Exception as error:
        raise InputError(f"{name!r} is no ONNX file, or damaged ({first_line(error)}).") from error
    size, channels, last = _input(name, model)
    if is_quantised(model):
        return _as_it_is(name, model, size, last)
    _write_constants_as_weights(model)
    _give_shared_tensors_names(model)
    try:
        module: nn.Module = convert(model)
    except Exception as error:
        raise InputError(f"onnx2torch cannot turn {name!r} into modules ({type(error).__name__}: {first_line(error)}).") from error
    nodes = [n for n, _ in module.named_children() if n != "initializers"]
    own = {n.replace("/", ".").strip("."): n for n in nodes} if any("/" in n for n in nodes) else {}
    if last:
        module, own = ChannelsLast(module), {n: f"net.{dotted}" for n, dotted in (own or dict(zip(nodes, nodes, strict=True))).items()}
    labels, source = of_onnx(model), f"ONNX, {channels or 'any number of'} channels"
    classes = (lambda: labels) if labels else None
    return NetworkCard(name, None, lambda: module, names=own, classes=classes, whole=True, size=size, source=source)


def _as_it_is(name: str, model: Any, size: tuple[int, int] | None, last: bool) -> NetworkCard:
    """The card of a quantised model: one layer, its output, and no gradients."""
    executed: nn.Module = Executed(model, name)
    module = nn.Sequential(OrderedDict([(OUTPUT, ChannelsLast(executed) if last else executed)]))
    labels = of_onnx(model)
    return NetworkCard(
        name,
        None,
        lambda: module,
        names={OUTPUT: OUTPUT},
        classes=(lambda: labels) if labels else None,
        whole=True,
        size=size,
        source="ONNX, quantised",
        gradients=False,
    )


class ChannelsLast(nn.Module):
    """A network that takes images as (B, H, W, C), as TensorFlow's do."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Any:
        return self.net(x.permute(0, 2, 3, 1))


def _input(name: str, model: Any) -> tuple[tuple[int, int] | None, int | None, bool]:
    """(height, width) if they are fixed, the number of channels if it is, and whether these come last.

    They do where the last dimension can be channels of a picture and the second cannot. Raises InputError for what takes no images.
    """
    constant = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in constant]
    dims = inputs[0].type.tensor_type.shape.dim if len(inputs) == 1 else []
    if len(dims) != 4:
        shapes = [f"{i.name} of {len(i.type.tensor_type.shape.dim)} dimensions" for i in inputs]
        raise InputError(f"{name!r} takes {', '.join(shapes) or 'nothing'}; wanted one batch of images, of 4 dimensions.")
    second, third, fourth = (int(d.dim_value) for d in dims[1:])
    last = fourth in (1, 3, 4) and second not in (1, 3, 4)
    height, width, channels = (second, third, fourth) if last else (third, fourth, second)
    return (height, width) if height and width else None, channels or None, last


def _write_constants_as_weights(model: Any) -> None:
    """Some exporters (Paddle's) write weights as Constant nodes, of which onnx2torch makes no weights."""
    for node in [n for n in model.graph.node if n.op_type == "Constant"]:
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if value is not None:
            weight = model.graph.initializer.add()
            weight.CopyFrom(value)
            weight.name = node.output[0]
            model.graph.node.remove(node)


def _give_shared_tensors_names(model: Any) -> None:
    """Exporters write equal weights once and pass them on through Identity nodes, which onnx2torch does not follow."""
    tensors = {t.name: t for t in model.graph.initializer}
    for node in [n for n in model.graph.node if n.op_type == "Identity" and n.input[0] in tensors]:
        copy = model.graph.initializer.add()
        copy.CopyFrom(tensors[node.input[0]])
        copy.name = node.output[0]
        tensors[copy.name] = copy
        model.graph.node.remove(node)


SOURCES.register("onnx")(
    Source(
        form="FILE.onnx",
        matches=lambda name: name.lower().endswith(".onnx"),
        open=open_card,
        about="an ONNX file; it does not say which pixels it takes: --space (extra: onnx)",
    )
)
