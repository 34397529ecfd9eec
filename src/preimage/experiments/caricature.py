"""Caricatures layer by layer (exp_enhance.m): what a layer sees in a photograph, exaggerated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .base import EXPERIMENTS, SQUASH, Found, Study, Summary, flag, row

if TYPE_CHECKING:
    from ..studies.jobs import Job


@EXPERIMENTS.register("caricature")
@dataclass(frozen=True)
class Caricatures:
    """Exaggerate what each layer sees in each photograph."""

    title: ClassVar = "Caricatures"
    caption: ClassVar = (
        "Starting from the photograph, the features that it excites are made stronger. The original's C is 1; a larger one exaggerates "
        "more. The last row has no regularizers, no bound and no jitter."
    )
    quirks: ClassVar = SQUASH | {
        "no-mean": "Take the features to exaggerate from the photograph without subtracting its mean colour (exp_enhance.m forgets it)."
    }
    C: tuple[float, ...] = flag((1.0, 10.0), "Weight of the features; repeat for several.", "--C")
    control: bool = flag(True, "Also without regularizers, bound and jitter.")

    def jobs(self, study: Study) -> list[Job]:
        quirks = tuple({"no-mean"} & study.quirks)
        return [
            study.job("caricature", "caricature", photo=photo, layer=i.name, quirks=quirks, **case)
            for i in study.chosen
            for case in self._cases()
            for photo in study.photographs
        ]

    def summarise(self, study: Study, found: Found, out: Path) -> Summary:
        from .figures import draw_grid

        layers, figures = [i.name for i in study.chosen], []
        for photo in study.photographs:
            rows = [[found.picture(layer=n, variant=case["variant"], original=photo.sha) for n in layers] for case in self._cases()]
            names = [str(case["variant"]) for case in self._cases()]
            figures += draw_grid(out, f"caricature-{photo.label}", rows, names, layers, found.original(photo, study.net.space))
        columns = {"layer": "", "image": "", "variant": "", "activation": "1: the photograph's own", "energy": "", "psnr": "dB"}
        table = [row(r, columns) for _, r in found.pairs]
        return Summary(self.title, self.caption, columns, table, figures)

    def _cases(self) -> list[dict[str, Any]]:
        cases: list[dict[str, Any]] = [{"C": float(c), "variant": f"C = {c:g}"} for c in self.C]
        if self.control:
            cases.append({"C": 1.0, "regularized": False, "jitter": 1, "variant": "no regularizers"})
        return cases
