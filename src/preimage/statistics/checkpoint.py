"""The state of a pass over many images, and the file from which a killed one goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, ResultFolderError
from ..pixels.images import check_file
from .examples import Examples
from .layer import LayerStatistics
from .sample import Sample
from .statistics import Statistics, load_record, load_statistics, save_record

_DIFFERS = {
    "weights_sha256": "other weights",
    "files_sha256": "other images",
    "layers": "other layers",
    "space": "other pixels",
    "fit": "another fit",
    "top": "another number of top images",
    "crops": "another size of crops",
    "sample": "another size of the sample",
    "places": "another number of places",
    "seed": "another seed",
}


@dataclass
class State:
    """How far a pass has come: `done` files of the list, of which `images` were counted and `skipped` were not."""

    layers: dict[str, LayerStatistics]
    images: list[str]
    skipped: list[tuple[str, str]]
    done: int
    digests: list[str] = field(default_factory=list)
    examples: Examples | None = None
    sample: Sample | None = None

    def statistics(self, about: Mapping[str, Any]) -> Statistics:
        """What was found so far."""
        if self.examples is not None:
            self.examples.forget({name: s.strongest() for name, s in self.layers.items()}, now=True)
        return Statistics(self.layers, self.images, self.skipped, about, self.digests, self.examples, self.sample)


class Checkpoint:
    """The file of the result, and beside it, named .part, the state of a pass that has not ended."""

    def __init__(self, path: Path, about: dict[str, Any], every: float) -> None:
        check_file(path)
        self.path, self.part, self.about, self.every = path, path.with_name(path.name + ".part"), about, every
        self.last = time.monotonic()

    def finished(self) -> Statistics | None:
        """What the file holds, if it is there. Raises InputError if that is something else than what is asked for."""
        if not self.path.exists():
            return None
        found = load_statistics(self.path)
        self._compare(found.about, self.path)
        return found

    def unfinished(self) -> State | None:
        if not self.part.exists():
            return None
        found, progress = load_record(self.part)
        self._compare(found.about, self.part)
        lists = list(found.images), list(found.skipped), int(progress["done"]), list(found.digests)
        return State(dict(found.layers), *lists, found.examples, found.sample)

    def keep(self, state: State) -> None:
        """Write the state, if it is time."""
        if time.monotonic() - self.last >= self.every:
            self._write(self.part, state.statistics(self.about), {"done": state.done})
            self.last = time.monotonic()

    def finish(self, result: Statistics) -> None:
        self._write(self.path, result, {})
        self.part.unlink(missing_ok=True)

    def _write(self, path: Path, statistics: Statistics, progress: dict[str, Any]) -> None:
        try:
            save_record(path, statistics, progress)
        except OSError as error:
            raise ResultFolderError(f"{str(path)!r} cannot be written: {error.strerror or error}.") from error

    def _compare(self, about: Mapping[str, Any], path: Path) -> None:
        """Raises InputError, with what differs, unless the file is of the same weights, images and settings."""
        wanted = json.loads(json.dumps(self.about))
        differ = [_DIFFERS[k] for k in _DIFFERS if about.get(k) != wanted[k]]
        if differ:
            raise InputError(
                f"{str(path)!r} is there already, of {' and '.join(differ)}. "
                "Name another file, or replace it (overwrite=True, --overwrite)."
            )
