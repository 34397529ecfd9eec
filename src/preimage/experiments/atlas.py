"""The atlas of a network: what many units of each layer look for, an experiment a layer, so that each has its part of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import InputError
from ..methods.recipe import NATURAL, recipe_named
from ..ranges import checked
from ..tasks.choice import is_of_classes
from .base import ChosenParts, Experiment, Found, Study, Summary
from .beside import COLUMNS as BESIDE
from .beside import put_beside
from .neurons import STRENGTH, divisors

if TYPE_CHECKING:
    from ..representations.listing import LayerInfo
    from ..studies.jobs import Job

EVALUATIONS = 100  # of a unit, half of what `maximize` takes: an atlas is looked at in small
CARICATURE_C, INVERSION_C = 10.0, 100.0
_DIVIDED = "Each unit's answer is divided by the largest that it is known, or estimated, to give to photographs."
_TOP = 25  # units of a layer with "top"
_DRAWN = 100  # tiles of a layer's mosaic: more would be too small to see, and too many to hold in memory


def atlas(study: Study, units: str, restarts: int = 1, stats: str | None = None) -> tuple[Study, dict[str, Experiment]]:
    """The atlas of the study's layers, by default those that compute something, and the study of just these layers.

    units: of each layer, "all", a number (the first ones), "top" or "top:N" (those of the largest answers in `stats`, the file of
    `preimage statistics`). restarts: images of each unit. Images of classes are made as `maximize` makes them, by the recipe
    "preimage2026", unless the study has parts or a solver of its own. With photographs in the study also an inversion and a
    caricature of each by each layer. Raises InputError for what it cannot read, and UnknownName for a layer.
    """
    from ..tasks.result import file_names
    from .caricature import Caricatures
    from .inversion import Inversion

    _count(units, 1)
    if units.startswith("top") and stats is None:
        raise InputError("The top units are those of the largest recorded answers: give --stats FILE (`preimage statistics` makes it).")
    checked("restarts", restarts)
    layers = study.chosen if study.layers else study.features
    names = file_names([f"atlas-{i.name}" for i in layers])
    found: dict[str, Any] = {n: Atlas(i.name, units, restarts, stats, n) for n, i in zip(names, layers, strict=True)}
    if study.images:
        found["inversion"] = Inversion(C=(study.parts.strength("invert", INVERSION_C),))
        found["caricature"] = Caricatures(C=(study.parts.strength("caricature", CARICATURE_C),), control=False)
    return replace(study, layers=[i.name for i in layers]), found


@dataclass(frozen=True)
class Atlas:
    """Images that excite the units of one layer most, on canvases of the receptive field or of the network's input.

    units, restarts, stats: as in `atlas`. name: of the experiment in the store.
    """

    title: ClassVar = "Atlas"
    caption: ClassVar = (
        "Images that excite each unit most. The canvas is 1.1 receptive fields where that is below the network's input, else the input."
    )
    quirks: ClassVar[Mapping[str, str]] = {}
    layer: str
    units: str
    restarts: int
    stats: str | None
    name: str

    def jobs(self, study: Study) -> list[Job]:
        (info,) = [i for i in study.chosen if i.name == self.layer]
        wanted = self._wanted(info)
        phi = study.phi(self.layer)
        Z = divisors(phi, wanted, "auto", self.stats, study.device)
        named = self._class_names(study, info)
        classes = is_of_classes(phi) and study.parts == ChosenParts() and study.solver == "fast"
        own: dict[str, Any] = {"recipe": NATURAL} if classes else {}
        strength = recipe_named(NATURAL).parts("maximize").C if classes else study.parts.strength("maximize", STRENGTH)
        if study.iterations is None and not study.smoke and not classes and study.parts.recipe is None:
            own = {"iterations": EVALUATIONS}
        return [
            study.job(
                self.name, "maximize", layer=self.layer, C=strength, unit=unit[0] if len(unit) == 1 else unit,
                # to six digits: with the last bits of a sum, another machine would take the same unit for a new job
                Z=float(f"{z:.6g}"), name=named.get(unit[-1]), restart=r, **own,
            )
            for unit, z in zip(wanted, Z, strict=True)
            for r in range(self.restarts)
        ]  # fmt: skip

    def summarise(self, study: Study, found: Found, out: Path) -> Summary:
        import torch

        from ..studies.jobs import takes_divisor
        from .figures import draw_mosaics

        found = found.with_earlier(self.name)  # other units that were asked for before stand on the same page
        drawn = [found.store.result(r.key).images for r in found.where(restart=0)[:_DRAWN]]
        figures = draw_mosaics(out, self.name, [(self.layer, torch.cat(drawn))]) if drawn else []
        columns = {
            "unit": "channel, from 0",
            "name": "of its class",
            "restart": "",
            "activation": "⟨Φ(x), e⟩",
            "Z": "divisor of the activation in the energy",
            "energy": "",
            "ok": "1: yes",
        }
        caption = f"{self.caption} {_DIVIDED}"
        if not any(takes_divisor(job) for job in found.jobs):
            caption = self.caption
            del columns["Z"]
        notes = found.without_image(lambda r: f"unit {r.config['unit']}")
        beside: dict[str, str] = {}
        if self.stats is not None:
            beside, said = put_beside(study, found, self.layer, self.stats, out)
            notes += said
            known = {name for _, r in found.pairs for name in r.metrics}
            columns |= {name: text for name, text in BESIDE.items() if name in known}
        if len(found.where(restart=0)) > _DRAWN:
            notes.append(f"The figure has the first {_DRAWN} units.")
        return Summary(f"Atlas of {self.layer}", caption, columns, found.rows(columns), figures, notes=notes, beside=beside)

    def _wanted(self, info: LayerInfo) -> list[tuple[int, ...]]:
        """The units as `maximize` takes them: a channel, or the middle token and a feature."""
        tokens = len(info.shape) == 2
        channels = info.shape[1 if tokens else 0]
        count = min(_count(self.units, channels), channels)
        chosen: list[int] = list(range(count))
        if self.units.startswith("top"):
            from ..statistics import load_statistics

            assert self.stats is not None
            answers = load_statistics(self.stats)[self.layer].max
            chosen = answers.argsort(descending=True, stable=True)[:count].tolist()
        return [(info.shape[0] // 2, k) if tokens else (k,) for k in chosen]

    @staticmethod
    def _class_names(study: Study, info: LayerInfo) -> dict[int, str]:
        """Unit -> its class and number, for a layer with a unit for each class; several classes may have one name."""
        classes = study.net.classes
        return {k: f"{name} ({k})" for k, name in enumerate(classes)} if classes and info.shape[0] == len(classes) else {}


def _count(units: str, channels: int) -> int:
    """How many units of so many.

    >>> _count("all", 64), _count("7", 64), _count("top:9", 64), _count("top", 64)
    (64, 7, 9, 25)
    """
    if units == "all":
        return channels
    number = {"top": str(_TOP)}.get(units, units.removeprefix("top:"))
    if not (number.isascii() and number.isdecimal() and int(number) > 0):
        raise InputError(f"--units is all, a number of at least 1, top, or top:N; got {units!r}.")
    return int(number)
