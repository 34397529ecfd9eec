"""One streaming pass over a set of images that collects the statistics of all layers; a killed one goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .. import __version__
from ..bars import progress_bar
from ..errors import ImageError, InputError
from ..networks.network import Network, weights_hash
from ..pixels.images import find_pictures
from ..pixels.pixelspace import Fit, PixelSpace
from ..ranges import checked
from ..representations.sessions import evaluating, placed
from ..solvers.compute import usable_device
from .checkpoint import Checkpoint, State
from .layer import LayerStatistics
from .statistics import Statistics
from .taps import Tap, choose_taps, run_tapped

TOP = 9
BATCH = 16  # get_neuron_stats.m

PathLike = str | os.PathLike[str]


def collect_statistics(
    network: Network | nn.Module,
    images: PathLike | Sequence[PathLike],
    path: PathLike | None = None,
    *,
    layers: Sequence[str] | None = None,
    space: PixelSpace | None = None,
    top: int = TOP,
    fit: Fit | None = None,
    batch: int = BATCH,
    workers: int = 0,
    device: str | torch.device | None = None,
    checkpoint: float = 60.0,
    overwrite: bool = False,
    progress: bool = True,
) -> Statistics:
    """Per channel of every layer: largest, least, mean, std, quantiles, and the `top` images that excite it most (get_neuron_stats.m).

    network: a `Network`, or any module together with its `space`. images: files and folders (searched to any depth, in the order of
    their names). layers: some of the network's layers, by name; None is all of them. Every batch is run once, whatever their number.
    path: a file for the result. The pass then writes its state beside it every `checkpoint` seconds, and the same call goes on from
    there after it was ended; the finished file is returned at once. overwrite: begin anew instead, and replace the file.
    fit="squash" resizes without keeping the aspect ratio, as the paper did. workers: processes that read images ahead.

    An image that cannot be read is left out and listed in `Statistics.skipped`. The batch size changes the result by rounding only.
    The original ran over every 1000th training image of ImageNet. Its mean is one over batches and its std a nested one over batches,
    with a counter that runs on from one network to the next; here both are those of all values. Its max, which Z needs, is the same.
    Raises InputError for what it cannot use, and for a file or an unfinished pass of other weights, images or settings.
    """
    module, space = _parts(network, space)
    for name, value, told in (
        ("top", top, "top"),
        ("batch", batch, "batch"),
        ("readers", workers, "workers"),
        ("seconds", checkpoint, "checkpoint"),
    ):
        checked(name, value, told)
    files = find_pictures(images, deep=True)
    if not files:
        raise InputError("There is no image. Give files or folders.")
    device = usable_device(device) if device is not None else next((t.device for t in module.parameters()), torch.device("cpu"))
    with ExitStack() as stack:
        stack.enter_context(evaluating(module))
        stack.enter_context(placed(module, device, None))
        stack.enter_context(torch.no_grad())
        like = _like(module, device)
        taps = choose_taps(network, module, space, like, layers, min(batch, 2))
        about = _about(network, module, space, fit, top, taps, files)
        kept = None if path is None else Checkpoint(Path(path), about, checkpoint)
        if kept is not None and not overwrite and (finished := kept.finished()) is not None:
            return finished
        state = None if kept is None or overwrite else kept.unfinished()
        state = state or State({t.name: LayerStatistics.none(t.name, t.dotted, t.shape, top) for t in taps}, [], [], 0)
        home = torch.device("cpu") if device.type == "mps" else device  # which has no float64
        state.layers = {name: s.to(home) for name, s in state.layers.items()}
        for read in _batches(files[state.done :], space, fit, batch, workers, progress, len(files)):
            _count(module, space, taps, state, read, like)
            if kept is not None:
                kept.keep(state)
    result = Statistics({n: s.to("cpu") for n, s in state.layers.items()}, state.images, state.skipped, about)
    if not state.images:
        raise InputError(f"None of the {len(files)} images could be read; the first: {state.skipped[0][1]}")
    if kept is not None:
        kept.finish(result)
    return result


def _count(
    module: nn.Module,
    space: PixelSpace,
    taps: Sequence[Tap],
    state: State,
    read: Sequence[tuple[str, Tensor | str]],
    like: Tensor,
) -> None:
    """One batch: (path, canonical image or why there is none)."""
    good = [(path, x) for path, x in read if isinstance(x, Tensor)]
    if good:
        numbers = torch.arange(len(state.images), len(state.images) + len(good))
        x = torch.cat([x for _, x in good]).to(like)

        def take(tap: Tap, features: Tensor) -> None:
            state.layers[tap.name].add(features.cpu() if features.device.type == "mps" else features, numbers)

        run_tapped(module, space, x, taps, take)
    state.images += [path for path, _ in good]
    state.skipped += [(path, x) for path, x in read if isinstance(x, str)]
    state.done += len(read)


def _like(module: nn.Module, device: torch.device) -> Tensor:
    """Gives the type and the device of the module's input."""
    dtype = next((t.dtype for t in [*module.parameters(), *module.buffers()] if t.is_floating_point()), torch.float32)
    return torch.empty(0, dtype=dtype, device=device)


