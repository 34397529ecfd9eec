"""Distance from the photograph in pixels, by layer and strength."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from .base import CURVE_COLUMNS, EXPERIMENTS, SQUASH, STRENGTHS, Found, Study, Summary, curve_rows, flag
from .inversion import inversion_jobs, strength_curves

if TYPE_CHECKING:
    from ..studies.jobs import Job


@EXPERIMENTS.register("pixel-errors")
@dataclass(frozen=True)
class PixelErrors:
    """How far a pre-image is from its photograph in pixels, by layer, of the inversions."""

    title: ClassVar = "Distance from the photograph by layer"
    caption: ClassVar = (
        "Root mean square difference between pre-image and photograph in grey levels, both as a screen shows them: mean over the "
        "photographs and its 95 % interval. What a layer does not keep is lost here also where its features are matched closely."
    )
    quirks: ClassVar = SQUASH
    C: tuple[float, ...] = flag(STRENGTHS, "Weight of the features; repeat for several.", "--C")

    def jobs(self, study: Study) -> list[Job]:
        return inversion_jobs(study, self.C)

    def summarise(self, study: Study, found: Found, out: Path) -> Summary:
        from .figures import draw_curves

        curves = strength_curves(study, found, self.C, lambda r: 255.0 / 10 ** (r.metrics["psnr"] / 20))
        label = "distance in grey levels"
        figures = draw_curves(out, "pixel-errors", curves, label, self.title)
        columns = {"layer": "of the network", "strength": "C"} | CURVE_COLUMNS
        return Summary(self.title, self.caption, columns, curve_rows(curves, "strength"), figures, curves, label)
