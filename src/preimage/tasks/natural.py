"""Natural examples beside synthetic images: what excites the unit among photographs, and whether the network takes both the same way."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..networks.network import Network, weights_hash
from ..ranges import checked
from ..representations.base import Representation, module_of
from ..representations.sessions import evaluating
from ..statistics.hooks import HookedOutput, choose_outputs, run_hooked
from ..statistics.originals import windows
from ..statistics.statistics import Excitation, Statistics, load_statistics

if TYPE_CHECKING:
    from .result import Result

KEY = "natural"
SHOWN = 5  # examples of a unit in its record
_LEAST_SPAN = 0.01  # of rank correlations: below that the ratio is one of two chances
_OTHERS = 8  # other units whose examples say how alike two images are that have nothing to do with each other


@dataclass(frozen=True)
class PathCheck:
    """How alike a network answers, layer by layer, to synthetic images of a unit and to natural ones that excite it.

    layers: names in order, the unit's own layer last. synthetic: (L,) mean rank correlation (Spearman) of the channels' means over the map,
    between synthetic and natural images. natural: between natural images of the unit. others: between natural images of the unit and of
    other units. Each number is a mean over pairs.
    """

    layers: Sequence[str]
    synthetic: Tensor
    natural: Tensor
    others: Tensor

    @property
    def normalised(self) -> Tensor:
        """(L,) 0: no more alike than images of other units; 1: as alike as two natural images of the unit. NaN where these are one."""
        span = self.natural - self.others
        return torch.where(span > 1e-6, (self.synthetic - self.others) / span, torch.nan)

    @property
    def overall(self) -> float | None:
        """The same of the means over all layers; None where natural images of the unit are hardly more alike than those of others."""
        return _share_of_span(*(float(v.mean()) for v in (self.synthetic, self.natural, self.others)))

    @property
    def end(self) -> float | None:
        """The same at the unit's own layer alone."""
        return _share_of_span(*(float(v[-1]) for v in (self.synthetic, self.natural, self.others)))


def _share_of_span(synthetic: float, natural: float, others: float) -> float | None:
    return round((synthetic - others) / (natural - others), 6) if natural - others > _LEAST_SPAN else None


def path_check(phi: Representation, synthetic: Tensor, natural: Tensor, others: Tensor) -> PathCheck:
    """Compare the way of synthetic and of natural images of one unit through the network, up to its layer.

    A feature visualisation can excite a unit by a way that no natural image takes, and then says nothing of what the unit does with
    natural ones. The places of a map are averaged first, so that a texture may be anywhere; the original compares all of them.

    Parameters
    ----------
    phi : Layer
        The unit's layer.
    synthetic, natural, others : tensors (N, C, H, W), canonical, of one size
        Images made for the unit; natural ones that excite it, at least two; natural ones of other units of the layer.

    Returns
    -------
    PathCheck

    Raises
    ------
    InputError
        For a representation that is no layer of a network, and for too few images.

    References
    ----------
    Geirhos, Zimmermann, Bilodeau, Brendel, Kim: Don't trust your eyes: on the (un)reliability of feature visualizations, 2023, Sect. 3.
    """
    if len(synthetic) < 1 or len(natural) < 2 or len(others) < 1:
        raise InputError(
            f"The path check needs a synthetic image, two natural ones of the unit and one of another; got {len(synthetic)}, "
            f"{len(natural)} and {len(others)}."
        )
    return _compared(phi, _outputs(phi), synthetic, natural, others)


def _compared(
    phi: Representation, found: tuple[list[HookedOutput], nn.Module], synthetic: Tensor, natural: Tensor, others: Tensor
) -> PathCheck:
    hooked, module = found
    x = torch.cat([synthetic, natural, others])
    means = _channel_means(phi, module, hooked, x)
    s, n = len(synthetic), len(natural)
    rows = []
    for values in means.values():
        alike = rank_correlation(values)
        own = alike[s : s + n, s : s + n]
        within = (own.sum() - own.diagonal().sum()) / (n * (n - 1))
        rows.append(torch.stack([alike[:s, s : s + n].mean(), within, alike[s : s + n, s + n :].mean()]))
    return PathCheck(list(means), *torch.stack(rows).T)