def _parts(network: Network | nn.Module, space: PixelSpace | None) -> tuple[nn.Module, PixelSpace]:
    if isinstance(network, Network):
        return network.module, space or network.space
    if not isinstance(network, nn.Module):
        raise InputError(f"Statistics are of a network (preimage.load_network) or a module with its space; got {type(network).__name__}.")
    if space is None or space.size is None:
        raise InputError("The statistics of a module need its pixels: space=preimage.PixelSpace(size=(H, W), …).")
    return network, space


def _about(
    network: Network | nn.Module,
    module: nn.Module,
    space: PixelSpace,
    fit: Fit | None,
    top: int,
    taps: Sequence[Tap],
    files: Sequence[Path],
) -> dict[str, Any]:
    """What the statistics are of. Files are told apart by their names and sizes: to read them all would take as long as the pass."""
    named = [[str(f), f.stat().st_size] for f in files]
    return {
        "network": network.card.name if isinstance(network, Network) else type(module).__name__,
        "weights": network.weights if isinstance(network, Network) else None,
        "weights_sha256": weights_hash(module),
        "space": space.to_dict(),
        "fit": fit or space.fit,
        "top": top,
        "files": len(files),
        "files_sha256": hashlib.sha256(json.dumps(named).encode()).hexdigest(),
        "layers": [t.name for t in taps],
        "preimage": __version__,
    }


class _Pictures(Dataset[tuple[str, "Tensor | str"]]):
    """(path, canonical image (1, C, H, W), or why there is none)."""

    def __init__(self, files: Sequence[Path], space: PixelSpace, fit: Fit | None) -> None:
        self.files, self.space, self.fit = files, space, fit

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, k: int) -> tuple[str, Tensor | str]:
        try:
            return str(self.files[k]), self.space.encode(self.files[k], fit=self.fit)
        except (ImageError, OSError) as error:
            return str(self.files[k]), str(error)


def _batches(
    files: Sequence[Path], space: PixelSpace, fit: Fit | None, batch: int, workers: int, progress: bool, total: int
) -> Iterator[list[tuple[str, Tensor | str]]]:
    """The files that are left, read in their order, with a bar that counts all of them."""

    own = torch.Generator()  # a DataLoader draws a seed for its workers; the caller's generator is left alone
    loader = DataLoader(_Pictures(files, space, fit), batch, num_workers=workers, collate_fn=list, generator=own)
    skipped = 0
    with progress_bar(total=total, initial=total - len(files), desc="statistics", unit="image", shown=progress) as bar:
        for read in loader if files else ():
            yield read
            skipped += sum(isinstance(x, str) for _, x in read)
            if skipped:
                bar.set_postfix_str(f"{skipped} skipped", refresh=False)
            bar.update(len(read))
