"""Shallow representations (exp_inversion_hog.m, exp_hog_model_viz.m): HOG, HOGb and dense SIFT inverted, and a HOG template seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .base import EXPERIMENTS, Found, Photo, Study, Summary, flag, interval

if TYPE_CHECKING:
    from torch import Tensor

    from ..studies.jobs import Job
    from ..tasks.result import Result

METHODS = {"hog": "HOG", "hogb": "HOGb", "dsift": "DSIFT"}
STRENGTHS = (1.0, 20.0, 100.0, 300.0)
_CELL, _TABLE_C = 8, 100.0


@EXPERIMENTS.register("hog")
@dataclass(frozen=True)
class ShallowFamily:
    """HOG, HOGb and dense SIFT of every photograph inverted, HOG at several strengths, and a HOG template seen."""

    title: ClassVar = "HOG and dense SIFT"
    caption: ClassVar = (
        "Grey photographs reconstructed from HOG, HOG with bilinear orientations and dense SIFT at C = 100; the first also from HOG at "
        "other strengths. The template is the image that a linear HOG template likes most: of FILE, or else the first photograph's HOG "
        "less the mean of all. HOGgles, the paper's baseline, is in `preimage paper shallow-table`."
    )
    quirks: ClassVar[dict[str, str]] = {}
    size: int = flag(256, "Cut photographs to squares of this size; 0 leaves them as they are, as the original.", metavar="PIXELS")
    template: str | None = flag(None, "A .npy or .npz array of HOG weights.", metavar="FILE")

    def jobs(self, study: Study) -> list[Job]:
        photos = self._photos(study)
        jobs = [self._job(study, p, name, _TABLE_C, METHODS[name]) for name in METHODS for p in photos]
        jobs += [self._job(study, photos[0], "hog", c, f"HOG, C={c:g}") for c in STRENGTHS if c != _TABLE_C]
        sha = study.store.add_input(self._template(study, photos))
        settings: dict[str, Any] = {"representation": "hog-template", "template": sha, "unit": 0, "C": 1.0, "Z": 1.0, "name": "template"}
        return [*jobs, study.job("hog", "maximize", variant="template", **settings)]

    def summarise(self, study: Study, found: Found, out: Path) -> Summary:
        from .figures import draw_grid, draw_mosaics

        space, figures, table = _grey(), [], []
        photos = self._photos(study)
        for p in photos:
            rows = [[found.picture(representation=m, C=_TABLE_C, original=p.sha) for m in METHODS]]
            figures += draw_grid(out, f"hog-{p.label}", rows, [p.label], list(METHODS.values()), found.original(p, space))
        strengths = [[found.picture(representation="hog", C=c, original=photos[0].sha) for c in STRENGTHS]]
        figures += draw_grid(out, "hog-strengths", strengths, ["HOG"], [f"C = {c:g}" for c in STRENGTHS])
        template = found.picture(representation="hog-template")
        figures += [] if template is None else draw_mosaics(out, "hog-template", [("template", template)])
        for method, title in METHODS.items():
            done = found.where(representation=method, C=_TABLE_C)
            own = [r.metrics["error"] for r in done]
            compared = [_compared(found.store.result(r.key)) for r in done] if method == "hog" else own
            (mean, half), (other, width) = interval([100 * e for e in own]), interval([100 * e for e in compared])
            table.append({"method": title, "error": mean, "± error": half, "compared": other, "± compared": width, "images": len(done)})
        columns = {
            "method": "", "error": "percent, of its own features", "± error": "1.96 std/√n",
            "compared": "percent, of 31 channels without the outer cells (HOG; the others: their own)", "± compared": "", "images": "",
        }  # fmt: skip
        return Summary(self.title, self.caption, columns, table, figures)

    def _job(self, study: Study, photo: Photo, name: str, C: float, variant: str) -> Job:
        """The original has one stage of 300 iterations; the other solvers have their own."""
        settings: dict[str, Any] = {"one_stage": True} if study.solver == "paper" else {}
        return study.job("hog", "invert", photo=photo, representation=name, C=C, variant=variant, **settings)

    def _photos(self, study: Study) -> list[Photo]:
        return study.photos(64 if study.smoke else self.size or None, _grey())

    def _template(self, study: Study, photos: list[Photo]) -> Tensor:
        if self.template is not None:
            from ..representations.template import load_template

            return load_template(self.template)[None]
        import torch

        from ..representations.hog import HOG

        features = [HOG(_CELL)(study.store.input(p.sha)) for p in photos]
        mean = torch.cat([f.mean(dim=(2, 3), keepdim=True) for f in features]).mean(dim=0, keepdim=True)
        template: Tensor = features[0] - mean
        return template


def _compared(result: Result) -> float:
    from .shallow_table import compared_error

    assert result.originals is not None
    return compared_error(result.images, result.originals)


def _grey() -> Any:
    """Grey levels less the middle, as the shallow representations take them."""
    from ..representations.hog import HOG

    return HOG(_CELL).space
