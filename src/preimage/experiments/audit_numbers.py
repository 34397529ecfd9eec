"""What an audit measures of reconstructions: likeness, who is found again, what an independent network says, controls, intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import metrics
from ..errors import FetchError, InputError, MissingExtra, UnknownName
from ..inverses.learned import LearnedInverse
from ..inverses.start import start_from_inverse
from ..networks.network import Network, load_network, weights_hash
from ..representations.base import device_of, features_of
from ..seeds import generator
from .base import Found, Study

if TYPE_CHECKING:
    from ..studies.store import Record

BLUR = 4.0  # pixels: what a face or a scene looks like to somebody without their glasses; less is the noise of the attack
AMONG = 100  # images among which one is looked for, its own and others: more would make an audit of N images take N² comparisons
JUDGES = ("efficientnet-lite0", "squeezenet1_1")  # the first that is here and not the network that is audited
ATTRIBUTES = 5  # most likely answers of the judge that are compared
OTHERS = 7  # other images that stand for "another image" of each
_MS_SSIM_SIDE = 176
_LPIPS_NAME = "lpips"

COLUMNS = {
    "layer": "of the network, or a guess made without it, or a control",
    "release": "what is known of the features",
    "attack": "by which way the images were got back",
    "protection known": "whether the attacker knows the protection, and has learned with it",
    "strongest": "for which numbers no other attack on this layer and release recovers more",
    "features": "numbers that the layer gives for an image",
    "error": "distance of the reconstruction's features from the image's, relative to their norm",
    "error of another": "the same for another of the images in its place",
    "psnr": "peak signal-to-noise ratio in dB",
    "ssim": "structural similarity, 1 for the same image",
    "ms_ssim": "the same at five scales",
    "lpips": "perceptual distance, 0 for the same image",
    "top1": "share of images whose most likely class comes back, by the audited network",
    "class by judge": "share of images whose most likely class comes back, by an independent network",
    "attributes by judge": "of the five things that the independent network most likely sees in an image, the share that comes back",
    "found by pixels": f"share of images that are nearest to their own reconstruction, by pixels blurred with σ = {BLUR:g}",
    "found by ssim": "the same by structural similarity",
    "found by judge": "the same by an independent network",
    "found by features": "the same by the audited network's last layer",
    "likeness by judge": "cosine between what the independent network sees in both, 1 for the same",
    "utility": "share of images whose most likely class stays as it is, where the rest of the network gets what is released",
    "images": "number of images",
}
RATES = ("top1", "class by judge", "found by pixels", "found by ssim", "found by judge", "found by features", "utility")
FOUND = ("found by judge", "found by ssim", "found by pixels")
"""Ways to find an image again that the attack did not make its own aim."""
SMALLER = ("lpips", "error")  # numbers of which a small one is a strong attack


class Originals(Sequence[Tensor]):
    """The photographs of a study as levels 0–255, (C, H, W) each, read from its store when they are asked for; a few stay in memory."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._read = lru_cache(maxsize=2 * (OTHERS + 1))(self._decoded)

    def __len__(self) -> int:
        return len(self._study.photographs)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        places = range(len(self))[index]
        return self._read(places) if isinstance(places, int) else [self._read(k) for k in places]

    def canonical(self, k: int) -> Tensor:
        """Photograph k as representations take it, (1, C, H, W)."""
        return self._study.store.input(self._study.photographs[k].sha)

    def _decoded(self, k: int) -> Tensor:
        return self._study.net.space.decode(self.canonical(k))[0]


