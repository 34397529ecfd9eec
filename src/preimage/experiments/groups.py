"""Inversion of one half of the channels (exp_inversion.m, group 1 and 2): AlexNet's two streams see different things."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from .base import EXPERIMENTS, SQUASH, STRENGTHS, Found, Study, Summary, flag, row

if TYPE_CHECKING:
    from ..studies.jobs import Job


@EXPERIMENTS.register("groups")
@dataclass(frozen=True)
class Groups:
    """Reconstruct photographs from each half of the channels."""

    title: ClassVar = "Groups of channels"
    caption: ClassVar = (
        "Only one half of a layer's channels counts. In a network with two streams, as AlexNet, one keeps colour at low frequency and the "
        "other edges without colour; elsewhere the halves are arbitrary, except that a fire module's are its 1x1 and 3x3 filters."
    )
    quirks: ClassVar = SQUASH
    C: tuple[float, ...] = flag(STRENGTHS, "Weight of the features; repeat for several.", "--C")
    groups: int = flag(2, "Number of groups.", metavar="N")

    def jobs(self, study: Study) -> list[Job]:
        return [
            study.job("groups", "invert", photo=photo, layer=i.name, C=float(c), mask=mask, variant=mask)
            for i in study.chosen
            for c in self.C
            for photo in study.photographs
            for mask in self._masks()
        ]

    def summarise(self, study: Study, found: Found, out: Path) -> Summary:
        from .figures import draw_grid

        layers, figures = [i.name for i in study.chosen], []
        for photo in study.photographs:
            cases = [(c, mask) for c in self.C for mask in self._masks()]
            rows = [[found.picture(layer=n, C=c, mask=m, original=photo.sha) for n in layers] for c, m in cases]
            names = [f"C={c:g} {m.removeprefix('group:')}" for c, m in cases]
            figures += draw_grid(out, f"groups-{photo.label}", rows, names, layers, found.original(photo, study.net.space))
        columns = {"layer": "", "image": "", "C": "", "mask": "group / number of groups", "error": "under the mask"}
        table = [row(r, columns) for _, r in found.pairs]
        return Summary(self.title, self.caption, columns, table, figures)

    def _masks(self) -> list[str]:
        return [f"group:{g}/{self.groups}" for g in range(1, self.groups + 1)]
