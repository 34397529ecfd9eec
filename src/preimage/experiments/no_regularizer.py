"""What inversion gives without regularizers, bound and jitter (exp_noregularizer.m)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from .base import EXPERIMENTS, SQUASH, Found, Study, Summary, row

if TYPE_CHECKING:
    from ..studies.jobs import Job


@EXPERIMENTS.register("no-regularizer")
@dataclass(frozen=True)
class NoRegularizer:
    """Inversion without regularizers, bound and jitter: the control."""

    title: ClassVar = "Without regularizers"
    caption: ClassVar = (
        "The same inversions with the loss alone: no bounded range, no bounded variation, no bound on pixels, no jitter. The features are "
        "matched as well or better, and the image is not natural. By the paper's solver, which steps in pixels: the coordinates of the "
        "fast one prefer natural images by themselves. Levels outside 0–255 are cut off to be shown."
    )
    quirks: ClassVar = SQUASH

    def jobs(self, study: Study) -> list[Job]:
        return control_jobs(study)

    def summarise(self, study: Study, found: Found, out: Path) -> Summary:
        from .figures import draw_grid

        layers, photos = [i.name for i in study.chosen], study.photographs
        rows = [[found.picture(layer=n, original=p.sha) for n in layers] for p in photos]
        figures = draw_grid(out, "no-regularizer", rows, [p.label for p in photos], layers)
        columns = {
            "layer": "of the network",
            "image": "the photograph",
            "error": "|Φ(x) - Φ0| / |Φ0|",
            "naturalness": "",
            "roughness": "",
            "psnr": "dB",
        }
        table = [row(r, columns) for _, r in found.pairs]
        return Summary(self.title, self.caption, columns, table, figures)


def control_jobs(study: Study) -> list[Job]:
    """C = 1, as the loss is all there is, and steps in pixels, as any others are a regularizer too."""
    control = {"C": 1.0, "regularized": False, "jitter": 1, "solver": "paper", "variant": "no regularizers"}
    return [study.job("no-regularizer", "invert", photo=p, layer=i.name, **control) for i in study.chosen for p in study.photographs]
