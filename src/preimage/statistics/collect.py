"""One streaming pass over a set of images that collects the statistics of all layers; a killed one goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .. import __version__
from ..bars import progress_bar
from ..errors import ImageError, InputError
from ..networks.network import Network, weights_hash
from ..pixels.pixelspace import Fit, PixelSpace
from ..ranges import checked
from ..registry import only_known
from ..representations.devices import usable_device
from ..representations.sessions import evaluating, on_device
from .checkpoint import Checkpoint, State
from .examples import SIDE, Examples, Grid, as_pictures
from .hooks import HookedOutput, choose_outputs, run_hooked
from .layer import LayerStatistics
from .sample import Sample
from .sources import Picture, find
from .statistics import Statistics

if TYPE_CHECKING:
    from typing_extensions import Unpack

TOP = 9
BATCH = 16  # get_neuron_stats.m

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Keep:
    """What a pass keeps beside numbers.

    crops : int
        Longer side in pixels of what each unit saw of its strongest images, default 64; 0 keeps none. Memory and file have at most `top`
        crops a channel, whatever the number of images. Images without colours of their own, as of five channels, have none.
    sample : int
        Activations of each layer, default none: vectors over all channels.
    places : int
        Of the sample: random places of each image, default 4, the same in every layer.
    seed : int
        Of the sample.
    """

    crops: int = SIDE
    sample: int = 0
    places: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        for name, told in (("crop", "crops"), ("sample", "sample"), ("batch", "places"), ("seed", "seed")):
            checked(name, getattr(self, told), told)

    def plain(self, top: int, space: PixelSpace) -> dict[str, int]:
        """For the record, with what has no effect at 0."""
        crops = self.crops if top and space.count in (1, 3) else 0
        places, seed = (self.places, self.seed) if self.sample else (0, 0)
        return {"top": top, "crops": crops, "sample": self.sample, "places": places, "seed": seed}


class ReadingArguments(TypedDict, total=False):
    """How images are read: their shape, how many at once, and by how many processes."""

    fit: Fit | None
    batch: int
    workers: int


def collect_statistics(
    network: Network | nn.Module,
    images: Any,
    path: PathLike | None = None,
    *,
    layers: Sequence[str] | None = None,
    space: PixelSpace | None = None,
    top: int = TOP,
    keep: Keep = Keep(),
    device: str | torch.device | None = None,
    checkpoint: float = 60.0,
    overwrite: bool = False,
    progress: bool = True,
    **reading: Unpack[ReadingArguments],
) -> Statistics:
    """Per channel of every layer: largest, least, mean, std, quantiles, and the `top` images that excite it most (get_neuron_stats.m).

    An image that cannot be read is left out and listed in `Statistics.skipped`. The batch size changes the result by rounding only.
    The original ran over every 1000th training image of ImageNet. Its mean is one over batches and its std a nested one over batches,
    with a counter that runs on from one network to the next; here both are those of all values. Its max, which Z needs, is the same.

    Parameters
    ----------
    network : Network, or any module together with its `space`
    images : files and folders, `.txt` lists of paths, `.tar` files as WebDataset writes them, or a data set whose rows are pictures
        Folders are searched to any depth, in the order of the names in them.
    path : file for the result, optional
        The pass then writes its state beside it, and the same call goes on from there after it was ended; the finished file is returned
        at once.
    layers : names of some of the network's layers; default all of them
        Every batch is run once, whatever their number.
    space : PixelSpace
        The pixels of a module; a `Network` has its own.
    top : int, default 9
        How many images that excite a channel most are kept of each.
    keep : Keep
        What else: crops of the strongest images, which `Statistics.top` gives, and a sample of activations.
    device : where the network runs; default where its weights are
    checkpoint : seconds between two states, default 60
    overwrite : bool, default False
        Begin anew instead of going on, and replace the file.
    progress : bool, default True
        Show a bar with the time left.

    Other Parameters
    ----------------
    fit : "squash" resizes without keeping the aspect ratio, as the paper did; default the space's own
    batch : int, default 16
        Images at once.
    workers : int, default 0
        Processes that read images ahead.

    Returns
    -------
    Statistics

    Raises
    ------
    InputError
        For what it cannot use, and for a file or an unfinished pass of other weights, images or settings.
    """
    only_known(reading, ReadingArguments.__annotations__, "preimage.collect_statistics")
    fit, batch, workers = reading.get("fit"), reading.get("batch", BATCH), reading.get("workers", 0)
    module, space = _parts(network, space)
    for name, value, told in (
        ("top", top, "top"),
        ("batch", batch, "batch"),
        ("readers", workers, "workers"),
        ("seconds", checkpoint, "checkpoint"),
    ):
        checked(name, value, told)
    files = find(images)
    if not files:
        raise InputError("There is no image. Give files or folders.")
    device = usable_device(device) if device is not None else next((t.device for t in module.parameters()), torch.device("cpu"))
    with ExitStack() as stack:
        stack.enter_context(evaluating(module))
        stack.enter_context(on_device(module, device, None))
        stack.enter_context(torch.no_grad())
        like = _like(module, device)
        hooked = choose_outputs(network, module, space, like, layers, min(batch, 2))
        about = _about(network, module, space, fit, hooked, files) | keep.plain(top, space)
        kept = None if path is None else Checkpoint(Path(path), about, checkpoint)
        if kept is not None and not overwrite and (finished := kept.finished()) is not None:
            return finished
        state = None if kept is None or overwrite else kept.unfinished()
        state = state or _empty(hooked, space, about)
        home = torch.device("cpu") if device.type == "mps" else device  # which has no float64
        state.layers = {name: s.to(home) for name, s in state.layers.items()}
        for read in _batches(files[state.done :], space, fit, batch, workers, progress, len(files)):
            _count(module, space, hooked, state, read, like)
            if kept is not None:
                kept.keep(state)
    state.layers = {n: s.to("cpu") for n, s in state.layers.items()}
    result = state.statistics(about)
    if not state.images:
        raise InputError(f"None of the {len(files)} images could be read; the first: {state.skipped[0][1]}")
    if kept is not None:
        kept.finish(result)
    return result


def _count(
    module: nn.Module,
    space: PixelSpace,
    hooked: Sequence[HookedOutput],
    state: State,
    read: Sequence[_Read],
    like: Tensor,
) -> None:
    """One batch."""
    good = [(r, r.found) for r in read if isinstance(r.found, Tensor)]
    if good:
        first = len(state.images)
        numbers = torch.arange(first, first + len(good))
        x = torch.cat([x for _, x in good])
        if state.sample is not None:
            state.sample.draw([r.digest for r, _ in good], first)

        def take(output: HookedOutput, features: Tensor) -> None:
            here = features.cpu() if features.device.type == "mps" else features
            state.layers[output.name].add(here, numbers)
            if state.sample is not None:
                state.sample.take(output.name, here)

        run_hooked(module, space, x.to(like), hooked, take)
        if state.sample is not None:
            state.sample.keep()
        if state.examples is not None:
            shown = as_pictures(space.decode(x))
            strongest = {o.name: state.layers[o.name].to("cpu").strongest() for o in hooked}
            for name, best in strongest.items():
                state.examples.take(name, best, first, shown)
            state.examples.forget(strongest)
    state.images += [r.name for r, _ in good]
    state.digests += [r.digest for r, _ in good]
    state.skipped += [(r.name, r.found) for r in read if isinstance(r.found, str)]
    state.done += len(read)


def _empty(hooked: Sequence[HookedOutput], space: PixelSpace, about: Mapping[str, Any]) -> State:
    """Before the first image."""
    assert space.size is not None
    layers = {o.name: LayerStatistics.none(o.name, o.dotted, o.shape, about["top"]) for o in hooked}
    grids = {o.name: Grid.of(o.shape, o.field, space.size) for o in hooked}
    examples = Examples(about["crops"], space.size, grids) if about["crops"] else None
    sample = Sample(about["sample"], about["places"], about["seed"]) if about["sample"] else None
    return State(layers, [], [], 0, [], examples, sample)


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
    hooked: Sequence[HookedOutput],
    files: Sequence[Picture],
) -> dict[str, Any]:
    """What the statistics are of. Files are told apart by their names and sizes: to read them all would take as long as the pass."""
    named = [[f.name, f.size] for f in files]
    return {
        "network": network.card.name if isinstance(network, Network) else type(module).__name__,
        "weights": network.weights if isinstance(network, Network) else None,
        "weights_sha256": weights_hash(module),
        "space": space.to_dict(),
        "fit": fit or space.fit,
        "files": len(files),
        "files_sha256": hashlib.sha256(json.dumps(named).encode()).hexdigest(),
        "layers": [o.name for o in hooked],
        "preimage": __version__,
    }


@dataclass(frozen=True)
class _Read:
    """A picture that was read: its name, the sha256 of its file, and the canonical image (1, C, H, W) or why there is none."""

    name: str
    digest: str
    found: Tensor | str


class _Pictures(Dataset[_Read]):
    """All pictures of a pass, read one by one."""

    def __init__(self, files: Sequence[Picture], space: PixelSpace, fit: Fit | None) -> None:
        self.files, self.space, self.fit = files, space, fit

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, k: int) -> _Read:
        picture = self.files[k]
        try:
            content, digest = picture.open()
            return _Read(picture.name, digest, self.space.encode(content, fit=self.fit))
        except (ImageError, OSError) as error:
            return _Read(picture.name, "", str(error))


def _batches(
    files: Sequence[Picture], space: PixelSpace, fit: Fit | None, batch: int, workers: int, progress: bool, total: int
) -> Iterator[list[_Read]]:
    """The files that are left, read in their order, with a bar that counts all of them."""

    own = torch.Generator()  # a DataLoader draws a seed for its workers; the caller's generator is left alone
    loader = DataLoader(_Pictures(files, space, fit), batch, num_workers=workers, collate_fn=list, generator=own)
    skipped = 0
    with progress_bar(total=total, initial=total - len(files), desc="statistics", unit="image", shown=progress) as bar:
        for read in loader if files else ():
            yield read
            skipped += sum(isinstance(r.found, str) for r in read)
            if skipped:
                bar.set_postfix_str(f"{skipped} skipped", refresh=False)
            bar.update(len(read))
