"""The jobs of an audit, attack by attack, and the summary that is made of their results."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from ..errors import InputError
from ..representations.release import InTurn, known_part, parse_release
from .attackers import LINEAR, Attacker
from .attacks import ATTACKS, DEFAULT, STRENGTHS, Attack, Smoothness
from .audit_findings import Rung, controls_note, finding, not_monotone, strip
from .audit_numbers import AMONG, RATES, SMALLER, Comparison, columns, interval, row_of
from .audit_utility import utility
from .base import Found, Study, Summary

if TYPE_CHECKING:
    from ..studies.jobs import Job
    from ..studies.store import Record

NAME = "audit"
EXACT = "exact"
SCHEMA = 2  # of summary/audit/summary.json and table.json, docs/audit.md; 1 had one attack and no findings

_CURVES = {
    "similarity to the image": {"ssim": "SSIM", "ms_ssim": "MS-SSIM"},
    "PSNR, dB": {"psnr": "reconstruction"},
    "share of images": {
        **{name: name for name in ("found by judge", "found by ssim", "found by pixels", "found by features")},
        "top1": "same class",
    },
    "LPIPS": {"lpips": "LPIPS"},
    "feature error": {"error": "reconstruction", "error of another": "another image"},
}


@dataclass
class AuditSummary(Summary):
    """What an audit has to say.

    findings: of each layer and release what the strongest attack recovered, in words and numbers, and the pictures to show. strip: the
    worst images with their results by layer. controls: rows of shares that must be at chance. attacks: what each attacker knows.
    ladder: where somebody who knows more recovers less. repeat: a command that does it again.
    """

    schema: int = SCHEMA
    findings: list[dict[str, Any]] = field(default_factory=list)
    strip: list[dict[str, Any]] = field(default_factory=list)
    controls: list[dict[str, Any]] = field(default_factory=list)
    attacks: list[dict[str, str]] = field(default_factory=list)
    ladder: list[str] = field(default_factory=list)
    repeat: str = ""


class Leakage:
    """The jobs of an audit and what is said of them: an `experiments.base.Experiment`, with settings that are no flags of `paper`."""

    title: ClassVar = "How much of the images comes back, layer by layer"
    caption: ClassVar = (
        "Each image was reconstructed from the features of one layer alone and compared with the original. Read the numbers against "
        "the guesses at the end of the table, which use no features: the mean of the other images, and one of the others. "
        "An image is found if its reconstruction is nearer to it than to every other image of the audit. What the attack recovers is a "
        "lower bound on what leaks."
    )
    quirks: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        C: Sequence[float] = STRENGTHS,
        releases: Sequence[str] = (EXACT,),
        lpips: str | None = None,
        attacks: Sequence[str] = ("smoothness",),
        attacker: Attacker | None = None,
        judge: str | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        for text in releases:
            if text != EXACT:
                parse_release(text)
        if not C:
            raise InputError("An audit needs at least one C, the weight of the features.")
        if not attacks:
            raise InputError(f"An audit needs at least one attack: {', '.join(ATTACKS)}.")
        made: dict[str, Attack] = {name: ATTACKS[name]() for name in dict.fromkeys(attacks)}
        self.attacks = made | ({"smoothness": Smoothness(tuple(C))} if "smoothness" in made else {})
        self.releases, self.lpips = tuple(dict.fromkeys(releases)), lpips
        self.attacker = attacker or Attacker()
        self.judge, self.say = judge, say
        self.limits: list[str] = []
        self.found: AuditSummary | None = None
        self._rungs: list[Rung] = []

    def jobs(self, study: Study) -> list[Job]:
        """Layer by layer, so that what is there early is there for every photograph. Fits the inverses that the attacks begin with."""
        self._leave_out_what_needs_gradients(study)
        if any(attack.learns for attack in self.attacks.values()):
            self.attacker.check(study)
        if self.say is not None:
            self.say(self.work(study))
        found = [self._rung(study, *form) for form in self._forms(study)]
        self._rungs = [rung for rung in found if rung.jobs]
        return [job for rung in self._rungs for job in rung.jobs]

    def _leave_out_what_needs_gradients(self, study: Study) -> None:
        """Where a network gives none, as a quantised ONNX model, images are got back by inverses from pairs alone."""
        if study.net.card.gradients or set(self.attacks) == {"pairs"}:
            return
        if "pairs" not in self.attacks and tuple(self.attacks) != DEFAULT:
            raise InputError(f"{study.network} gives no gradients, which {', '.join(self.attacks)} need: name the attack pairs.")
        self.attacks = {"pairs": ATTACKS["pairs"]()}
        self.limits = [f"{study.network} is run as it is and gives no gradients: the only attack that was tried knows pairs alone."]

    def work(self, study: Study) -> str:
        """How much there is to do, in words."""
        images, searches = len(study.photographs), 0
        fits = set[tuple[str, str, str | None, str]]()
        for layer, release, name, known in self._forms(study):
            attack = self.attacks[name]
            tries = attack.settings(study, layer)
            searches += images * sum(t.get("iterations") != 0 for t in tries)
            learned = release if known else None
            if attack.learns and tries and not self.attacker.is_there(study, layer, attack.learns, learned, attack.kind):
                fits.add((layer, attack.learns, learned, attack.kind))
        first = " For a first look: --attack inverse." if searches and any(a.learns == "photographs" for a in self.attacks.values()) else ""
        return (
            f"The audit of {images} images: {searches} searches by gradients of up to 300 evaluations each, and {len(fits)} inverses to "
            f"fit, each a quarter of a minute for images of 227 pixels{_longer(kind for *_, kind in fits)}, if they are not in the cache "
            f"already.{first}"
        )

    def summarise(self, study: Study, found: Found, out: Path) -> AuditSummary:
        """The table and the curves; also kept as `found`."""
        from .figures import draw_curves

        if not self._rungs:
            self.jobs(study)
        comparison = Comparison(study, found, self.lpips, self.judge)
        records = {rung: best for rung in self._rungs if (best := _best(_records(found, rung)))}
        if not records:
            raise InputError("None of the audit's jobs has a result.")
        measured = {rung: comparison.measure(rung.layer, r) for rung, r in records.items()}
        guesses = comparison.guesses()
        costs, notes = self._utilities(study, comparison)
        rows = [self._row(study, rung, values, costs) for rung, values in measured.items()]
        rows += [row_of(values, layer=name, release="none", features=None) for name, values in guesses.items()]
        shown = {k: v for k, v in columns().items() if any(row.get(k) is not None for row in rows)}
        if len(self.releases) == 1:
            del shown["release"]
        if len(self.attacks) == 1 and len(self.releases) == 1:
            del shown["attack"]
        curves = self._curves([i.name for i in study.chosen], measured, guesses)
        first = [c for c in curves if c["y_label"] == "share of images"]
        figures = draw_curves(out, "leakage", first, "share of images", "") if first else []
        summary = AuditSummary(self.title, self.caption, shown, rows, figures, curves)
        self._conclude(study, comparison, records, measured, guesses, summary)
        summary.notes = [
            _shares(len(study.photographs)),
            *self.limits,
            *self.attacker.notes,
            *comparison.notes,
            *notes,
            *controls_note(summary.controls),
        ]
        summary.repeat = self._command(study)
        self.found = summary
        return summary

    def _command(self, study: Study) -> str:
        """The command line that does the same, with IMAGES in the place of the photographs."""
        parts = study.parts.settings()
        options: list[tuple[str, Any]] = [("net", study.network), ("weights", study.weights), ("space", study.space), ("size", study.size)]
        options += [("layers", ",".join(i.name for i in study.chosen)), *(("attack", name) for name in self.attacks)]
        options += [("C", f"{c:g}") for c in getattr(self.attacks.get("smoothness"), "C", ())]
        options += [("release", text) for text in self.releases if text != EXACT]
        options += [("attacker-images", str(path)) for path in self.attacker.images or ()]
        options += [("crops", self.attacker.crops), ("judge", self.judge or "none"), ("lpips", self.lpips or "none")]
        options += [(k, v) for k, value in parts.items() for v in (value if isinstance(value, tuple) else (value,))]
        options += [("solver", study.solver), ("iterations", study.iterations), ("seed", study.seed), ("device", study.device)]
        options += [("precision", study.precision)]
        line = " ".join(f"--{name} {shlex.quote(str(value))}" for name, value in options if value is not None)
        return f"preimage audit IMAGES {line}{' --trust' if study.trust else ''} -o audit"

    def _conclude(
        self,
        study: Study,
        comparison: Comparison,
        records: Mapping[Rung, Sequence[Record]],
        measured: Mapping[Rung, Mapping[str, Tensor]],
        guesses: Mapping[str, Mapping[str, Tensor]],
        summary: AuditSummary,
    ) -> None:
        """Write findings, pictures, controls and the ladder into the summary."""
        among = min(len(study.photographs), AMONG)
        guess = float(guesses["mean of the other images"]["psnr"].mean())
        groups = dict.fromkeys((rung.layer, rung.release) for rung in measured)
        for layer, release in groups:
            mine = {r: v for r, v in measured.items() if (r.layer, r.release) == (layer, release)}
            summary.findings.append(finding(mine, records, among, guess))
        summary.strip = strip([f for f in summary.findings if f["release"] == EXACT] or summary.findings)
        summary.attacks = [{"attack": name, "knows": a.knows} for name, a in self.attacks.items()]
        summary.ladder = not_monotone(measured, {name: a.above for name, a in self.attacks.items()})
        summary.controls = [row_of(values, control=name, chance=1 / among) for name, values in self._controls(study, comparison, records)]

    def _controls(self, study: Study, comparison: Comparison, records: Mapping[Rung, Sequence[Record]]) -> Iterator[tuple[str, Any]]:
        kinds: dict[str, str] = {}
        for name, attack in self.attacks.items():
            if attack.learns == "photographs":
                kinds.setdefault(attack.kind, name)
        for layer in dict.fromkeys(rung.layer for rung in records):
            mine = [r for r in records if r.layer == layer]
            last = ([r for r in mine if r.release == EXACT] or mine)[-1]
            yield f"{layer}: the features of another image ({last.label})", comparison.another(records[last])
            for kind, name in kinds.items():
                inverse = self.attacker.inverse(study, layer, kind)
                if inverse is not None:
                    label = "inverse" if kind == LINEAR else name  # a search that begins with the inverse is not what is controlled
                    yield f"{layer}: shuffled features ({label})", comparison.shuffled(layer, inverse)
        yield "the mean of all images", comparison.mean_image()

    def _forms(self, study: Study) -> Iterator[tuple[str, str, str, bool | None]]:
        """Layer, release, attack, and whether the protection is known."""
        for info in study.chosen:
            for release in self.releases:
                for name, attack in self.attacks.items():
                    for known in [None] if release == EXACT else attack.knowledge(release):
                        yield info.name, release, name, known

    def _rung(self, study: Study, layer: str, release: str, name: str, known: bool | None) -> Rung:
        attack = self.attacks[name]
        jobs: list[Job] = []
        tries = attack.settings(study, layer)
        if tries and attack.learns:
            more = self.attacker.settings(study, layer, attack.learns, release if known else None, attack.kind)
            tries = [] if more is None else [{**one, **more} for one in tries]
        text = None if release == EXACT else release
        through = bool(known and text and known_part(parse_release(text))[0] is not None)
        for one in tries:
            common = {"layer": layer, "release": text, "protection_known": through, **one}
            jobs += [study.job(NAME, "invert", photo=photo, **common) for photo in study.photographs]
        return Rung(layer, release, name, known, tuple(jobs))

    def _row(self, study: Study, rung: Rung, values: Mapping[str, Tensor], costs: Mapping[tuple[str, str], Tensor]) -> dict[str, Any]:
        cost = costs.get((rung.layer, rung.release))
        return row_of(
            {**values} | ({} if cost is None else {"utility": cost}),
            layer=rung.layer,
            release=rung.release,
            attack=rung.attack,
            **{"protection known": rung.known},
            features=math.prod(study.phi(rung.layer).shape),
        )

    def _utilities(self, study: Study, comparison: Comparison) -> tuple[dict[tuple[str, str], Tensor], list[str]]:
        """What each release leaves of the network's own answers, where the rest of the network can be run; and notes where it cannot."""
        if self.releases == (EXACT,):
            return {}, []
        found, notes = dict[tuple[str, str], Tensor](), dict[str, None]()
        for layer in [i.name for i in study.chosen]:
            for text in self.releases:
                release = InTurn(()) if text == EXACT else parse_release(text)
                shape, count = tuple(study.phi(layer).shape), len(study.photographs)
                try:
                    each = [utility(study.net, layer, shape, release, comparison.canonical(k)) for k in range(count)]
                    found[layer, text] = torch.cat(each)
                except InputError as error:
                    notes[f"No utility of {layer}: {error}"] = None
        return found, list(notes)

    def _curves(self, layers: Sequence[str], measured: Any, guesses: Any) -> list[dict[str, Any]]:
        """By what they measure, of the strongest attack: of one release a curve a number, of several one a release of the first number."""
        best: dict[tuple[str, str, str], Tensor] = {}
        for rung, values in measured.items():
            for name, sample in values.items():
                key, sign = (rung.layer, rung.release, name), -1 if name in SMALLER else 1
                if key not in best or sign * float(sample.mean()) > sign * float(best[key].mean()):
                    best[key] = sample
        curves = []
        for y_label, numbers in _CURVES.items():
            several = len(self.releases) > 1
            for name, label in list(numbers.items())[: 1 if several else None]:
                for release in self.releases:
                    values = [best.get((layer, release, name)) for layer in layers]
                    if any(v is not None for v in values):
                        curves.append(_curve(f"{label}, {release}" if several else label, y_label, name, layers, values))
            name = next((n for n in numbers if any(n in v for v in guesses.values())), "")
            curves += [_curve(guess, y_label, name, layers, [v[name]] * len(layers)) for guess, v in guesses.items() if name in v]
        return curves


