"""What an audit's attacker learns from: photographs that are none of the audited ones, and the inverses that are fitted on them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError, MissingExtra
from ..inverses.fit import CROPS, fit_inverse
from ..inverses.fitting import fit_session
from ..inverses.known import inverse_of, keep_inverse, kept_inverse, shipped_inverse
from ..inverses.learned import LearnedInverse, identity
from ..inverses.photographs import digest, free_photographs, gather
from ..representations.base import Representation, device_of
from ..representations.pairs import Pairs
from ..representations.release import Protected, parse_release, release_revisions
from ..studies.store import input_name

if TYPE_CHECKING:
    from .base import Study

ALIKE = 0.98  # correlation of thumbnails from which two photographs are taken for one: saved again or scaled it is above 0.99
LINEAR = "linear"  # the kind of inverse that the package carries
MORE = {"upconv": 20, "linear:collages=true": 3}  # crops for one of `Attacker.crops`: the default of a training, and half of them collages
_THUMBNAIL = 16
_FLAT = 2.0  # grey levels of spread below which a thumbnail says nothing


@dataclass
class Attacker:
    """Somebody who fits inverses.

    images: files and folders; None is the free photographs of `preimage.inverses`. crops: how many a fit takes. notes: layers of which
    no inverse could be fitted, with the reason.
    """

    images: Sequence[str | os.PathLike[str]] | None = None
    crops: int = CROPS
    progress: bool = True
    notes: list[str] = field(default_factory=list)
    _refused: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def check(self, study: Study) -> None:
        """Raise InputError where a photograph to learn from is one of the study's, by its content or to the eye."""
        exact = {p.sha: p.label for p in study.photographs}
        seen = torch.stack([_thumbnail(study.net.space.decode(study.store.input(p.sha))) for p in study.photographs])
        for path in self.photographs():
            x = study.net.space.encode(path)
            found = exact.get(input_name(x))
            if found is None:
                mine = _thumbnail(study.net.space.decode(x))
                alike = torch.maximum(seen @ mine, seen @ mine.view(3, _THUMBNAIL, _THUMBNAIL).flip(2).flatten())
                found = study.photographs[int(alike.argmax())].label if float(alike.max()) >= ALIKE else None
            if found is not None:
                own = (
                    "Take it out of the attacker's images"
                    if self.images is not None
                    else "Give other photographs (--attacker-images; Threat(images=…))"
                )
                raise InputError(f"{str(path)!r}, from which the attacker learns, is the audited image {found!r}. {own}, or audit others.")

    def photographs(self) -> list[Path]:
        """The files that are learned from."""
        return [Path(str(p)) for p in (free_photographs() if self.images is None else gather(list(self.images)))]

    def settings(self, study: Study, layer: str, learns: str, release: str | None, kind: str = LINEAR) -> dict[str, Any] | None:
        """Settings of a job that begins with the inverse of this layer: its name, if it is not the layer's own; None where there is none.

        learns: "photographs" or "pairs". release: the protection that its features have gone through when it was fitted. kind: of the
        inverse, as `fit_inverse` takes it.
        """
        reason = f"{learns} {layer} {kind}"
        if reason in self._refused:
            return None
        phi = study.phi(layer)
        try:
            if self._own(learns, release, kind):
                inverse_of(phi, self.progress)
                return {}
            facts = self._facts(phi, study, learns, release, kind)
            return {"inverse": keep_inverse(facts, lambda: self._fit(phi, learns, release, kind))}
        except InputError as error:
            if isinstance(error, MissingExtra):
                raise
            self._refused[reason] = str(error)
            what = "" if kind == LINEAR else f"{kind} "
            self.notes.append(f"No {what}inverse of {layer} could be fitted, so no attack with one was tried there: {error}")
            return None

    def inverse(self, study: Study, layer: str, kind: str = LINEAR) -> LearnedInverse | None:
        """The inverse of this kind of a layer's exact features, if there is one."""
        found = self.settings(study, layer, "photographs", None, kind)
        if found is None:
            return None
        return kept_inverse(found["inverse"]) if found else inverse_of(study.phi(layer), self.progress)

    def is_there(self, study: Study, layer: str, learns: str, release: str | None, kind: str = LINEAR) -> bool:
        """Whether the package carries this inverse, so that nothing has to be fitted."""
        return self._own(learns, release, kind) and shipped_inverse(study.phi(layer)) is not None

    def _own(self, learns: str, release: str | None, kind: str) -> bool:
        """Whether it is the inverse that the package carries or fits by itself."""
        return self.images is None and self.crops == CROPS and learns == "photographs" and release is None and kind == LINEAR

    def _facts(self, phi: Representation, study: Study, learns: str, release: str | None, kind: str) -> dict[str, Any]:
        revised = {} if release is None else release_revisions(release)
        learned = {"learns": learns, "release": release, "crops": self.crops, "photographs": digest(self.photographs())}
        learned |= {} if kind == LINEAR else {"kind": kind}
        return identity(phi) | learned | {"size": list(study.net.space.size or ()), "device": study.device} | revised

    def _fit(self, phi: Representation, learns: str, release: str | None, kind: str) -> LearnedInverse:
        device = device_of(phi)
        shown = Pairs(lambda x: phi(x.to(device)), phi.space, f"{phi.name}, known by pairs") if learns == "pairs" else phi
        seen = shown if release is None else Protected(shown, parse_release(release))
        with fit_session(phi):
            return fit_inverse(seen, list(self.photographs()), kind=kind, crops=self.crops * MORE.get(kind, 1), progress=self.progress)


def _thumbnail(levels: Tensor) -> Tensor:
    """Small, in colour, without its mean, of norm 1: (3·16·16,); zero for what is flat."""
    small = F.interpolate(levels[:, :3].float(), (_THUMBNAIL, _THUMBNAIL), mode="area")[0]
    small = small.expand(3, -1, -1) if len(small) == 1 else small
    if len(small) != 3:
        small = small.mean(dim=0, keepdim=True).expand(3, -1, -1)
    flat = (small - small.mean()).flatten()
    return flat / flat.norm() if float(flat.std()) >= _FLAT else torch.zeros_like(flat)
