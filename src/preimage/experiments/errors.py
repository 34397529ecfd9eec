"""Reconstruction error by layer and strength (figure_quantresults_cnn)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from .base import CURVE_COLUMNS, EARLY, EXPERIMENTS, SQUASH, STRENGTHS, Found, Study, Summary, curve_rows, flag
from .inversion import inversion_jobs, reconstruction_error, strength_curves

if TYPE_CHECKING:
    from ..studies.jobs import Job


@EXPERIMENTS.register("errors")
@dataclass(frozen=True)
class Errors:
    """Reconstruction error by layer, of the inversions."""

    title: ClassVar = "Reconstruction error by layer"
    caption: ClassVar = "Normalised error |Φ(x) - Φ0| / |Φ0| of the inversions: mean over the photographs and its 95 % interval."
    quirks: ClassVar = SQUASH | EARLY
    C: tuple[float, ...] = flag(STRENGTHS, "Weight of the features; repeat for several.", "--C")

    def jobs(self, study: Study) -> list[Job]:
        return inversion_jobs(study, self.C)

    def summarise(self, study: Study, found: Found, out: Path) -> Summary:
        from .figures import draw_curves

        early = "early-error" in study.quirks
        curves = strength_curves(study, found, self.C, lambda r: reconstruction_error(found, r, early))
        label = "normalised reconstruction error"
        figures = draw_curves(out, "errors", curves, label, self.title)
        columns = {"layer": "of the network", "strength": "C"} | CURVE_COLUMNS
        return Summary(self.title, self.caption, columns, curve_rows(curves, "strength"), figures, curves, label)
