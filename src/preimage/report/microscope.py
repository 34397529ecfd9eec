"""The microscope: a page for every unit of a network, with its natural examples, its synthetic images and the units that are like it."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..bars import progress_bar
from ..errors import InputError, ResultFolderError
from ..networks.network import Network, weights_hash
from ..pixels.images import atomic_write
from ..statistics.examples import open_crop
from ..statistics.layer import LayerStatistics
from ..statistics.matching import Matches, alike_units, match_units
from ..statistics.statistics import Excitation, Statistics
from ..statistics.wiring import Wiring, find_wiring
from .archive import Archive, inside
from .page import script_json, write_html

TILE = 64  # pixels of an example on a sheet
UNITS = 16  # rows of a sheet: a screen of one layer touches a few files
BINS = 32  # of a unit's histogram
ALIKE = 6  # units that are like one, of its layer
FOR, AGAINST = 8, 4  # units of the layer before that speak for one and against it
_LEAST_WEIGHT = 1e-4  # of all of a unit's weights together; below that a unit before it says nothing


def write_microscope(
    stats: Statistics,
    path: Path,
    *,
    network: Network | None = None,
    store: Archive | None = None,
    beside: Statistics | None = None,
    layers: Sequence[str] | None = None,
    classes: Sequence[str] = (),
    progress: bool = False,
) -> Path:
    """Write the page of every unit in statistics that hold crops, and return its path; it opens from disk with no network.

    Parameters
    ----------
    stats : Statistics
        With crops; with a sample of at least 30 activations the page also says which units of a layer are alike.
    path : path
        Of the page. NAME_files beside NAME.html has the examples, and belongs to it.
    network : Network, optional
        The one that the statistics are of: each unit is then shown with those that are written by similar weights, with the units of the
        layer before that speak for it and against it, and a class with its name.
    store : Store, optional
        As `preimage atlas` writes it: its images of units are shown beside their examples, by links into the store.
    beside : Statistics, optional
        Of another network or checkpoint over the same images, both with a sample: each unit is shown beside the other's unit that answers
        most like it (`match_units`).
    layers : names, optional
        Only these.
    classes : names
        Of the units of layers that have as many; by default the network's.
    progress : bool

    Raises
    ------
    InputError
        For statistics without crops, a layer that is not in them, a network that they are not of, and others `beside` that have no
        activations in common.
    ResultFolderError
        Where the files cannot be written.
    """
    for given in (stats, beside):
        if given is not None and given.examples is None:
            raise InputError(
                f"The statistics of {given.about.get('network')} hold no crops: collect them again with `preimage statistics` (--crops 64)."
            )
    chosen = [stats[name] for name in layers] if layers else list(stats.values())
    if network is not None:
        stats.check(weights_hash(network.module), network.space.to_dict())
        classes = classes or network.classes
    wired = {} if network is None else find_wiring(network, layers=[s.name for s in chosen])
    folder = path.absolute().with_name(f"{path.stem}_files")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ResultFolderError(f"No pictures can be written to {str(folder)!r}: {error.strerror or error}.") from error
    images = _synthetic(store, path)
    with progress_bar(total=sum(s.channels for s in chosen), desc="units", unit="unit", shown=progress) as bar:
        found = [_layer(stats, s, k, folder, images.get(s.name, {}), classes, bar.update) for k, s in enumerate(chosen)]
    for layer in found:
        if (known := wired.get(layer["name"])) is not None:
            _add_wiring(layer, known, [s.name for s in chosen])
    if beside is not None:
        matches = match_units(stats, beside, [s.name for s in chosen])
        for k, (layer, matched) in enumerate(zip(found, matches, strict=True)):
            _add_partners(layer, matched, beside, folder, k)
    units = sum(s.channels for s in chosen)
    data = {
        "layers": found,
        "folder": quote(folder.name),
        "tile": TILE,
        "rows": UNITS,
        "top": stats.about["top"],
        "images": list(stats.images),
        **({} if beside is None else {"beside": str(beside.about.get("network")), "best": beside.about["top"]}),
    }
    return write_html(
        path,
        "microscope.html",
        assets=("microscope",),
        title=f"Units of {stats.about.get('network')}",
        units=units,
        layers=[{"name": s.name, "channels": s.channels} for s in chosen],
        images=len(stats.images),
        synthetic=sum(len(v) for units in images.values() for v in units.values()),
        data=script_json(data),
        versions={},
    )


def _layer(
    stats: Statistics,
    of: LayerStatistics,
    number: int,
    folder: Path,
    images: Mapping[int, list[Any]],
    classes: Sequence[str],
    tick: Callable[[int], object],
) -> dict[str, Any]:
    """What the page knows of a layer; its sheets are written."""
    alike = alike_units(stats, of.name, ALIKE)
    heights = [base64.b64encode(bytes(row)).decode() for row in _heights(of)]
    units = []
    for start in range(0, of.channels, UNITS):
        rows = [stats.top(of.name, c) for c in range(start, min(start + UNITS, of.channels))]
        _write_sheet(folder / f"{number}-{start // UNITS}.webp", rows, int(stats.about["top"]))
        for c in range(start, start + len(rows)):
            units.append(
                {
                    "m": [_short(of.max[c]), _short(of.min[c]), _short(of.mean[c]), _short(of.firing[c])],
                    "h": heights[c],
                    "e": _numbers(of, c),
                    "a": alike[c] if alike else [],
                    **({"s": [_placed(of, c, shot) for shot in images[c]]} if c in images else {}),
                    **({"n": classes[c]} if len(classes) == of.channels else {}),
                }
            )
        tick(len(rows))
    return {"name": of.name, "shape": list(of.shape), "units": units}


def _placed(of: LayerStatistics, channel: int, shot: list[Any]) -> list[Any]:
    """An image with the share of the natural activations that are smaller than its own, in percent."""
    link, reached, *rest = shot
    share = None if reached is None or channel >= of.channels else float(f"{100 * of.share_below(channel, reached):.4g}")
    return [link, reached, share, *rest]


def _add_partners(layer: dict[str, Any], matched: Matches, beside: Statistics, folder: Path, number: int) -> None:
    """Add the other network's unit to each unit: [layer, number, correlation, that by chance, its strongest images], and their sheets."""
    of = beside[matched.other]
    rows = zip(matched.units.tolist(), matched.correlation.tolist(), matched.chance.tolist(), strict=True)
    layer["like"] = [matched.other, _short(matched.median()), _short(matched.median_by_chance())]
    for unit, (other, r, chance) in zip(layer["units"], rows, strict=True):
        if other >= 0:
            named = [[Path(beside.images[i]).name, v] for i, v in _numbers(of, other)]
            unit["b"] = [matched.other, other, round(r, 2), round(chance, 2), named]
    for start in range(0, len(matched.units), UNITS):
        partners = matched.units[start : start + UNITS].tolist()
        examples = [beside.top(of.name, other) if other >= 0 else [] for other in partners]
        _write_sheet(folder / f"{number}-{start // UNITS}-beside.webp", examples, int(beside.about["top"]))


