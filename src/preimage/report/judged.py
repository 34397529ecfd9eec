"""What another network says of the pictures in a store, as numbers of their results."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..bars import progress_bar
from ..errors import InputError, PreimageError, first_line
from ..metrics.recognition import Share, recognition
from .archive import inside

if TYPE_CHECKING:
    from ..networks.network import Network
    from ..studies.store import Record, Store

RANK = "rank by "  # before the judge's name: the name of the number
REVISION = 1  # raised when the number changes


@dataclass
class Judged:
    """What a judge says of a store.

    judge: its name. classes, photographs: the ranks of images made for a class, and of inversions and caricatures of photographs, of
    the class that the judge itself puts first for the photograph. left_out: the reason -> how many results are not judged for it.
    """

    judge: str
    classes: list[int] = field(default_factory=list)
    photographs: list[int] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return what there is to say, a sentence a line.

        >>> print(*Judged("efficientnet-lite0", [1, 1, 7], left_out={"units that are no class": 2}).lines(), sep="\\n")
        efficientnet-lite0 puts the class first for 0.67 [0.21, 0.94] of 3 images of classes, and within five for 0.67 [0.21, 0.94] of 3.
        Not judged: 2, units that are no class.
        """
        said = []
        for ranks, what in ((self.classes, "images of classes"), (self.photographs, "images made from photographs")):
            if ranks:
                first, five = (Share(sum(r <= n for r in ranks), len(ranks)) for n in (1, 5))
                which = "the class" if ranks is self.classes else "the photograph's first class"
                said.append(f"{self.judge} puts {which} first for {first} {what}, and within five for {five}.")
        return [*said, *(f"Not judged: {n}, {why}." for why, n in self.left_out.items())]


def judge_store(store: Store, judge: Network, progress: bool = False) -> Judged:
    """Let a network say where it puts what each picture of a store should show; the rank becomes a number of the result.

    Of a class image that is its class; of an inversion or a caricature the class that the judge puts first for the photograph. What the
    judge made itself, units that are no class that the judge knows, and pictures without colours are left out, and counted. Results that
    this judge has judged before are not judged again.

    Parameters
    ----------
    store : Store
    judge : Network
        With class names, as efficientnet-lite0 for what was made on squeezenet1_1.
    progress : whether a bar is shown

    Returns
    -------
    Judged

    Raises
    ------
    InputError : for a judge without class names
    """
    if not judge.classes:
        raise InputError(f"{judge.card.name} has no class names, so it cannot judge. Choose another: preimage networks")
    name, found = RANK + judge.card.name, Judged(judge.card.name)
    tops: dict[str, int] = {}
    for record in progress_bar(store.records(status="done"), desc="judged", unit="picture", shown=progress):
        try:
            if record.measured.get(name) != REVISION or name not in record.metrics:
                rank = _rank(store, record, judge, tops)
                record = store.add_metrics(record.key, {name: float(rank)}, {name: REVISION})
        except _LeftOut as reason:
            found.left_out[str(reason)] = found.left_out.get(str(reason), 0) + 1
            continue
        except PreimageError as error:
            found.left_out[first_line(error)] = found.left_out.get(first_line(error), 0) + 1
            continue
        (found.classes if record.config.get("task") == "maximize" else found.photographs).append(int(record.metrics[name]))
    return found


class _LeftOut(Exception):
    """Why a result is not judged."""


def _rank(store: Store, record: Record, judge: Network, tops: dict[str, int]) -> int:
    """The place of what the picture should show. tops: the judge's first class of each photograph that was seen before."""
    result = store.result(record.key)
    if result.images.shape[1] != 3:
        raise _LeftOut("pictures without colours")
    if record.config.get("task") == "maximize":
        wanted = _class_of(record, result.config, judge)
    else:
        wanted = _first_class(store, record, judge, tops)
    made_by = result.config.get("weights_sha256")
    return int(recognition(result.images, judge, [wanted], made_by=() if made_by is None else str(made_by)).rank[0])


def _class_of(record: Record, config: Mapping[str, Any], judge: Network) -> int:
    """The class for which an image was made, among the judge's; by its name, where the network that made it has one."""
    unit = record.config.get("unit")
    if not config.get("of_classes"):
        raise _LeftOut("units that are no class")
    if isinstance(unit, int):
        named = re.sub(r" \([0-9]+\)$", "", str(record.config.get("name") or ""))
        if named != judge.class_name(unit):
            raise _LeftOut(f"classes that {judge.card.name} does not have under the same name and number")
        return unit
    if not isinstance(unit, str):
        raise _LeftOut("units that are no class")
    return judge.class_index(unit)


def _first_class(store: Store, record: Record, judge: Network, tops: dict[str, int]) -> int:
    """The class that the judge puts first for the photograph. tops: of those that were seen before."""
    original = inside(store.path, record.config.get("original"))
    if original is None:
        raise _LeftOut("images of no photograph")
    if str(original) not in tops:
        tops[str(original)] = int(judge.predict(original).argmax())
    return tops[str(original)]
