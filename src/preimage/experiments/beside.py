"""Natural examples beside the images of an atlas, and where these stand among natural activations."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..statistics import Statistics
    from ..studies.store import Record
    from ..tasks.natural import NaturalExamples
    from .base import Found, Study

REVISION = 1
COLUMNS = {
    "natural_share": "of the natural activations that are smaller",
    "natural_times": "the activation by the largest natural one",
    "restarts_alike": "mean rank correlation of the layer's answers to the restarts",
    "path": "whether the network takes it the way of natural images, over all layers: 1 as these, 0 as those of other units",
    "path_end": "the same at the unit's own layer alone",
}
_RECORD = "natural.json"
_MANY = 8  # units from which on the bar is shown
_HEIGHT = 64  # of a picture of examples
_SHOWN = 5  # examples in it


def put_beside(study: Study, found: Found, layer: str, stats_file: str, out: Path) -> tuple[dict[str, str], list[str]]:
    """Measure the images of a layer's units beside its natural examples, and draw these.

    The numbers (`COLUMNS`) become metrics of the results, and what is known already, of the same statistics, is not measured again.
    natural.json in `out` has them by unit, with the rank correlations of every layer.

    Returns
    -------
    dict
        Key of a result -> the picture in `out` of its unit's natural examples.
    list of str
        Notes: what could not be compared, and why.
    """
    from ..bars import progress_bar
    from ..statistics import load_statistics

    stats = load_statistics(stats_file)
    if stats.examples is None:
        return {}, ["The statistics hold no crops, so no natural examples are shown: `preimage statistics` keeps them (--crops 64)."]
    units = _units(found)
    told = _Told.read(out / _RECORD, stats, layer)
    checker = None
    for records in progress_bar(units, desc=f"natural {layer}", unit="unit", shown=len(units) > _MANY):
        if told.knows(records):
            continue
        if checker is None:
            from ..tasks.natural import NaturalExamples

            checker = NaturalExamples(study.phi(layer), stats)
        told.add(records, _measure(checker, found, records))
        _keep(found, records, told.of(records))
    if checker is not None:
        told.write(out / _RECORD)
    missing = [u["path_missing"] for u in told.units if u.get("path_missing")]
    notes = [f"The path check was left out for {len(missing)} of {len(told.units)} units: {missing[0]}"] if missing else []
    return _draw(stats, layer, units, out), notes


def _units(found: Found) -> list[list[Record]]:
    """The results of each unit by one method: its restarts."""
    units: dict[str, list[Record]] = {}
    for _, record in found.pairs:
        if record.metrics.get("ok"):
            same = {k: v for k, v in record.config.items() if k != "restart"}
            units.setdefault(json.dumps(same, sort_keys=True, default=str), []).append(record)
    return list(units.values())


def _measure(checker: NaturalExamples, found: Found, records: Sequence[Record]) -> dict[str, Any]:
    import torch

    images = torch.cat([found.store.result(r.key).images for r in records])
    measured = checker.of(_channel(records[0]), images, [r.metrics["activation"] for r in records])
    measured.pop("examples")
    return measured


def _keep(found: Found, records: Sequence[Record], unit: dict[str, Any]) -> None:
    """As metrics of the results, which the page, the gallery's search and `preimage runs` then have."""
    for k, record in enumerate(records):
        values = {
            "natural_share": unit["share"][k],
            "natural_times": unit["times"][k],
            "restarts_alike": unit["spread"],
            "path": (unit.get("path") or {}).get("overall"),
            "path_end": (unit.get("path") or {}).get("end"),
        }
        numbers = {n: float(v) for n, v in values.items() if v is not None and math.isfinite(v)}
        changed = found.store.add_metrics(record.key, numbers, dict.fromkeys(numbers, REVISION))
        record.metrics.update(changed.metrics)


def _draw(stats: Statistics, layer: str, units: Sequence[Sequence[Record]], out: Path) -> dict[str, str]:
    """A picture of each unit's natural examples; of its first image alone, beside which it stands."""
    from ..pixels.images import atomic_write
    from ..tasks.natural import strip

    beside = {}
    for records in units:
        channel = _channel(records[0])
        name = f"natural-{channel}.jpg"
        if not (out / name).is_file():
            crops = [e.jpeg for e in stats.top(layer, channel)[:_SHOWN] if e.jpeg is not None]
            picture = strip(crops, _HEIGHT)
            if picture is None:
                continue
            with atomic_write(out / name) as file:
                picture.save(file, format="JPEG", quality=88)
        beside[records[0].key] = name
    return beside


def _channel(record: Record) -> int:
    """Of a unit as a job has it: a channel, or a token and a feature."""
    unit = record.config["unit"]
    return int(unit[-1] if isinstance(unit, (list, tuple)) else unit)


class _Told:
    """What natural.json says: of which statistics it is, and for each unit by one method the keys that were measured and the numbers."""

    def __init__(self, about: dict[str, Any], units: list[dict[str, Any]]) -> None:
        self.about, self.units = about, units

    @staticmethod
    def read(path: Path, stats: Statistics, layer: str) -> _Told:
        """Begin anew where the file is of other statistics, and remove the pictures of those."""
        names = ("weights_sha256", "files_sha256", "top", "crops")
        about = {"revision": REVISION, "layer": layer, "images": len(stats.images)} | {n: stats.about.get(n) for n in names}
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            if known["of"] == about:
                return _Told(about, list(known["units"]))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{str(path)!r} cannot be read ({error}). Remove it: it is made anew.") from error
        for picture in path.parent.glob("natural-*.jpg"):
            picture.unlink()
        return _Told(about, [])

    def of(self, records: Sequence[Record]) -> dict[str, Any]:
        return next((u for u in self.units if u["keys"] == [r.key for r in records]), {})

    def knows(self, records: Sequence[Record]) -> bool:
        return bool(self.of(records))

    def add(self, records: Sequence[Record], measured: dict[str, Any]) -> None:
        """In the place of what was known of some of these results."""
        keys = [r.key for r in records]
        self.units = [u for u in self.units if not set(u["keys"]) & set(keys)] + [{"keys": keys} | measured]

    def write(self, path: Path) -> None:
        from ..pixels.images import atomic_write

        with atomic_write(path) as file:
            file.write(json.dumps({"of": self.about, "units": self.units}, indent=1, allow_nan=False).encode())
