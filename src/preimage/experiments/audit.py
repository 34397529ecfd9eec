"""How much of an image can be got back from the features of each layer: inversion as an attack, measured."""

from __future__ import annotations

import math
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import metrics
from ..errors import InputError, MissingExtra, ResultFolderError, UnknownName
from ..representations.base import device_of, features_of
from ..representations.release import parse_release
from .base import ChosenParts, Found, Photo, Study, Summary

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from ..studies.jobs import Job
    from ..studies.store import Record

NAME = "audit"
PAGE = "audit.html"
STRENGTHS = (20.0, 100.0)  # the larger is better for early layers, the smaller for late ones
SPREAD = 8  # layers that are audited unless they are named
BLUR = 4.0  # pixels: what a face or a scene looks like to somebody without their glasses; less is the noise of the attack
EXACT = "exact"
_OTHERS = 7  # other images that stand for "another image" of each
_MS_SSIM_SIDE = 176

RISK = (
    "What this attack recovers is a lower bound on what leaks. It knows the network, sees the features of one layer, and knows of "
    "images only that they are smooth; an attacker who has learned from images like these, or who tries longer, gets more. "
    "A low number is no proof of privacy; a high number is proof of a leak."
)

COLUMNS = {
    "layer": "of the network, or a guess made without it",
    "release": "what is known of the features",
    "features": "numbers that the layer gives for an image",
    "error": "distance of the reconstruction's features from the image's, relative to their norm",
    "error of another": "the same for another of the images in its place",
    "psnr": "peak signal-to-noise ratio in dB",
    "ssim": "structural similarity, 1 for the same image",
    "ms_ssim": "the same at five scales",
    "lpips": "perceptual distance, 0 for the same image",
    "top1": "share of images whose most likely class comes back",
    "found by pixels": f"share of images that are nearest to their own reconstruction, by pixels blurred with σ = {BLUR:g}",
    "found by ssim": "the same by structural similarity",
    "found by features": "the same by the network's last layer",
    "images": "number of images",
}
_RATES = ("top1", "found by pixels", "found by ssim", "found by features")
_CURVES = {
    "similarity to the image": {"ssim": "SSIM", "ms_ssim": "MS-SSIM"},
    "PSNR, dB": {"psnr": "reconstruction"},
    "share of images": {**{name: name for name in ("found by ssim", "found by pixels", "found by features")}, "top1": "same class"},
    "LPIPS": {"lpips": "LPIPS"},
    "feature error": {"error": "reconstruction", "error of another": "another image"},
}