class Comparison:
    """Reconstructions against the originals of a study, one number a sample and name.

    Of each original it keeps what it is looked for by (small pictures, features of the last layer), never all of them at their size.

    lpips: of which network, None for none. judge: a network by name, "auto" for the first of `JUDGES`, None for none. notes: what
    could not be had.
    """

    def __init__(self, study: Study, found: Found, lpips: str | None, judge: str | None = None) -> None:
        self.study, self.found, self.notes = study, found, list[str]()
        self.levels: Sequence[Tensor] = (originals := Originals(study))
        self.canonical = originals.canonical
        self.place = {f"inputs/{p.sha}.png": k for k, p in enumerate(study.photographs)}
        self.last = study.net.layers()[-1].name
        self._wanted = lru_cache(maxsize=4 * (OTHERS + 1))(self._features_of_original)
        self.similarities = self._similarities(lpips)
        self.judge = self._judge(judge)

    def measure(self, layer: str, records: Sequence[Record]) -> dict[str, Tensor]:
        """Of the reconstructions of one layer: name -> (n,). One image is in memory at a time."""
        rows = [self._one(layer, self.found.store.result(r.key).images, self.place[str(r.config["original"])]) for r in records]
        return {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}

    def guesses(self) -> dict[str, dict[str, Tensor]]:
        """What one gets without any features: name of the guess -> name -> (N,)."""
        count, total = len(self.levels), self._total()
        mean = [self._pictures(((total - own) / (count - 1))[None], own[None]) for own in self.levels]
        another = [
            [self._pictures(self.levels[(j + k) % count][None], own[None]) for k in self._shifts()] for j, own in enumerate(self.levels)
        ]
        chance = dict.fromkeys([n for n in self._found_names() if n != "top1"], torch.tensor([1 / min(count, AMONG)]))
        return {
            "mean of the other images": {k: torch.cat([one[k] for one in mean]) for k in mean[0]},
            "another image": {k: torch.cat([torch.stack([o[k] for o in one]).mean(dim=0) for one in another]) for k in another[0][0]}
            | chance,
        }

    def another(self, records: Sequence[Record]) -> dict[str, Tensor]:
        """How often the reconstruction of one image is taken for the next one's: a control, which must be at chance."""
        count = len(self.levels)
        pairs = ((self.found.store.result(r.key).images, (self.place[str(r.config["original"])] + 1) % count) for r in records)
        return self._control(pairs)

    def mean_image(self) -> dict[str, Tensor]:
        """How often the mean of all images is taken for an image: a control, one picture that can be nearest to one image only."""
        mean = self._total()[None] / len(self.levels)
        return self._control((mean, k) for k in range(len(self.levels)))

    def shuffled(self, layer: str, inverse: LearnedInverse) -> dict[str, Tensor]:
        """How often an inverse's answer to the shuffled features of an image is taken for it: a control for what the inverse invents."""
        height, width = self.levels[0].shape[-2:]
        mean = self.study.net.space.mean_colour

        def images() -> Iterator[tuple[Tensor, int]]:
            for k in range(len(self.levels)):
                phi0 = self._wanted(layer, k)
                order = torch.randperm(phi0.numel(), generator=generator(k, "shuffled features"))
                x = start_from_inverse(inverse, phi0.flatten()[order].view_as(phi0), (height, width))
                yield x + mean, k

        return self._control(images())

    def _one(self, layer: str, image: Tensor, source: int) -> dict[str, float]:
        return {
            "error": metrics.normalised_error(self._features(layer, self._canonical(image)), self._wanted(layer, source)).item(),
            "error of another": self._error_of_another(layer, source),
            **{k: v.item() for k, v in self._pictures(image, self.levels[source][None]).items()},
            **self._whose(image, source),
        }

    def _whose(self, image: Tensor, source: int) -> dict[str, float]:
        """Whether an image is nearer to its original than to others, in several ways, and whether the judge sees the same in it."""
        among = self._among(source)
        own, find = torch.tensor([among.index(source)]), metrics.reidentified
        last = self._features(self.last, self._canonical(image))
        found = {
            "found by pixels": float(find(_reduced(blurred(image)), self._blurred[among], own)),
            "found by features": float(find(last, torch.cat([self._last[k] for k in among]), own)),
        }
        if self._halved is not None:
            found["found by ssim"] = float(find(halved(image), self._halved[among], own, lambda a, b: -metrics.ssim(a, b)))
        if self.judge is not None:
            seen, answers = self._judged(image)
            similar = self._embedded[among] @ seen[0]
            likeness = float(similar[own])
            similar[own] = -math.inf
            found |= {"found by judge": float(likeness > float(similar.max())), "likeness by judge": likeness}
            found["class by judge"] = float(answers[0, 0] == self._answers[source, 0])
            found["attributes by judge"] = torch.isin(answers[0], self._answers[source]).float().mean().item()
        return found

    def _control(self, images: Iterable[tuple[Tensor, int]]) -> dict[str, Tensor]:
        """The shares of images that are found, for images that hold nothing of their supposed originals."""
        rows = [self._whose(image, source) for image, source in images]
        return {name: torch.tensor([row[name] for row in rows]) for name in (rows[0] if rows else ()) if name in FOUND}

    def _total(self) -> Tensor:
        """The sum of all originals (C, H, W)."""
        total = torch.zeros_like(self.levels[0])
        for levels in self.levels:
            total += levels
        return total

    def _canonical(self, image: Tensor) -> Tensor:
        return image - self.study.net.space.mean_colour

    def _among(self, source: int) -> list[int]:
        """The image itself and others, in their order, evenly from all of them."""
        count = len(self.levels)
        if count <= AMONG:
            return list(range(count))
        others = [(source + 1 + (k * (count - 1)) // (AMONG - 1)) % count for k in range(AMONG - 1)]
        return sorted({source, *others})

    def _found_names(self) -> list[str]:
        names = ["found by pixels", "found by ssim", "found by judge", "found by features"]
        return [
            n for n in names if (n != "found by judge" or self.judge is not None) and (n != "found by ssim" or self._halved is not None)
        ]

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

    def _features_of_original(self, layer: str, k: int) -> Tensor:
        return self._features(layer, self.canonical(k))

    def _error_of_another(self, layer: str, source: int) -> float:
        """The mean distance between the features of others, in an original's place, and its own."""
        own, count = self._wanted(layer, source), len(self.levels)
        return sum(metrics.normalised_error(self._wanted(layer, (source + k) % count), own).item() for k in self._shifts()) / len(
            self._shifts()
        )

    def _shifts(self) -> range:
        """Which of the others are taken for "another image": the next ones in the list, all of them where they are few."""
        return range(1, min(len(self.levels), OTHERS + 1))

    @cached_property
    def _last(self) -> list[Tensor]:
        return [self._features(self.last, self.canonical(k)) for k in range(len(self.levels))]

    @cached_property
    def _blurred(self) -> Tensor:
        return torch.cat([_reduced(blurred(levels[None])) for levels in self.levels])

    @cached_property
    def _halved(self) -> Tensor | None:
        if self.levels[0].shape[0] not in (1, 3) or min(self.levels[0].shape[-2:]) < metrics.pictures.WINDOW:
            return None
        return torch.cat([halved(levels[None]) for levels in self.levels])

    @cached_property
    def _embedded(self) -> Tensor:
        return self._judgements[0]

    @cached_property
    def _answers(self) -> Tensor:
        return self._judgements[1]

    @cached_property
    def _judgements(self) -> tuple[Tensor, Tensor]:
        every = [self._judged(levels[None]) for levels in self.levels]
        return torch.cat([e for e, _ in every]), torch.cat([c for _, c in every])

    def _judged(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """What the judge sees of an image as a picture: its embedding (1, D) and its most likely classes (1, up to 5), the first first."""
        assert self.judge is not None
        rgb = image.expand(-1, 3, -1, -1) if image.shape[1] == 1 else image
        shown = rgb.detach().cpu().round().clamp(0, 255).to(torch.uint8)[0].permute(1, 2, 0).numpy()
        likely = self.judge.predict(shown).cpu()
        return metrics.embeddings(rgb, self.judge), likely.topk(min(ATTRIBUTES, likely.shape[1]), dim=1).indices

    def _judge(self, name: str | None) -> Network | None:
        """The network that judges; None with a note where there is none."""
        if name is None:
            return None
        if self.levels[0].shape[0] not in (1, 3):
            self.notes.append("No judge: it looks at grey levels or colours.")
            return None
        audited = weights_hash(self.study.net.module)
        for candidate in JUDGES if name == "auto" else (name,):
            try:
                judge = load_network(candidate)
            except (MissingExtra, FetchError) as error:
                if name != "auto":
                    raise
                self.notes.append(f"{candidate} could not judge: {error}")
                continue
            if weights_hash(judge.module) != audited:
                self.notes.append(f"The independent judge is {candidate}, which had no part in any attack.")
                return judge
            if name != "auto":
                raise InputError(f"{candidate} is the audited network, and recognises what was made on itself: name another judge.")
        self.notes.append("No independent judge: no other network is here. `--judge NAME` names one.")
        return None

    def _similarities(self, lpips: str | None) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
        """The metrics that can be had for these images; a note for each that cannot."""
        one = metrics.Seen(self.levels[0][None], self.levels[0][None])
        taken = metrics.measure_image(one, "audit")
        found = {name: _registered(name) for name in taken}
        side = min(self.levels[0].shape[-2:])
        if side < _MS_SSIM_SIDE:
            self.notes.append(f"No MS-SSIM: it needs images of {_MS_SSIM_SIDE} pixels; these have {side}.")
        if lpips is not None and self.levels[0].shape[0] == 3:
            try:
                found[_LPIPS_NAME] = metrics.LPIPS(lpips)
            except (MissingExtra, InputError) as error:
                if isinstance(error, UnknownName):
                    raise
                self.notes.append(f"No LPIPS: {error}")
        return found


def columns() -> dict[str, str]:
    """What an audit's table tells: `COLUMNS`, and the registered metrics that are not in it."""
    more = {n: metrics.METRICS[n].sentence() for n in metrics.METRICS if "audit" in metrics.METRICS[n].shown and n not in COLUMNS}
    return {k: v for k, v in COLUMNS.items() if k != "images"} | more | {"images": COLUMNS["images"]}


def row_of(values: Mapping[str, Tensor], **first: Any) -> dict[str, Any]:
    """A row of the table: means, and the ends of their 95 % intervals as NAME_low and NAME_high."""
    row: dict[str, Any] = {**first, "images": max((len(v) for v in values.values()), default=0)}
    for name, sample in values.items():
        row[name], row[f"{name}_low"], row[f"{name}_high"] = interval(name, sample)
    return row


def interval(name: str, values: Tensor) -> tuple[float, float, float]:
    """The mean and its 95 % interval over images: of a share Wilson's, which is honest at 0 and 1, else the bootstrap's."""
    mean = values.double().mean().item()
    if name not in RATES:
        return (mean, *metrics.bootstrap(values))
    n, z = len(values), 1.96
    centre = (mean + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(mean * (1 - mean) / n + z**2 / (4 * n**2))
    return mean, max(centre - half, 0.0), min(centre + half, 1.0)


def blurred(levels: Tensor) -> Tensor:
    """As a screen shows them, through a Gaussian of σ = `BLUR` pixels; the border is repeated."""
    radius = math.ceil(3 * BLUR)
    line = torch.exp(-(torch.arange(-radius, radius + 1.0) ** 2) / (2 * BLUR**2))
    line = line / line.sum()
    flat = F.pad(levels.clamp(0, 255).flatten(0, 1)[:, None], (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(flat, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1)).view_as(levels)


def halved(levels: Tensor) -> Tensor:
    """Half the size where that leaves enough for SSIM: less of the attack's noise, a quarter of the work for N x N pairs."""
    return F.avg_pool2d(levels.clamp(0, 255), 2) if min(levels.shape[-2:]) >= 64 else levels


def _reduced(smooth: Tensor) -> Tensor:
    """Every other pixel of a blurred image, where it is large enough: a quarter of the numbers, which say nearly the same."""
    return smooth[..., ::2, ::2] if min(smooth.shape[-2:]) >= 64 else smooth


def _registered(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """A registered metric as a function of one image and its original, (1, C, H, W) each -> (1,); NaN where it is not defined."""

    def measure(image: Tensor, original: Tensor) -> Tensor:
        value = metrics.METRICS[name]()(metrics.Seen(image, original))
        return torch.tensor([math.nan if value is None else value])

    return measure
