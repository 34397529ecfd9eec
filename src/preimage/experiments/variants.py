"""Jitter on and off, and the power β of the variation (exp_inversion.m, variants): what each regularizer does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from .base import EXPERIMENTS, SQUASH, Found, Study, Summary, flag, row

if TYPE_CHECKING:
    from ..studies.jobs import Job

BETAS = (1.0, 1.5, 2.0)


@EXPERIMENTS.register("variants")
@dataclass(frozen=True)
class Variants:
    """Inversion with and without jitter at three powers of the variation."""

    title: ClassVar = "Jitter and the power of the variation"
    caption: ClassVar = "One layer inverted with and without jitter, with β = 1, 1.5 and 2 in the bounded variation."
    quirks: ClassVar = SQUASH
    C: float = flag(20.0, "Weight of the features.", "--C")

    def jobs(self, study: Study) -> list[Job]:
        return [
            study.job("variants", "invert", photo=photo, layer=layer, C=self.C, beta=b, jitter=jitter, variant=case_name(b, jitter))
            for layer in self._layers(study)
            for jitter in (None, 1)
            for b in BETAS
            for photo in study.photographs
        ]

    def summarise(self, study: Study, found: Found, out: Path) -> Summary:
        from .figures import draw_grid

        figures = []
        for layer in self._layers(study):
            cases = [(jitter, photo) for photo in study.photographs for jitter in (None, 1)]
            rows = [[found.picture(layer=layer, beta=b, jitter=j, original=p.sha) for b in BETAS] for j, p in cases]
            names = ["jitter" if j is None else "no jitter" for j, _ in cases]
            figures += draw_grid(out, f"variants-{layer}", rows, names, [f"β = {b:g}" for b in BETAS])
        columns = {"layer": "", "image": "", "variant": "", "error": "|Φ(x) - Φ0| / |Φ0|", "naturalness": "", "psnr": "dB"}
        table = [row(r, columns) for _, r in found.pairs]
        return Summary(self.title, self.caption, columns, table, figures)

    def _layers(self, study: Study) -> list[str]:
        """The layer in the middle, as relu3 is of AlexNet's, or those that were asked for."""
        return list(study.layers) or [study.chosen[(len(study.chosen) - 1) // 2].name]


def case_name(beta: float, jitter: int | None) -> str:
    """What a case is called in tables and figures."""
    return f"{'jitter' if jitter is None else 'no jitter'}, β={beta:g}"
