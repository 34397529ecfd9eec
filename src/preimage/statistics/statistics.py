"""Neuron statistics: how large each channel's answers to many images are, which images excite it most, and the file that keeps them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import InputError
from ..pixels.images import atomic_write
from ..registry import unknown
from .accumulators import channel_axis
from .examples import Examples, open_crop
from .layer import LayerStatistics
from .sample import Sample

if TYPE_CHECKING:
    import PIL.Image

_FORMAT = 1


@dataclass(frozen=True)
class Excitation:
    """One of the images that excite a channel most.

    image: its path. place: where in the map, (row, column) or (token,), or (). digest: the sha256 of the file ("" in files of earlier
    versions). box: (top, left, bottom, right) of what the place sees, in pixels of what the network was shown; None without crops.
    jpeg: the crop, as a file.
    """

    image: str
    value: float
    place: tuple[int, ...]
    digest: str = ""
    box: tuple[int, int, int, int] | None = None
    jpeg: bytes | None = field(default=None, repr=False)

    def pil(self) -> PIL.Image.Image:
        """What the unit saw, small. Raises InputError where no crops were kept."""
        if self.jpeg is None:
            raise InputError("These statistics hold no crops: collect them again with keep=Keep(crops=64), --crops 64.")
        return open_crop(self.jpeg)


@dataclass(frozen=True)
class Statistics(Mapping[str, LayerStatistics]):
    """Statistics of a network's layers over a set of images: a mapping from a layer's name to its `LayerStatistics`.

    images: paths of the images counted, in their order. skipped: (path, reason) of those that could not be read.
    about: the network, the sha256 of its weights, the pixel space, and how the images were fitted, as plain values.
    digests: the sha256 of each image's file. examples: crops of the strongest. sample: activations at random places, if asked for.
    """

    layers: Mapping[str, LayerStatistics]
    images: Sequence[str]
    skipped: Sequence[tuple[str, str]] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    digests: Sequence[str] = ()
    examples: Examples | None = field(default=None, repr=False)
    sample: Sample | None = field(default=None, repr=False)

    def __getitem__(self, name: str) -> LayerStatistics:
        """By the network's name of the layer or the module's dotted one. Raises UnknownName with the nearest names."""
        if name in self.layers:
            return self.layers[name]
        # a module that runs several times is listed as name#0, name#1; its plain name is its last run, as for a Layer
        found = [s for s in self.layers.values() if name in (s.dotted, s.name.partition("#")[0], s.dotted.partition("#")[0])]
        if not found:
            raise unknown("layer in these statistics", name, list(self.layers), "preimage statistics NET IMAGES… -o FILE (all layers)")
        return found[-1]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        lost = f", {len(self.skipped)} skipped" if self.skipped else ""
        return f"Statistics({self.about.get('network')}: {len(self)} layers, {len(self.images)} images{lost})"

    def top(self, layer: str, channel: int) -> list[Excitation]:
        """The images that excite a channel most, best first; fewer than were asked for if there are fewer images."""
        of = self[layer]
        if not 0 <= channel < of.channels:
            raise InputError(f"There is no channel {channel} in {of.name}: it has {of.channels}, from 0.")
        best = of.strongest()
        grid = of.shape[1:] if channel_axis(of.shape) == 0 else of.shape[:1]
        rows = zip(best.values[channel].tolist(), best.images[channel].tolist(), best.places[channel].tolist(), strict=True)
        return [self._excitation(of.name, v, i, p, grid) for v, i, p in rows if i >= 0]

    def _excitation(self, layer: str, value: float, image: int, place: int, grid: tuple[int, ...]) -> Excitation:
        where = tuple(int(n) for n in np.unravel_index(place, grid)) if grid else ()
        digest = self.digests[image] if self.digests else ""
        if self.examples is None:
            return Excitation(self.images[image], value, where, digest)
        box = self.examples.grids[layer].box(place, self.examples.size)
        return Excitation(self.images[image], value, where, digest, box, self.examples.crop(layer, image, place))

    def merge(self, other: Statistics) -> Statistics:
        """Of both sets of images, as if they had been one. Raises InputError unless network, weights, pixels and layers are the same."""
        for key in ("weights_sha256", "space", "fit", "top", "crops", "sample", "places", "seed"):
            if self.about.get(key) != other.about.get(key):
                raise InputError(f"Statistics with different {key} cannot be merged: {self.about.get(key)} and {other.about.get(key)}.")
        if list(self) != list(other):
            raise InputError("Statistics of different layers cannot be merged: collect both with the same --layers.")
        layers = {name: self[name].merge(other[name], len(self.images)) for name in self}
        examples = self.examples.merge(other.examples, len(self.images)) if self.examples and other.examples else None
        if examples is not None:
            examples.forget({name: s.strongest() for name, s in layers.items()}, now=True)
        sample = self.sample.merge(other.sample, len(self.images)) if self.sample and other.sample else None
        lists = [*self.images, *other.images], [*self.skipped, *other.skipped], self.about, [*self.digests, *other.digests]
        return Statistics(layers, *lists, examples, sample)

    def check(self, weights_sha256: str, space: Mapping[str, Any]) -> None:
        """Raises InputError unless these statistics are of a network with these weights and this pixel space (its size aside)."""
        if self.about["weights_sha256"] != weights_sha256:
            raise InputError(
                f"These statistics are of {self.about['network']} with weights {self.about['weights_sha256'][:12]}…, and this network's "
                f"weights are {weights_sha256[:12]}…: collect them again with this network."
            )
        mine, theirs = ({k: v for k, v in _plain(s).items() if k not in ("size", "fit")} for s in (self.about["space"], space))
        if mine != theirs:
            raise InputError(f"These statistics were collected with other pixels, {mine}, than this network takes, {theirs}.")

    def save(self, path: str | os.PathLike[str]) -> None:
        """One safetensors file, written whole or not at all."""
        save_record(path, self, {})


def load_statistics(path: str | os.PathLike[str]) -> Statistics:
    """Read what `Statistics.save` or `preimage statistics` wrote. Raises InputError if the file holds something else."""
    statistics, progress = load_record(path)
    if progress:
        raise InputError(f"{str(path)!r} is an unfinished collection: give the command that began it once more.")
    return statistics


def save_record(path: str | os.PathLike[str], statistics: Statistics, progress: Mapping[str, Any]) -> None:
    """The file; `progress` is what an unfinished collection needs to go on, empty for a finished one."""
    from safetensors.torch import save

    layers = [{"name": s.name, "dotted": s.dotted, "shape": s.shape, "count": s.count} for s in statistics.values()]
    record = {"version": _FORMAT, "layers": layers, "about": dict(statistics.about), "progress": dict(progress)}
    tensors = {k: t for s in statistics.values() for k, t in s.tensors().items()}
    # the lists can be long and a safetensors header is limited, so they are bytes among the tensors
    for part in (statistics.examples, statistics.sample):
        tensors |= part.tensors() if part is not None else {}
    lists = {"images": list(statistics.images), "skipped": [list(s) for s in statistics.skipped], "digests": list(statistics.digests)}
    for name, value in lists.items():
        tensors[name] = torch.from_numpy(np.frombuffer(json.dumps(value).encode(), np.uint8).copy())
    with atomic_write(path) as file:
        file.write(save(tensors, metadata={"preimage-statistics": json.dumps(record)}))


def load_record(path: str | os.PathLike[str]) -> tuple[Statistics, dict[str, Any]]:
    """What `save_record` wrote. Raises InputError if the file holds something else."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})["preimage-statistics"])
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        if record["version"] != _FORMAT:
            raise InputError(f"version {record['version']}, and this preimage reads version {_FORMAT}.")
        images, skipped = (json.loads(found[name].numpy().tobytes()) for name in ("images", "skipped"))
        layers = {
            of["name"]: LayerStatistics.from_tensors(of["name"], of["dotted"], tuple(of["shape"]), int(of["count"]), found)
            for of in record["layers"]
        }
        digests = json.loads(found["digests"].numpy().tobytes()) if "digests" in found else []
        if len(digests) not in (0, len(images)) or not all(isinstance(d, str) for d in digests):
            raise InputError("its digests are not those of its images.")
        if not all(isinstance(i, str) for i in images) or not {"network", "weights_sha256", "space"} <= set(record["about"]):
            raise InputError("its record is not complete.")
        if any(s.strongest().images.numel() and int(s.strongest().images.max()) >= len(images) for s in layers.values()):
            raise InputError("an image is named that is not in its list.")
        examples, sample = _parts(record["about"], layers, found, len(images))
        lists = images, [(str(p), str(r)) for p, r in skipped], record["about"], digests
        return Statistics(layers, *lists, examples, sample), record["progress"]
    except InputError as error:
        raise InputError(f"{str(path)!r} holds no usable statistics: {error}") from error
    except (OSError, KeyError, TypeError, ValueError, IndexError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{str(path)!r} holds no statistics ({error}). Make them: preimage statistics NET IMAGES… -o FILE") from error


def _parts(
    about: Mapping[str, Any], layers: Mapping[str, LayerStatistics], found: Mapping[str, Any], images: int
) -> tuple[Examples | None, Sample | None]:
    """The crops and the sample, where the file has them."""
    examples = Examples.from_tensors(about["crops"], about["space"]["size"], found, images) if "crops" in found else None
    if examples is not None and not set(layers) <= set(examples.grids):
        raise InputError("its crops are of other layers.")
    sample = Sample.from_tensors(about, {n: s.channels for n, s in layers.items()}, found, images) if "sample-drawn" in found else None
    return examples, sample


def _plain(values: Mapping[str, Any]) -> Any:
    """As JSON gives it back: tuples are lists."""
    return json.loads(json.dumps(dict(values)))