@dataclass(repr=False)
class Audit:
    """What `audit` found.

    table: a row for each layer and release, and the guesses made without features, as `COLUMNS` tells; NAME_low and NAME_high are the
    ends of 95 % intervals. notes: what a reader must know beside `RISK`. failed: jobs that have no result, with their reasons.
    store: the folder with every reconstruction.
    """

    table: list[dict[str, Any]]
    notes: list[str]
    failed: dict[str, str]
    store: Path

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Everything into a new or empty folder (the store's own is as it is): the store, tables, figures, and the page audit.html.

        Returns the page. Raises ResultFolderError for a folder that holds something else.
        """
        destination = Path(folder)
        if destination.absolute() != self.store.absolute():
            if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
                raise ResultFolderError(f"{str(destination)!r} is not empty. Name a new folder for the audit.")
            shutil.copytree(self.store, destination, dirs_exist_ok=True)
        return write_page(destination)

    def __repr__(self) -> str:
        layers = len({row["layer"] for row in self.table if row["features"] is not None})
        images = max((row["images"] for row in self.table), default=0)
        return f"Audit({layers} layer{'s' * (layers != 1)}, {images} images, {str(self.store)!r})"

    def __str__(self) -> str:
        return self.text()

    def text(self) -> str:
        """The table in plain text, with the notes; `print` shows it too."""
        shown = [c for c in _columns() if any(row.get(c) is not None for row in self.table)]
        cells = [shown, *[[_word(c, row.get(c)) for c in shown] for row in self.table]]
        widths = [max(len(line[k]) for line in cells) for k in range(len(shown))]
        lines = [
            "  ".join(f"{c:<{w}}" if k < 2 else f"{c:>{w}}" for k, (c, w) in enumerate(zip(line, widths, strict=True))) for line in cells
        ]
        return "\n".join([line.rstrip() for line in lines] + ["", RISK, *self.notes])


def audit(
    network: str,
    images: Sequence[str | os.PathLike[str]],
    layers: Sequence[str] | str = (),
    *,
    weights: str = "default",
    C: float | Sequence[float] | None = None,
    release: Sequence[str] = (),
    recipe: str | ChosenParts | None = None,
    out: str | os.PathLike[str] | None = None,
    solver: str = "fast",
    iterations: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "float32",
    lpips: str | None = "alex",
    workers: int | None = None,
    progress: bool = True,
    space: str | None = None,
    size: str | None = None,
    trust: bool = False,
) -> Audit:
    """Invert every image from every layer, and measure how much of it came back.

    network, weights, space, size, trust: as on the command line; it needs layer names. images: at least two files. layers: names, "all", or
    nothing for `SPREAD` of the layers that compute something, evenly from the first to the last. release: beside the exact
    features also these, as in `parse_release` (["bits:4", "noise:0.1"]). out: the folder of the store, in which an audit that was
    stopped goes on; None keeps it as long as the `Audit`. lpips: its network, where its weights are there; a note says if they are
    not. C: one or several, by default 20 and 100, or the recipe's; of each image's reconstructions the one with the smallest feature
    error counts, which an attacker can see too. recipe: how images are made, by name, or `ChosenParts`, with parts as text in the place
    of its own. solver, iterations, seed, device, precision: as in `preimage.invert`. workers: processes.
    An image that cannot be read is named in `failed`. Raises InputError for fewer than two that can, and what `load_network` and the
    layers raise.
    """
    from ..files import atomic_write
    from ..studies.store import store_for
    from .study import run_study

    _at_least_two(len(images))
    parts = recipe if isinstance(recipe, ChosenParts) else ChosenParts(recipe)
    own = STRENGTHS if parts.recipe is None else (parts.strength("invert", 0.0),)
    experiment = Leakage(own if C is None else (C,) if isinstance(C, (int, float)) else C, (EXACT, *release), lpips)
    with store_for(tempfile.mkdtemp(prefix="preimage-audit-") if out is None else out) as store:
        study = Study(store, [Path(i) for i in images], network, weights, (), solver, iterations, seed, device, precision, parts=parts)
        study = replace(study, space=space, size=size, trust=trust)
        study = replace(study, layers=_layers(study, layers))
        _at_least_two(len(study.photographs))
        done, _ = run_study(study, {NAME: experiment}, workers=workers, progress=progress)
    summary = experiment.found
    if summary is None:
        raise InputError(f"No job of the audit went well: {next(iter(done.failed.values()), 'there was none')}")
    result = Audit(summary.rows, summary.notes, done.failed, store.path)
    if out is None:
        weakref.finalize(result, shutil.rmtree, store.path, ignore_errors=True)
    with atomic_write(store.path / "summary" / NAME / "table.txt") as file:
        file.write(f"{result.text()}\n".encode())
    return result


def _at_least_two(images: int) -> None:
    if images < 2:
        raise InputError(f"An audit needs at least 2 images that can be read, to find each among them; got {images}.")


def write_page(store: Path) -> Path:
    """The page of an audit, in its store's folder."""
    from ..report import write_report
    from ..studies.store import Store

    return write_report(Store.open(store, create=False), store / PAGE, title="What can be recovered from the features", lead=RISK)


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

    def __init__(self, C: Sequence[float] = STRENGTHS, releases: Sequence[str] = (EXACT,), lpips: str | None = None) -> None:
        for text in releases:
            if text != EXACT:
                parse_release(text)
        if not C:
            raise InputError("An audit needs at least one C, the weight of the features.")
        self.C, self.releases, self.lpips = C, tuple(dict.fromkeys(releases)), lpips
        self.found: Summary | None = None

    def jobs(self, study: Study) -> list[Job]:
        """Layer by layer, so that what is there early is there for every photograph."""
        return [
            self._job(study, info.name, C, release, photo)
            for info in study.chosen
            for release in self.releases
            for C in self.C
            for photo in study.photographs
        ]

    def summarise(self, study: Study, found: Found, out: Path) -> Summary:
        """The table and the curves; also kept as `found`."""
        from .figures import draw_curves

        comparison = _Comparison(study, found, self.lpips)
        layers = [i.name for i in study.chosen]
        measured: dict[tuple[str, str], dict[str, Tensor]] = {}
        for layer in layers:
            for release in self.releases:
                if records := found.where(layer=layer, release=None if release == EXACT else release):
                    measured[layer, release] = comparison.measure(layer, _best(records))
        if not measured:
            raise InputError("None of the audit's jobs has a result.")
        guesses = comparison.guesses()
        rows = [_row(layer, release, values, math.prod(study.phi(layer).shape)) for (layer, release), values in measured.items()]
        rows += [_row(name, "none", values, None) for name, values in guesses.items()]
        columns = {k: v for k, v in _columns().items() if any(row.get(k) is not None for row in rows)}
        if len(self.releases) == 1:
            del columns["release"]
        curves = self._curves(layers, measured, guesses)
        first = [c for c in curves if c["y_label"] == "share of images"]
        figures = draw_curves(out, "leakage", first, "share of images", "") if first else []
        notes = [_shares(len(study.photographs)), *comparison.notes]
        self.found = Summary(self.title, self.caption, columns, rows, figures, curves, notes=notes)
        return self.found

    def _job(self, study: Study, layer: str, C: float, release: str, photo: Photo) -> Job:
        return study.job(NAME, "invert", photo=photo, layer=layer, C=float(C), release=None if release == EXACT else release)

    def _curves(self, layers: Sequence[str], measured: Any, guesses: Any) -> list[dict[str, Any]]:
        """By what they measure: one curve a number; with several releases, one a release of the first number."""
        curves = []
        for y_label, numbers in _CURVES.items():
            several = len(self.releases) > 1
            for name, label in list(numbers.items())[: 1 if several else None]:
                for release in self.releases:
                    values = [measured.get((layer, release), {}).get(name) for layer in layers]
                    if any(v is not None for v in values):
                        curves.append(_curve(f"{label}, {release}" if several else label, y_label, name, layers, values))
            name = next(iter(numbers))
            curves += [_curve(guess, y_label, name, layers, [v[name]] * len(layers)) for guess, v in guesses.items() if name in v]
        return curves


class _Comparison:
    """Reconstructions against the originals of a study, one number a sample and name."""

    def __init__(self, study: Study, found: Found, lpips: str | None) -> None:
        self.study, self.found, self.notes = study, found, list[str]()
        self.x = torch.cat([study.store.input(p.sha) for p in study.photographs])
        self.levels = study.net.space.decode(self.x)
        self.place = {f"inputs/{p.sha}.png": k for k, p in enumerate(study.photographs)}
        self.last = study.net.layers()[-1].name
        self.last_features = self._features(self.last, self.x)
        self.similarities = self._similarities(lpips)

    def measure(self, layer: str, records: Sequence[Record]) -> dict[str, Tensor]:
        """Of the reconstructions of one layer: name -> (n,)."""
        images = torch.cat([self.found.store.result(r.key).images for r in records])
        sources = torch.tensor([self.place[str(r.config["original"])] for r in records])
        x = images - self.study.net.space.mean_colour
        features, wanted = self._features(layer, x), self._features(layer, self.x)
        nearest = metrics.reidentified
        return {
            "error": metrics.normalised_error(features, wanted[sources]),
            "error of another": self._others(lambda a, b: metrics.normalised_error(wanted[a], wanted[b]))[sources],
            **self._pictures(images, self.levels[sources]),
            "found by pixels": nearest(_blurred(images), _blurred(self.levels), sources).float(),
            "found by ssim": nearest(_halved(images), _halved(self.levels), sources, lambda a, b: -metrics.ssim(a, b)).float(),
            "found by features": nearest(self._features(self.last, x), self.last_features, sources).float(),
        }

    def guesses(self) -> dict[str, dict[str, Tensor]]:
        """What one gets without any features: name of the guess -> name -> (N,)."""
        count = len(self.levels)
        mean = (self.levels.sum(dim=0) - self.levels) / (count - 1)
        another = [self._pictures(self.levels.roll(-k, dims=0), self.levels) for k in self._shifts()]
        chance = dict.fromkeys([n for n in _RATES if n != "top1"], torch.tensor([1 / count]))
        return {
            "mean of the other images": self._pictures(mean, self.levels),
            "another image": {k: torch.stack([one[k] for one in another]).mean(dim=0) for k in another[0]} | chance,
        }

    def _pictures(self, images: Tensor, originals: Tensor) -> dict[str, Tensor]:
        values = {
            name: torch.cat([f(a[None], b[None]) for a, b in zip(images, originals, strict=True)]) for name, f in self.similarities.items()
        }
        if self.study.net.classes:
            values["top1"] = metrics.top1_agreement(self.study.net, images, originals).float()
        return values

    def _features(self, layer: str, x: Tensor) -> Tensor:
        phi = self.study.phi(layer)
        return features_of(phi, x.to(device_of(phi))).cpu()

    def _others(self, distance: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The mean of a distance between others, in an original's place, and the original: (N,)."""
        own = torch.arange(len(self.levels))
        return torch.stack([distance((own + k) % len(own), own) for k in self._shifts()]).mean(dim=0)

    def _shifts(self) -> range:
        """Which of the others are taken for "another image": the next ones in the list, all of them where they are few."""
        return range(1, min(len(self.levels), _OTHERS + 1))

    def _similarities(self, lpips: str | None) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
        """The metrics that can be had for these images; a note for each that cannot."""
        one = metrics.Seen(self.levels[:1], self.levels[:1])
        taken = metrics.measure_image(one, "audit")
        found = {name: _registered(name) for name in taken}
        side = min(self.levels.shape[-2:])
        if side < _MS_SSIM_SIDE:
            self.notes.append(f"No MS-SSIM: it needs images of {_MS_SSIM_SIDE} pixels; these have {side}.")
        if lpips is not None and self.levels.shape[1] == 3:
            try:
                found["lpips"] = metrics.LPIPS(lpips)
            except (MissingExtra, InputError) as error:
                if isinstance(error, UnknownName):
                    raise
                self.notes.append(f"No LPIPS: {error}")
        return found


def _registered(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """A registered metric as a function of one image and its original, (1, C, H, W) each -> (1,); NaN where it is not defined."""

    def measure(image: Tensor, original: Tensor) -> Tensor:
        value = metrics.METRICS[name]()(metrics.Seen(image, original))
        return torch.tensor([math.nan if value is None else value])

    return measure


def _columns() -> dict[str, str]:
    """What an audit's table tells: `COLUMNS`, and the registered metrics that are not in it."""
    more = {n: metrics.METRICS[n].sentence() for n in metrics.METRICS if "audit" in metrics.METRICS[n].shown and n not in COLUMNS}
    return {k: v for k, v in COLUMNS.items() if k != "images"} | more | {"images": COLUMNS["images"]}


def _layers(study: Study, layers: Sequence[str] | str) -> Sequence[str]:
    """All that the study would take, the named ones, or an even spread of those that compute something."""
    if layers == "all":
        return ()
    if layers:
        return (layers,) if isinstance(layers, str) else layers
    names = [i.name for i in study.features]
    count = min(SPREAD, len(names))
    return [names[round(k * (len(names) - 1) / max(count - 1, 1))] for k in range(count)]


def _best(records: Sequence[Record]) -> list[Record]:
    """Of each photograph's records the one that fits what is known of its features best."""
    found: dict[Any, Record] = {}
    for record in records:
        place = record.config["original"]
        if place not in found or record.metrics["error"] < found[place].metrics["error"]:
            found[place] = record
    return list(found.values())


def _row(layer: str, release: str, values: Mapping[str, Tensor], features: int | None) -> dict[str, Any]:
    """Means, and the ends of their 95 % intervals as NAME_low and NAME_high."""
    row: dict[str, Any] = {"layer": layer, "release": release, "features": features, "images": max(len(v) for v in values.values())}
    for name, sample in values.items():
        row[name], row[f"{name}_low"], row[f"{name}_high"] = _interval(name, sample)
    return row


def _interval(name: str, values: Tensor) -> tuple[float, float, float]:
    """The mean and its 95 % interval; Wilson's for shares, which is honest at 0 and 1."""
    mean = values.double().mean().item()
    if name not in _RATES:
        half = metrics.interval(values).half
        return mean, mean - half, mean + half
    n, z = len(values), 1.96
    centre = (mean + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(mean * (1 - mean) / n + z**2 / (4 * n**2))
    return mean, max(centre - half, 0.0), min(centre + half, 1.0)


def _curve(label: str, y_label: str, name: str, layers: Sequence[str], values: Sequence[Tensor | None]) -> dict[str, Any]:
    points = [(math.nan, math.nan, math.nan) if v is None else _interval(name, v) for v in values]
    y, low, high = (list(column) for column in zip(*points, strict=True))
    if name in _RATES:  # the bands of several shares of few images would cover each other: the table and a note have them
        low = high = [math.nan] * len(y)
    x = list(range(len(layers)))
    return {"label": label, "y_label": y_label, "x": x, "x_names": list(layers), "y": y, "low": low, "high": high}


def _shares(count: int) -> str:
    """How sure a share of so many images is."""
    none, every = (_interval("top1", torch.full((count,), v)) for v in (0.0, 1.0))
    return (
        f"A blind guess finds an image in {1 / count:.1%} of all cases, one of {count}. Shares of {count} images are rough: "
        f"0% means at most {none[2]:.0%}, and 100% at least {every[1]:.0%} (Wilson's 95% interval)."
    )


def _blurred(levels: Tensor) -> Tensor:
    """As a screen shows them, through a Gaussian of σ = `BLUR` pixels; the border is repeated."""
    radius = math.ceil(3 * BLUR)
    line = torch.exp(-(torch.arange(-radius, radius + 1.0) ** 2) / (2 * BLUR**2))
    line = line / line.sum()
    flat = F.pad(levels.clamp(0, 255).flatten(0, 1)[:, None], (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(flat, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1)).view_as(levels)


def _halved(levels: Tensor) -> Tensor:
    """Half the size where that leaves enough for SSIM: less of the attack's noise, a quarter of the work for N x N pairs."""
    return F.avg_pool2d(levels.clamp(0, 255), 2) if min(levels.shape[-2:]) >= 64 else levels


def _word(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.1%}" if name in _RATES or name.startswith("error") else f"{value:.1f}" if name == "psnr" else f"{value:.3f}"
    return str(value)