def _longer(kinds: Iterable[str]) -> str:
    """Which fits take longer than the others."""
    found = {
        "linear:collages=true": "three times as long for one that learns from collages",
        "layerwise": "half a minute for each step layer by layer",
        "upconv": "ten minutes for an up-convolutional one",
    }
    chosen = set(kinds)
    return "".join(f", {words}" for kind, words in found.items() if kind in chosen)


def _records(found: Found, rung: Rung) -> list[Record]:
    keys = {job.key for job in rung.jobs}
    return [record for job, record in found.pairs if job.key in keys]


def _best(records: Sequence[Record]) -> list[Record]:
    """Of each photograph's records the one that fits what is known of its features best."""
    found: dict[Any, Record] = {}
    for record in records:
        place = record.config["original"]
        if place not in found or record.metrics["error"] < found[place].metrics["error"]:
            found[place] = record
    return list(found.values())


def _curve(label: str, y_label: str, name: str, layers: Sequence[str], values: Sequence[Tensor | None]) -> dict[str, Any]:
    points = [(math.nan, math.nan, math.nan) if v is None else interval(name, v) for v in values]
    y, low, high = (list(column) for column in zip(*points, strict=True))
    if name in RATES:  # the bands of several shares of few images would cover each other: the table and a note have them
        low = high = [math.nan] * len(y)
    x = list(range(len(layers)))
    return {"label": label, "y_label": y_label, "x": x, "x_names": list(layers), "y": y, "low": low, "high": high}


def _shares(count: int) -> str:
    """How sure a share of so many images is."""
    none, every = (interval("top1", torch.full((count,), v)) for v in (0.0, 1.0))
    among = min(count, AMONG)
    return (
        f"A blind guess finds an image in {1 / among:.1%} of all cases, one of {among}. Shares of {count} images are rough: "
        f"0% means at most {none[2]:.0%}, and 100% at least {every[1]:.0%} (Wilson's 95% interval)."
    )