def natural_check(result: Result, phi: Representation, stats: Statistics | str | os.PathLike[str], shown: int = SHOWN) -> dict[str, Any]:
    """Put the natural examples of its units beside a result of `maximize`, and say where the synthetic images stand among them.

    Parameters
    ----------
    result : Result of `maximize`
        Of units of `phi`, no directions. Its `config["natural"]` then has the record, its captions the share, and its page the examples.
    phi : Layer
        The layer that it was made with.
    stats : Statistics or their file
        Of `collect_statistics`, with crops. The path check needs the originals where they were.
    shown : int
        Examples in the record, default 5.

    Returns
    -------
    dict
        images, how many were counted; units, for each one: channel; examples (path, sha256, value, box, place, jpeg in base64); share,
        for each of its images, of the natural activations that are smaller; times, the image's activation by the largest natural one;
        spread, the mean rank correlation of the layer's answers to its restarts (1: alike), None for one restart; path, the numbers of
        `PathCheck` by layer, over all of them and at the last, or path_missing, why there are none.

    Raises
    ------
    InputError
        For a result of something else, and statistics of another network or other pixels.
    """
    stats = stats if isinstance(stats, Statistics) else load_statistics(stats)
    units = result.config.get("unit")
    if result.task != "maximize" or result.activation is None or not isinstance(units, list):
        raise InputError(f"Natural examples are of units that were maximized; this is {result!r}.")
    module = module_of(phi)
    if module is None:
        raise InputError(f"Natural examples are of a network's layers, and {phi.name} is not one.")
    stats.check(weights_hash(module), phi.space.to_dict())
    natural, times = NaturalExamples(phi, stats), int(result.config["restarts"])
    of = stats[phi.name]
    record: dict[str, Any] = {"images": len(stats.images), "layer": of.name, "units": []}
    for k, unit in enumerate(units):
        if not isinstance(unit, (int, list)):
            raise InputError(f"Statistics know single units, and {unit!r} is a direction.")
        channel = of.channel_of([unit] if isinstance(unit, int) else unit)
        mine = slice(k * times, (k + 1) * times)
        found = natural.of(channel, result.images[mine], result.activation[mine].double().tolist())
        found["examples"] = [_plain(e) for e in found["examples"][: checked("top", shown, "shown")]]
        record["units"].append(found)
    result.config[KEY] = record
    return record


