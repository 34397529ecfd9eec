"""How alike the gradients of pre-image and photograph are, in direction (exp_naturalness) and in size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .base import CURVE_COLUMNS, EXPERIMENTS, PNG, SQUASH, Found, Study, Summary, curve, curve_rows, flag
from .inversion import inversion_jobs
from .no_regularizer import control_jobs

if TYPE_CHECKING:
    from ..studies.jobs import Job
    from ..studies.store import Record


@EXPERIMENTS.register("naturalness")
@dataclass(frozen=True)
class Naturalness:
    """Overlap of the gradient histograms of pre-image and photograph, by layer, with and without regularizers."""

    title: ClassVar = "Naturalness"
    caption: ClassVar = (
        "Overlap of the histograms of gradient orientations, weighted by magnitude, of the pre-image and the photograph (1: the same): "
        "mean over the photographs and its 95 % interval. It does not see how strong gradients are; for that see roughness."
    )
    quirks: ClassVar = SQUASH | PNG
    C: tuple[float, ...] = flag((1.0, 100.0), "Weight of the features; repeat for several.", "--C")

    def jobs(self, study: Study) -> list[Job]:
        return inversion_jobs(study, self.C) + control_jobs(study)

    def summarise(self, study: Study, found: Found, out: Path) -> Summary:
        from .figures import draw_curves

        value = (lambda r: _of_png(found, r)) if "stretched-png" in study.quirks else lambda r: r.metrics["naturalness"]
        curves = curves_with_control(study, found, self.C, value)
        figures = draw_curves(out, "naturalness", curves, "naturalness", self.title, top=1.0)
        columns = {"layer": "of the network", "case": "strength C, or none"} | CURVE_COLUMNS
        return Summary(self.title, self.caption, columns, curve_rows(curves, "case"), figures, curves, "naturalness")


@EXPERIMENTS.register("roughness")
@dataclass(frozen=True)
class Roughness:
    """Total variation beside the photograph's, by layer, with and without regularizers."""

    title: ClassVar = "Roughness"
    caption: ClassVar = (
        "Total variation of the pre-image over that of the photograph (1: the same; above: rougher): mean over the photographs and its "
        "95 % interval."
    )
    quirks: ClassVar = SQUASH
    C: tuple[float, ...] = flag((1.0, 100.0), "Weight of the features; repeat for several.", "--C")

    def jobs(self, study: Study) -> list[Job]:
        return inversion_jobs(study, self.C) + control_jobs(study)

    def summarise(self, study: Study, found: Found, out: Path) -> Summary:
        from .figures import draw_curves

        curves = curves_with_control(study, found, self.C, lambda r: r.metrics["roughness"])
        label = "total variation / photograph's"
        figures = draw_curves(out, "roughness", curves, label, self.title)
        columns = {"layer": "of the network", "case": "strength C, or none"} | CURVE_COLUMNS
        return Summary(self.title, self.caption, columns, curve_rows(curves, "case"), figures, curves, label)


def curves_with_control(study: Study, found: Found, strengths: tuple[float, ...], value: Callable[[Record], float]) -> list[dict[str, Any]]:
    """A curve over the layers for each strength and one for the control, of a number of each inversion."""
    names = [i.name for i in study.chosen]
    wanted = [(f"C={c:g}", {"C": c, "regularized": True}) for c in strengths] + [("no regularizers", {"regularized": False})]
    return [curve(label, names, [[value(r) for r in found.where(layer=n, **s)] for n in names]) for label, s in wanted]


def _of_png(found: Found, record: Record) -> float:
    """The original's way: of the stretched 8-bit picture."""
    from ..metrics import naturalness, through_png

    result = found.store.result(record.key)
    assert result.originals is not None
    return float(naturalness(through_png(result.images), result.originals))
