"""What an audit's numbers say in plain words: a sentence a layer, which attack was the strongest, and where knowing more helped less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .audit_numbers import FOUND, SMALLER, interval

if TYPE_CHECKING:
    from ..studies.jobs import Job
    from ..studies.store import Record

GIVEN_AWAY, TOLD_APART, NOTHING = "given away", "told apart", "not told apart"
_WAYS = {"found by judge": "an independent network", "found by ssim": "their structure", "found by pixels": "their pixels"}
_LIKENESS = ("likeness by judge", "ssim", "psnr")  # by the first that there is, the worst images come first
_STRIP = 6  # images that are shown for all layers
_SLACK = 0.1  # dB by which an attack may be weaker than another before that is said


@dataclass(frozen=True)
class Rung:
    """One attack on one layer. release: as a text. known: whether the attacker knows the protection, None where there is none."""

    layer: str
    release: str
    attack: str
    known: bool | None
    jobs: Sequence[Job] = field(compare=False)

    @property
    def label(self) -> str:
        """What it is called in words."""
        return self.attack + ("" if self.known is None else ", knowing the protection" if self.known else ", not knowing the protection")


Measured = Mapping[Rung, Mapping[str, Tensor]]


def strongest(measured: Measured) -> dict[str, Rung]:
    """Return for each number the attack that recovers most by it, on the mean over images."""
    found: dict[str, Rung] = {}
    for rung, values in measured.items():
        for name, sample in values.items():
            sign = -1.0 if name in SMALLER else 1.0
            if name not in found or sign * _mean(sample) > sign * _mean(measured[found[name]][name]):
                found[name] = rung
    return found


def finding(measured: Measured, records: Mapping[Rung, Sequence[Record]], among: int, guess: float) -> dict[str, Any]:
    """Return what the attacks on one layer and release recovered: numbers of the strongest for each, a sentence, and pictures to show.

    among: images among which each was looked for. guess: PSNR of the mean of the other images, in dB.
    """
    best = strongest(measured)
    way = max((n for n in FOUND if n in best), key=lambda n: _mean(measured[best[n]][n]))
    sample = measured[best[way]][way]
    share, low, _ = interval(way, sample)
    level = GIVEN_AWAY if low >= 0.5 else TOLD_APART if low > 1 / among else NOTHING
    head = _headline(measured, way)
    numbers = {
        n: dict(zip(("value", "low", "high"), interval(n, measured[r][n]), strict=True)) | {"attack": r.label} for n, r in best.items()
    }
    return {
        "layer": head.layer,
        "release": head.release,
        "level": level,
        "sentence": _sentence(head, level, round(share * len(sample)), len(sample), among, way, numbers, guess),
        "attack": head.label,
        "images": len(sample),
        "among": among,
        "chance": 1 / among,
        "numbers": numbers,
        "pictures": _pictures(measured[head], records[head]),
    }


def strip(findings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the worst images over all layers, each with the key of its result in each finding."""
    every: dict[str, dict[str, Any]] = {}
    for k, one in enumerate(findings):
        for picture in one["pictures"]:
            mine = every.setdefault(
                picture["original"], {"image": picture["image"], "original": picture["original"], "keys": {}, "sum": 0.0}
            )
            mine["keys"][k] = picture["key"]
            mine["sum"] += picture["likeness"]
    worst = sorted(every.values(), key=lambda m: (-len(m["keys"]), -m["sum"]))[:_STRIP]
    return [{"image": m["image"], "original": m["original"], "keys": [m["keys"].get(k) for k in range(len(findings))]} for m in worst]


def not_monotone(measured: Measured, above: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a sentence for each attack that recovers less, by PSNR, than one whose attacker knows no more."""
    said = []
    for rung, values in measured.items():
        weaker = [other for other in measured if _knows_no_more(other, rung, above)]
        best = max(weaker, key=lambda other: _mean(measured[other]["psnr"]), default=None)
        if best is not None and _mean(measured[best]["psnr"]) > _mean(values["psnr"]) + _SLACK:
            said.append(
                f"{rung.layer}, {rung.release}: {rung.label} recovers less ({_mean(values['psnr']):.1f} dB) than {best.label} "
                f"({_mean(measured[best]['psnr']):.1f} dB), although its attacker knows as much and more."
            )
    return said


def _knows_no_more(other: Rung, rung: Rung, above: Mapping[str, Sequence[str]]) -> bool:
    if (rung.layer, rung.release) != (other.layer, other.release):
        return False
    if other.attack in above.get(rung.attack, ()):
        return rung.known == other.known
    return rung.attack == other.attack and rung.known is True and other.known is False


def controls_note(controls: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a note on the controls: that they are at chance, or which are not."""
    off = [
        f"{row['control']}, {name} {row[name]:.0%}"
        for row in controls
        for name in FOUND
        if row.get(name) is not None and not row[f"{name}_low"] <= row["chance"] <= row[f"{name}_high"]
    ]
    if not controls:
        return []
    if off:
        return [f"Controls that are not at chance, so that what is found there is not all of the image's own: {'; '.join(off)}."]
    return [f"All {len(controls)} controls are at chance within their intervals: what is found is the image's own and not invented."]


def _headline(measured: Measured, way: str) -> Rung:
    """The attack that finds most images again, of equals the one with the higher PSNR."""
    return max((r for r in measured if way in measured[r]), key=lambda r: (_mean(measured[r][way]), _mean(measured[r]["psnr"])))


def _sentence(
    head: Rung, level: str, hits: int, count: int, among: int, way: str, numbers: Mapping[str, Mapping[str, Any]], guess: float
) -> str:
    where = head.layer if head.release == "exact" else f"{head.layer} with {head.release}"
    found = f"{hits} of {count} are found again among {among} by {_WAYS[way]} (chance: 1 of {among})"
    by = "" if numbers["psnr"]["attack"] == head.label else f" (by {numbers['psnr']['attack']})"
    pictures = f"{numbers['psnr']['value']:.1f} dB{by} where a guess without features has {guess:.1f}"
    attack = f"strongest attack: {head.label}"
    if level == GIVEN_AWAY:
        return f"{where}: the images are given away. {found}; {pictures}; {attack}."
    if level == TOLD_APART:
        return f"{where}: the images are told apart better than by chance. {found}; {pictures}; {attack}."
    return f"{where}: these attacks do not tell the images apart. {found}; {pictures}. That is no proof that nothing leaks."


def _pictures(values: Mapping[str, Tensor], records: Sequence[Record]) -> list[dict[str, Any]]:
    """The worst images first: what a person or an independent network would know best."""
    name = next(n for n in _LIKENESS if n in values)
    order = values[name].argsort(descending=True).tolist()
    return [
        {
            "image": str(records[k].config.get("image", "")),
            "original": str(records[k].config["original"]),
            "key": records[k].key,
            "likeness": float(values[name][k]),
            "psnr": float(values["psnr"][k]),
            "found": [n for n in FOUND if n in values and bool(values[n][k])],
        }
        for k in order
    ]


def _mean(sample: Tensor) -> float:
    return float(sample.double().mean())
