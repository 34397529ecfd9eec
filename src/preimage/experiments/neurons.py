"""What single neurons look for (exp_maximization.m): mosaics of 25 units of every layer, on canvases of their receptive field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .base import EXPERIMENTS, Found, Study, Summary, flag

if TYPE_CHECKING:
    from ..representations.cnn import Layer
    from ..representations.listing import LayerInfo
    from ..studies.jobs import Job

_MANY = 512  # layers of more channels show the first two units alone, large
_UNITS = 25
STRENGTH = 1.0e4


@EXPERIMENTS.register("neurons")
@dataclass(frozen=True)
class Neurons:
    """Images that excite single units most, a mosaic for each layer."""

    title: ClassVar = "Neurons"
    caption: ClassVar = (
        "Images that excite the central unit of a channel most, each on a canvas of 1.1 receptive fields. The original optimises the "
        "mosaic as one image; here each tile is an image of its own, so that a unit is not drawn by its neighbours."
    )
    quirks: ClassVar = {
        "one-weight": "Weigh every unit of a layer by the largest response of the last one shown (exp_maximization.m's innerWeight(K)).",
        "keeps-regularizers": "The control without regularizers keeps them, and has only no jitter and leaky ReLUs (view160-noreg).",
    }
    units: int | None = flag(None, "Units of each layer; by default 25, and two where it has more than 512 channels.", metavar="N")
    restarts: int = flag(1, "Images of each unit, from different starts.", metavar="N")
    control: bool = flag(False, "Also without regularizers, bound and jitter.")
    stats: str | None = flag(None, "Statistics of the units over many images (`preimage statistics`), for their weights.", metavar="FILE")

    def jobs(self, study: Study) -> list[Job]:
        cases: list[dict[str, Any]] = [{}]
        if self.control:
            keep = "keeps-regularizers" in study.quirks
            cases.append({"jitter": 1, "leak": 0.05, "regularized": keep, "variant": "keeps regularizers" if keep else "no regularizers"})
        return [
            study.job(
                "neurons", "maximize", layer=i.name, C=STRENGTH, unit=k, name=f"{i.name} {k}", restart=r, canvas=_canvas(i), Z=z, **case
            )
            for i in study.features
            for k, z in self._weights(study, i).items()
            for r in range(self.restarts)
            for case in cases
        ]

    def summarise(self, study: Study, found: Found, out: Path) -> Summary:
        import torch

        from .figures import draw_mosaics

        figures = []
        for regularized, name in ((True, "neurons"), (False, "neurons-no-regularizers")):
            mosaics = []
            for i in study.features:
                rows = [r for r in found.where(layer=i.name, regularized=regularized) if r.config.get("leak", 0.0) == 0 or not regularized]
                if rows:
                    mosaics.append((i.name, torch.cat([found.store.result(r.key).images for r in rows])))
            if mosaics:
                figures += draw_mosaics(out, name, mosaics)
        columns = {
            "layer": "",
            "unit": "channel, from 0",
            "restart": "",
            "variant": "",
            "activation": "⟨Φ(x), e⟩",
            "energy": "",
            "ok": "1: yes",
        }
        notes = found.without_image(lambda r: str(r.config["name"]))
        return Summary(self.title, self.caption, columns, found.rows(columns), figures, notes=notes)

    def _weights(self, study: Study, info: LayerInfo) -> dict[int, float | None]:
        """Unit -> its divisor Z = M·rf²; None leaves it to `maximize`."""
        channels = info.shape[0]
        own = 2 if channels > _MANY else 4 if study.smoke else _UNITS
        count = min(channels, own if self.units is None else self.units)
        if self.stats is None and "one-weight" not in study.quirks:
            return dict.fromkeys(range(count))
        Z = divisors(study.phi(info.name), [(k,) for k in range(count)], _canvas(info), self.stats, study.device)
        return dict(enumerate([Z[-1]] * count if "one-weight" in study.quirks else Z))


def divisors(phi: Layer, wanted: Sequence[tuple[int, ...]], canvas: str, stats: str | None, device: str) -> list[float]:
    """Z = M·rf² of each unit on this canvas, M from a file of statistics, or else estimated."""
    import torch

    from ..statistics import load_statistics
    from ..tasks.units import canvas_size, estimated_largest, from_largest, recorded_largest

    like = torch.empty(0, device=device)
    size = canvas_size(phi, canvas, like)
    M, _ = estimated_largest(phi, wanted, size, like) if stats is None else recorded_largest(phi, wanted, load_statistics(stats))
    return from_largest(phi, M, size)


def _canvas(info: LayerInfo) -> str:
    return "input" if info.receptive_field is None else "receptive-field"