class NaturalExamples:
    """The natural examples of the units of one layer, and what stands beside images that were made for them.

    phi : Layer. stats : Statistics
        Of its network.
    """

    def __init__(self, phi: Representation, stats: Statistics) -> None:
        self.phi, self.stats, self._found = phi, stats, _outputs(phi)

    def of(self, channel: int, images: Tensor, reached: Sequence[float]) -> dict[str, Any]:
        """Return what `natural_check` says of a unit, with its examples as they are; images (R, C, H, W) are levels 0–255."""
        of = self.stats[self.phi.name]
        largest, examples = of.max[channel].item(), self.stats.top(of.name, channel)
        found = {
            "channel": channel,
            "share": [of.share_below(channel, v) for v in reached],
            "times": [v / largest if largest > 0 else None for v in reached],
            "examples": examples,
        }
        x = images - self.phi.space.mean_colour
        return found | {"spread": self._spread(x) if len(x) > 1 else None} | self._path(of.name, channel, examples, x)

    def _path(self, layer: str, channel: int, examples: Sequence[Excitation], synthetic: Tensor) -> dict[str, Any]:
        phi, stats = self.phi, self.stats
        size = (int(synthetic.shape[2]), int(synthetic.shape[3]))
        natural, lost = windows(stats, examples, phi.space, size)
        count = stats[layer].channels
        others = sorted({(channel + 1 + k * max(count - 1, 1) // _OTHERS) % count for k in range(_OTHERS)} - {channel})
        foreign, _ = windows(stats, [e for c in others for e in stats.top(layer, c)[:2] if e.value > 0], phi.space, size)
        if len(natural) < 2 or not len(foreign) or natural.shape[1:] != synthetic.shape[1:]:
            reason = lost[0] if lost else f"{len(natural)} natural examples of {size[0]}x{size[1]} pixels are too few to compare."
            return {"path": None, "path_missing": reason}
        check = _compared(phi, self._found, synthetic, natural, foreign)
        numbers = {k: _numbers(getattr(check, k)) for k in ("synthetic", "natural", "others", "normalised")}
        return {"path": {"layers": list(check.layers), "overall": check.overall, "end": check.end} | numbers}

    def _spread(self, images: Tensor) -> float:
        hooked, module = self._found
        (values,) = _channel_means(self.phi, module, hooked[-1:], images).values()
        alike, n = rank_correlation(values), len(images)
        return float(alike.sum() - n) / (n * (n - 1))


def said_of_nature(config: Mapping[str, Any], sample: int) -> str:
    """Return what a record says of where a sample stands among photographs; nothing where it says nothing.

    >>> said_of_nature({"restarts": 1, "natural": {"units": [{"share": [0.9987], "times": [1.5]}]}}, 0)
    ', above 99.87 % of natural activations'
    >>> said_of_nature({"natural": {"units": "many"}}, 0)
    ''
    """
    try:
        unit, restart = divmod(sample, int(config["restarts"]))
        share = float(config[KEY]["units"][unit]["share"][restart])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return ""
    return f", above {100 * share:.4g} % of natural activations"


def examples_of(config: Mapping[str, Any], unit: int) -> list[bytes]:
    """Return the JPEGs of a unit's natural examples that a record holds; none where it holds nothing, or what is none.

    >>> examples_of({"natural": {"units": [{"examples": [{"jpeg": "/9j/"}, {"jpeg": 3}]}]}}, 0)
    [b'\\xff\\xd8\\xff']
    """
    try:
        found = [e["jpeg"] for e in config[KEY]["units"][unit]["examples"]]
        return [base64.b64decode(j, validate=True) for j in found if isinstance(j, str)]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return []


def strip_of(config: Mapping[str, Any], unit: int, height: int = 64) -> Any:
    """Draw a unit's natural examples beside each other as one PIL picture; None where the record holds none that can be read."""
    return strip(examples_of(config, unit), height)


def strip(jpegs: Sequence[bytes], height: int = 64) -> Any:
    """Draw crops beside each other as one PIL picture; None where none can be read."""
    import PIL.Image

    from ..statistics.examples import open_crop

    crops = []
    for data in jpegs:
        try:
            crops.append(open_crop(data))
        except InputError:
            continue
    if not crops:
        return None
    tiles = [c.resize((max(round(c.width * height / c.height), 1), height), PIL.Image.Resampling.BICUBIC) for c in crops]
    picture = PIL.Image.new("RGB", (sum(t.width for t in tiles) + 4 * (len(tiles) - 1), height), "white")
    for k, tile in enumerate(tiles):
        picture.paste(tile, (sum(t.width + 4 for t in tiles[:k]), 0))
    return picture


def rank_correlation(values: Tensor) -> Tensor:
    """Spearman's correlation between all rows of (N, D), equal values sharing their mean rank; 0 with a row of one value alone.

    >>> rank_correlation(torch.tensor([[1.0, 2.0, 5.0], [2.0, 4.0, 100.0], [3.0, 2.0, 1.0]]))[0].round(decimals=6)
    tensor([ 1.,  1., -1.], dtype=torch.float64)
    """
    ranks = torch.stack([_ranks(row) for row in values.double()])
    ranks = ranks - ranks.mean(dim=1, keepdim=True)
    length = ranks.norm(dim=1, keepdim=True)
    unit = torch.where(length > 0, ranks / length.clamp(min=1e-12), 0.0)
    return (unit @ unit.T).clamp(-1, 1)


def _ranks(row: Tensor) -> Tensor:
    _, place, count = torch.unique(row, return_inverse=True, return_counts=True)
    last = count.cumsum(0).double()
    ranks: Tensor = (last - (count - 1) / 2)[place]
    return ranks


def _outputs(phi: Representation) -> tuple[list[HookedOutput], nn.Module]:
    """The outputs of the network's layers up to phi's own."""
    module, network = module_of(phi), phi.network
    if module is None or phi.space.size is None:
        raise InputError(f"The path check follows a network's layers, and {phi.name} is not one.")
    owner: Network | nn.Module = network if isinstance(network, Network) else module
    own = choose_outputs(owner, module, phi.space, _like(module), [phi.name], 2)[0]
    before = []
    for output in choose_outputs(owner, module, phi.space, _like(module), None, 2):
        if output.dotted == own.dotted:
            break
        before.append(output)
    return [*before, own], module


def _channel_means(phi: Representation, module: nn.Module, hooked: Sequence[HookedOutput], x: Tensor) -> dict[str, Tensor]:
    """(N, channels) of each output, means over its places, image by image so that memory does not grow with their number."""
    from ..statistics.accumulators import by_channel

    found: dict[str, list[Tensor]] = {o.name: [] for o in hooked}

    def take(output: HookedOutput, features: Tensor) -> None:
        found[output.name].append(by_channel(features).double().mean(dim=2).cpu())

    with torch.no_grad(), evaluating(module):
        for image in x.to(_like(module)):
            run_hooked(module, phi.space, image[None], hooked, take)
    return {name: torch.cat(parts) for name, parts in found.items()}


def _like(module: nn.Module) -> Tensor:
    tensors = [*module.parameters(), *module.buffers()]
    return next((t.detach().flatten()[:0] for t in tensors if t.is_floating_point()), torch.empty(0))


def _plain(example: Excitation) -> dict[str, Any]:
    jpeg = None if example.jpeg is None else base64.b64encode(example.jpeg).decode()
    box = None if example.box is None else list(example.box)
    return {
        "image": example.image,
        "sha256": example.digest,
        "value": example.value,
        "place": list(example.place),
        "box": box,
        "jpeg": jpeg,
    }


def _numbers(values: Tensor) -> list[float | None]:
    return [None if v != v else round(v, 6) for v in values.tolist()]
