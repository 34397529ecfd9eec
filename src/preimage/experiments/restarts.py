"""Several pre-images of the same features, from different starts (exp_inversion.m, multi): what a layer has forgotten differs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from .base import EXPERIMENTS, SQUASH, STRENGTHS, Found, Study, Summary, flag, interval

if TYPE_CHECKING:
    from ..studies.jobs import Job

SUMMED = {"summed-error": "Give the sum over the restarts of the squared error, not their mean error."}


@EXPERIMENTS.register("restarts")
@dataclass(frozen=True)
class Restarts:
    """Several pre-images of each layer from different starts."""

    title: ClassVar = "Multiple pre-images"
    caption: ClassVar = (
        "Each tile has several pre-images of the same features, from different starts: what differs is what the layer has lost."
    )
    quirks: ClassVar = SQUASH | SUMMED
    C: tuple[float, ...] = flag(STRENGTHS, "Weight of the features; repeat for several.", "--C")
    restarts: int = flag(4, "Pre-images of each photograph and layer.", metavar="N")

    def jobs(self, study: Study) -> list[Job]:
        return restart_jobs(study, self.C, range(self.restarts))

    def summarise(self, study: Study, found: Found, out: Path) -> Summary:
        import torch

        from .figures import draw_grid

        layers, figures, table = [i.name for i in study.features], [], []
        for photo in study.photographs:
            rows = []
            for c in self.C:
                groups = [found.where(layer=n, C=c, original=photo.sha) for n in layers]
                rows.append([torch.cat([found.store.result(r.key).images for r in group]) if group else None for group in groups])
                table += [self._row(study, n, photo.label, c, [r.metrics["error"] for r in g]) for n, g in zip(layers, groups, strict=True)]
            names = [f"C = {c:g}" for c in self.C]
            figures += draw_grid(out, f"restarts-{photo.label}", rows, names, layers, found.original(photo, study.net.space))
        columns = {"layer": "", "image": "", "C": "", "restarts": "how many", "error": "mean over restarts", "interval": "1.96 std/√n"}
        if "summed-error" in study.quirks:
            columns["error"] = "sum over restarts of the squared error"
        return Summary(self.title, self.caption, columns, table, figures)

    def _row(self, study: Study, layer: str, image: str, C: float, errors: list[float]) -> dict[str, object]:
        mean, half = interval(errors)
        if "summed-error" in study.quirks:
            mean, half = sum(e**2 for e in errors), float("nan")
        return {"layer": layer, "image": image, "C": C, "restarts": len(errors), "error": mean, "interval": half}


def restart_jobs(study: Study, strengths: tuple[float, ...], restarts: range) -> list[Job]:
    """Of the layers that compute something."""
    return [
        study.job("restarts", "invert", photo=photo, layer=i.name, C=float(c), restart=r)
        for i in study.features
        for c in strengths
        for photo in study.photographs
        for r in restarts
    ]