def _add_wiring(layer: dict[str, Any], known: Wiring, shown: Sequence[str]) -> None:
    """Add to each unit those that are written by similar weights, and the units of the layer before that it weighs most, if shown."""
    rows = None if known.source not in shown else known.by_channel
    if rows is not None:
        layer["from"] = known.source
    whole, alike = known.weights.abs().sum(dim=1), known.alike()
    best = alike.topk(min(ALIKE, len(alike)), dim=1)
    for u, unit in enumerate(layer["units"]):
        unit["w"] = [[i, round(v, 2)] for i, v in zip(best.indices[u].tolist(), best.values[u].tolist(), strict=True) if v > 0.05]
        if rows is not None:
            order = rows[u].argsort(descending=True, stable=True).tolist()
            least = max(_LEAST_WEIGHT * float(whole[u]), 1e-12)
            chosen = [k for k in order[:FOR] if rows[u, k] > least], [k for k in order[::-1][:AGAINST] if rows[u, k] < -least]
            unit["f"] = [[[k, _short(rows[u, k])] for k in part] for part in chosen]


def _numbers(of: LayerStatistics, channel: int) -> list[list[Any]]:
    """The number and the value of each of a channel's strongest images."""
    best = of.strongest()
    rows = zip(best.images[channel].tolist(), best.values[channel].tolist(), strict=True)
    return [[i, _short(v)] for i, v in rows if i >= 0]


def _heights(of: LayerStatistics) -> list[list[int]]:
    """The histogram of each channel between its least and its largest value, on a logarithmic scale from 0 to 255."""
    logs = of.histogram(BINS).double().log1p()
    return [[int(v) for v in row] for row in (255 * logs / logs.amax(dim=1, keepdim=True).clamp(min=1e-12)).round().tolist()]


def _write_sheet(path: Path, rows: Sequence[Sequence[Excitation]], top: int) -> None:
    """Draw a row for each unit and a column for each example; grey where there is none."""
    import PIL.Image

    sheet = PIL.Image.new("RGB", (max(top, 1) * TILE, len(rows) * TILE), "#808080")
    for r, row in enumerate(rows):
        for k, example in enumerate(row):
            if example.jpeg is None:
                continue
            crop = open_crop(example.jpeg)
            scale = TILE / max(crop.size)
            crop = crop.resize((max(round(crop.width * scale), 1), max(round(crop.height * scale), 1)), PIL.Image.Resampling.BICUBIC)
            sheet.paste(crop, (k * TILE + (TILE - crop.width) // 2, r * TILE + (TILE - crop.height) // 2))
    with atomic_write(path) as file:
        sheet.save(file, format="WEBP", quality=78, method=1)


def _synthetic(store: Archive | None, page: Path) -> dict[str, dict[int, list[Any]]]:
    """Layer -> unit -> for each image its link, what it reached, and the numbers of nature; only files in the store."""
    found: dict[str, dict[int, list[Any]]] = {}
    for row in store.records() if store is not None else ():
        config = row.config
        unit = config.get("unit")
        if row.status != "done" or not isinstance(config.get("layer"), str) or isinstance(unit, bool):
            continue
        channel = unit if isinstance(unit, int) else unit[-1] if isinstance(unit, list) and len(unit) == 2 else None
        picture = inside(store.path, str(row.picture.absolute())) if store is not None else None
        if not isinstance(channel, int) or picture is None:
            continue
        link = quote(os.path.relpath(picture, page.absolute().parent).replace(os.sep, "/"))
        told = [row.metrics.get(name) for name in ("activation", "restarts_alike", "path", "path_end")]
        found.setdefault(config["layer"], {}).setdefault(channel, []).append([link, *(None if v is None else _short(v) for v in told)])
    return found


def _short(value: Any) -> float | None:
    number = float(value)
    return float(f"{number:.4g}") if math.isfinite(number) else None
