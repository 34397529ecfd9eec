"""Inversion of the central 5x5 positions alone, with what they can see (exp_inversion.m, neigh; overlay_the_receptive_field)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..representations.masks import central_range
from .base import EXPERIMENTS, SQUASH, STRENGTHS, Found, Study, Summary, flag, row

if TYPE_CHECKING:
    from ..representations.listing import LayerInfo
    from ..representations.receptive_field import Span
    from ..studies.jobs import Job


@EXPERIMENTS.register("neighbourhood")
@dataclass(frozen=True)
class Neighbourhood:
    """Reconstruct photographs from the central positions of a layer alone."""

    title: ClassVar = "The central neighbourhood"
    caption: ClassVar = (
        "Only the features at the central 5x5 positions count. The red frame is the receptive field of these positions together: pixels "
        "outside it have no influence on them. What is reconstructed is often much smaller than it."
    )
    quirks: ClassVar = SQUASH
    C: tuple[float, ...] = flag(STRENGTHS, "Weight of the features; repeat for several.", "--C")
    positions: int = flag(5, "Side of the neighbourhood in positions.", metavar="N")

    def jobs(self, study: Study) -> list[Job]:
        return [
            study.job("neighbourhood", "invert", photo=photo, layer=i.name, C=float(c), mask=f"central:{self.positions}")
            for i in self._layers(study)
            for c in self.C
            for photo in study.photographs
        ]

    def summarise(self, study: Study, found: Found, out: Path) -> Summary:
        from .figures import boxed, draw_grid

        layers, figures = self._layers(study), []
        boxes = {i.name: central_box(i, self.positions) for i in layers}
        for photo in study.photographs:
            rows = []
            for c in self.C:
                tiles = [found.picture(layer=i.name, C=c, original=photo.sha) for i in layers]
                rows.append([None if t is None else boxed(t, boxes[i.name]) for t, i in zip(tiles, layers, strict=True)])
            names = [f"C = {c:g}" for c in self.C]
            original = found.original(photo, study.net.space)
            figures += draw_grid(out, f"neighbourhood-{photo.label}", rows, names, [i.name for i in layers], original)
        columns = {"layer": "", "image": "", "C": "", "error": "under the mask", "box": "top, left, bottom, right of the receptive field"}
        table = [row(r, columns) | {"box": _text(boxes[str(job.layer)])} for job, r in found.pairs]
        return Summary(self.title, self.caption, columns, table, figures)

    def _layers(self, study: Study) -> list[LayerInfo]:
        """Those with a map at least as high as the neighbourhood."""
        return [i for i in study.chosen if len(i.shape) == 3 and min(i.shape[1:]) >= self.positions]


def central_box(info: LayerInfo, positions: int) -> tuple[int, int, int, int] | None:
    """(top, left, bottom, right) in pixels, 0-based and inclusive, that the central positions of a layer see; None: everything.

    >>> from ..networks.network import load_network
    >>> net = load_network("squeezenet1_1", weights=None)
    >>> central_box(net.layer("conv1").info, 5)
    (108, 108, 118, 118)
    """
    if info.field is None or info.field.rows.whole or info.field.cols.whole:
        return None
    (top, bottom), (left, right) = (_span(s, n, positions) for s, n in zip((info.field.rows, info.field.cols), info.shape[1:], strict=True))
    return top, left, bottom, right


def _span(span: Span, length: int, positions: int) -> tuple[int, int]:
    """Along one axis."""
    middle = central_range(length, positions)
    begin = span.start + middle.start * span.stride
    return math.floor(begin), math.ceil(begin + (len(middle) - 1) * span.stride + span.size) - 1


def _text(box: tuple[int, int, int, int] | None) -> str:
    return "everything" if box is None else " ".join(map(str, box))
