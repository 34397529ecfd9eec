"""What the classes of a network look like (exp_maximization.m, setup_category and its variants)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import InputError
from .base import EXPERIMENTS, Found, Study, Summary, flag, row
from .neurons import STRENGTH
from .variants import BETAS, case_name

if TYPE_CHECKING:
    from ..studies.jobs import Job
    from ..studies.store import Record

CLASSES = ("black swan", "goose", "tree frog", "cheeseburger", "coffee mug", "comic book", "vending machine")
_FIRST = 25  # classes of a network that has not the paper's
READINGS = ("input", "receptive-field", "both")


@EXPERIMENTS.register("classes")
@dataclass(frozen=True)
class Classes:
    """Images that excite single classes most."""

    title: ClassVar = "Classes"
    caption: ClassVar = (
        "Images that excite one class of the last layer most. The original's script asks for a canvas of the network's own size and a "
        "target of many units at once, which do not fit together: `input` is the first, `receptive-field` the second of its two readings. "
        "probability: what the network gives the class in its image (of the network's own size alone)."
    )
    quirks: ClassVar[dict[str, str]] = {}
    classes: tuple[str, ...] = flag(
        (), "A class by name or number; repeat for several. By default the paper's seven, or else the network's first 25.", "--class"
    )
    reading: str = flag("input", "Canvas: input, receptive-field or both.", metavar="WHICH")

    def jobs(self, study: Study) -> list[Job]:
        if self.reading not in READINGS:
            raise InputError(f"The reading is one of {', '.join(READINGS)}; got {self.reading!r}.")
        wanted = class_units(study, self.classes)[: 2 if study.smoke and not self.classes else None]
        readings = READINGS[:2] if self.reading == "both" else (self.reading,)
        return [
            study.job("classes", "maximize", C=STRENGTH, unit=k, name=name, canvas=canvas, layer=_layer(study, canvas), variant=canvas)
            for canvas in readings
            for k, name in wanted
        ]

    def summarise(self, study: Study, found: Found, out: Path) -> Summary:
        from .figures import draw_grid

        figures = []
        for canvas in dict.fromkeys(job.canvas for job in found.jobs):
            names = [str(job.name) for job in found.jobs if job.canvas == canvas]
            rows = [[found.picture(canvas=canvas, name=n) for n in names]]
            figures += draw_grid(out, f"classes-{canvas}", rows, [""], names)
        return Summary(self.title, self.caption, COLUMNS, [class_row(study, found, r) for _, r in found.pairs], figures)


@EXPERIMENTS.register("class-variants")
@dataclass(frozen=True)
class ClassVariants:
    """One class with and without jitter, at three powers of the variation, and without regularizers."""

    title: ClassVar = "Variants of a class"
    caption: ClassVar = (
        "The same class with and without jitter, with β = 1, 1.5 and 2 in the bounded variation, and without any regularizer, bound and "
        "jitter (there with leaky ReLUs of slope 0.01, as the original)."
    )
    quirks: ClassVar[dict[str, str]] = {}
    classes: tuple[str, ...] = flag(("tree frog",), "A class by name or number; repeat for several.", "--class")

    def jobs(self, study: Study) -> list[Job]:
        cases: list[dict[str, Any]] = [{"beta": b, "jitter": j, "variant": case_name(b, j)} for j in (None, 1) for b in BETAS]
        cases.append({"regularized": False, "jitter": 1, "leak": 0.01, "variant": "no regularizers"})
        layer = _layer(study, "input")
        return [
            study.job("class-variants", "maximize", C=STRENGTH, unit=k, name=name, canvas="input", layer=layer, **case)
            for k, name in class_units(study, self.classes)
            for case in cases
        ]

    def summarise(self, study: Study, found: Found, out: Path) -> Summary:
        from .figures import draw_grid

        variants = list(dict.fromkeys(str(job.variant) for job in found.jobs))
        names = list(dict.fromkeys(str(job.name) for job in found.jobs))
        rows = [[found.picture(name=n, variant=v) for v in variants] for n in names]
        figures = draw_grid(out, "class-variants", rows, names, variants)
        return Summary(self.title, self.caption, COLUMNS, [class_row(study, found, r) for _, r in found.pairs], figures)


COLUMNS = {
    "name": "the class", "unit": "its number, from 0", "variant": "", "activation": "of the unit", "probability": "of the class",
    "rank": "of the class, 1 is the most likely", "energy": "",
}  # fmt: skip


def class_units(study: Study, wanted: tuple[str, ...]) -> list[tuple[int, str]]:
    """Number and name of each class. By default the paper's, or the first units where the network does not have these."""
    net = study.net
    count = net.layers()[-1].shape[0]
    if not wanted and any(w not in net.classes for w in CLASSES):
        return [(k, net.class_name(k) if net.classes else f"unit {k}") for k in range(min(count, _FIRST))]
    if not net.classes and not all(w.isdecimal() for w in wanted):
        raise InputError(f"{study.network} has no class names: give --class as a number.")
    numbers = [int(w) if w.isdecimal() else net.class_index(w) for w in (wanted or CLASSES)]
    if beyond := [k for k in numbers if k >= count]:
        raise InputError(f"{study.network} has {count} classes, from 0 to {count - 1}; got --class {beyond[0]}.")
    return [(k, net.class_name(k)) for k in numbers]


def class_row(study: Study, found: Found, record: Record) -> dict[str, Any]:
    known = row(record, COLUMNS)
    images = found.store.result(record.key).images
    if images.shape[2:] != study.net.space.size:
        return known
    p = study.net.predict(images - study.net.space.mean_colour)[0]
    unit = int(record.config["unit"])
    return known | {"probability": p[unit].item(), "rank": int((p > p[unit]).sum()) + 1}


def _layer(study: Study, canvas: str) -> str:
    """The last layer; for a canvas of receptive fields the last one of as many channels that has one."""
    layers = study.net.layers()
    if canvas == "input":
        return layers[-1].name
    found = [i.name for i in layers if i.shape[0] == layers[-1].shape[0] and i.receptive_field is not None]
    if not found:
        raise InputError(f"No layer of {study.network} has a unit for each class and a receptive field below the whole image: take input.")
    return found[-1]
