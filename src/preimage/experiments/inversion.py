"""Inversion of every layer at several strengths C (exp_inversion.m, normal and val): the paper's main figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .base import EXPERIMENTS, SQUASH, STRENGTHS, Found, Study, Summary, curve, flag, row

if TYPE_CHECKING:
    from ..studies.jobs import Job
    from ..studies.store import Record

NAME = "inversion"


@EXPERIMENTS.register(NAME)
@dataclass(frozen=True)
class Inversion:
    """Reconstruct every photograph from every layer at several strengths C."""

    title: ClassVar = "Inversion, layer by layer"
    caption: ClassVar = (
        "Each picture was reconstructed from the features of one layer alone, starting from noise. A larger C trusts the features more "
        "and the natural look less. error is the distance of the features from those of the photograph, relative to their norm."
    )
    quirks: ClassVar = SQUASH
    C: tuple[float, ...] = flag(STRENGTHS, "Weight of the features; repeat for several.", "--C")

    def jobs(self, study: Study) -> list[Job]:
        return inversion_jobs(study, self.C)

    def summarise(self, study: Study, found: Found, out: Path) -> Summary:
        from .figures import draw_grid

        layers, figures = [i.name for i in study.chosen], []
        for photo in study.photographs:
            rows = [[found.picture(layer=n, C=c, original=photo.sha) for n in layers] for c in self.C]
            if any(p is not None for row in rows for p in row):
                names = [f"C = {c:g}" for c in self.C]
                original = found.original(photo, study.net.space)
                figures += draw_grid(out, f"inversion-{photo.label}", rows, names, layers, original)
        columns = {
            "layer": "of the network", "image": "the photograph", "C": "weight of the features", "error": "|Φ(x) - Φ0| / |Φ0|",
            "psnr": "dB", "ssim": "structural similarity", "naturalness": "overlap of gradient histograms",
            "consistent": "1: the class of the photograph", "energy": "at the image", "seconds": "of computing",
        }  # fmt: skip
        table = [row(r, columns) | {"seconds": r.seconds} for _, r in found.pairs]
        return Summary(self.title, self.caption, columns, table, figures)


def inversion_jobs(study: Study, strengths: tuple[float, ...]) -> list[Job]:
    """Layer by layer, so that what is there early is there for every photograph."""
    return [
        study.job(NAME, "invert", photo=photo, layer=info.name, C=float(c))
        for info in study.chosen
        for c in strengths
        for photo in study.photographs
    ]


def strength_curves(study: Study, found: Found, strengths: tuple[float, ...], value: Callable[[Record], float]) -> list[dict[str, Any]]:
    """A curve over the layers for each strength, of a number of each inversion."""
    names = [i.name for i in study.chosen]
    return [curve(f"C={c:g}", names, [[value(r) for r in found.where(layer=n, C=c)] for n in names]) for c in strengths]


def reconstruction_error(found: Found, record: Record, early: bool) -> float:
    """The normalised error of a result; early: as it was before the last update (nnpreimage.m records that)."""
    if not early:
        return record.metrics["error"]
    trace = found.store.result(record.key).trace["loss"]
    return float((trace[-1, 0] / record.config["C"]).sqrt())
