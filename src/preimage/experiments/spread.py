"""How much the error differs between restarts (figure_mean_variation_in_relative_error): is the optimisation to be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .base import CURVE_COLUMNS, EXPERIMENTS, PNG, SQUASH, STRENGTHS, Found, Study, Summary, curve, curve_rows, flag
from .restarts import restart_jobs

if TYPE_CHECKING:
    from ..studies.jobs import Job
    from ..studies.store import Record

_SEEDS = 4  # exp_inversion.m, multival: batches of four restarts that begin at the same seed
REPEATED = {"repeated-seeds": "Begin every batch of four restarts at the same seed, so that with more than four some are the same."}


@EXPERIMENTS.register("spread")
@dataclass(frozen=True)
class Spread:
    """The standard deviation of the error over restarts, by layer."""

    title: ClassVar = "Spread over restarts"
    caption: ClassVar = (
        "Standard deviation over restarts of the squared normalised error |Φ(x) - Φ0|² / |Φ0|²: mean over the photographs and its 95 % "
        "interval. relative: the same of the error divided by its mean over the restarts."
    )
    quirks: ClassVar = SQUASH | PNG | REPEATED
    C: tuple[float, ...] = flag(STRENGTHS, "Weight of the features; repeat for several.", "--C")
    restarts: int = flag(4, "Pre-images of each photograph and layer.", metavar="N")

    def jobs(self, study: Study) -> list[Job]:
        jobs = restart_jobs(study, self.C, range(self.restarts))
        if "repeated-seeds" not in study.quirks:
            return jobs
        first = {(j.layer, j.C, j.original, j.restart): j for j in jobs}
        return [first[j.layer, j.C, j.original, j.restart % _SEEDS] for j in jobs]

    def summarise(self, study: Study, found: Found, out: Path) -> Summary:
        from .figures import draw_curves

        names = [i.name for i in study.features]
        errors = {
            (n, c): [[self._error(study, found, r) for r in found.where(layer=n, C=c, original=p.sha)] for p in study.photographs]
            for n in names
            for c in self.C
        }
        curves = [curve(f"C={c:g}", names, [_deviations(errors[n, c], False) for n in names]) for c in self.C]
        relative = [curve(f"C={c:g}", names, [_deviations(errors[n, c], True) for n in names]) for c in self.C]
        label = "std of the squared error over restarts"
        figures = draw_curves(out, "spread", curves, label, self.title)
        figures += draw_curves(out, "spread-relative", relative, "std of error / mean error", f"{self.title}, relative")
        rows: list[dict[str, Any]] = [
            row | {"relative": other["mean"]}
            for row, other in zip(curve_rows(curves, "strength"), curve_rows(relative, "strength"), strict=True)
        ]
        columns = {"layer": "", "strength": "C"} | CURVE_COLUMNS | {"relative": "of error / mean error"}
        return Summary(self.title, self.caption, columns, rows, figures, curves, label)

    def _error(self, study: Study, found: Found, record: Record) -> float:
        """Squared; with the quirk, of the stretched 8-bit picture."""
        if "stretched-png" not in study.quirks:
            return record.metrics["error"] ** 2
        from ..metrics import normalised_error, through_png
        from ..representations.base import features_of

        phi, result = study.phi(record.config["layer"]), found.store.result(record.key)
        assert result.originals is not None
        mean = phi.space.mean_colour
        ours, its = (features_of(phi, (x - mean).to(study.device)) for x in (through_png(result.images), result.originals))
        return normalised_error(ours, its).item() ** 2


def _deviations(groups: list[list[float]], relative: bool) -> list[float]:
    """One a photograph, of those with two restarts or more."""
    import torch

    from ..metrics import spread

    errors = [torch.tensor([e], dtype=torch.float64) for e in groups if len(e) > 1]
    return [spread(e / e.mean() if relative else e).item() for e in errors]
