"""Classification consistency: does the network see in the pre-image what it sees in the photograph (exp_match_accuracy)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..errors import InputError
from .base import CURVE_COLUMNS, EXPERIMENTS, PNG, SQUASH, STRENGTHS, Found, Study, Summary, curve_rows, flag
from .inversion import inversion_jobs, strength_curves

if TYPE_CHECKING:
    from ..studies.jobs import Job
    from ..studies.store import Record


@EXPERIMENTS.register("consistency")
@dataclass(frozen=True)
class Consistency:
    """How often a pre-image has the class of its photograph, by layer, of the inversions."""

    title: ClassVar = "Classification consistency"
    caption: ClassVar = (
        "How often the network's most likely class of the pre-image is its most likely class of the photograph: mean over the photographs "
        "and its 95 % interval. The interval is of the mean of zeros and ones: where all are alike it has no width."
    )
    quirks: ClassVar = SQUASH | PNG
    C: tuple[float, ...] = flag(STRENGTHS, "Weight of the features; repeat for several.", "--C")

    def jobs(self, study: Study) -> list[Job]:
        return inversion_jobs(study, self.C)

    def summarise(self, study: Study, found: Found, out: Path) -> Summary:
        from .figures import draw_curves

        if not study.net.classes:
            raise InputError(f"{study.network} has no classes: there is no classification to be consistent with.")
        value = (lambda r: _of_png(study, found, r)) if "stretched-png" in study.quirks else lambda r: r.metrics["consistent"]
        curves = strength_curves(study, found, self.C, value)
        figures = draw_curves(out, "consistency", curves, "classification consistency", self.title, top=1.0)
        columns = {"layer": "of the network", "strength": "C"} | CURVE_COLUMNS
        return Summary(self.title, self.caption, columns, curve_rows(curves, "strength"), figures, curves, "classification consistency")


def _of_png(study: Study, found: Found, record: Record) -> float:
    """The original's way: of the stretched 8-bit picture."""
    from ..metrics import through_png, top1_agreement

    result = found.store.result(record.key)
    assert result.originals is not None
    return float(top1_agreement(study.net, through_png(result.images), result.originals))
