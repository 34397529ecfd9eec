"""What another network says of class images, beside them in their record and their captions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..metrics.recognition import Recognition
    from ..networks.network import Network
    from .result import Result

KEY = "recognised"


def judge_result(result: Result, judge: Network) -> Recognition:
    """Let a network that did not make the images of classes say where it puts each class; its answer becomes a part of the record.

    Parameters
    ----------
    result : of `maximize` for classes that have names; its `config["recognised"]` then has the judge, the ranks and the probabilities,
        and `captions` the ranks
    judge : Network
        With class names, as efficientnet-lite0 for squeezenet1_1.

    Returns
    -------
    Recognition

    Raises
    ------
    InputError
        For images of anything but classes, and for a judge that made them or has no such classes.
    """
    from ..metrics.recognition import recognition

    config = result.config
    units = config.get("unit")
    if result.task != "maximize" or not config.get("of_classes") or not isinstance(units, list):
        raise InputError(f"A judge is asked for the classes of images that were made for one; this is {result!r}.")
    classes = [u for u in units for _ in range(int(config["restarts"]))]
    found = recognition(result.images, judge, classes, made_by=str(config["weights_sha256"]))
    config[KEY] = {"judge": found.judge, "rank": found.rank.tolist(), "probability": found.probability.tolist()}
    return found


def said_of(config: dict[str, Any], sample: int) -> str:
    """Return what a record says of a sample, as ", NET: rank 3"; nothing where it says nothing, or what no judge says.

    >>> said_of({"recognised": {"judge": "efficientnet-lite0", "rank": [3]}}, 0)
    ', efficientnet-lite0: rank 3'
    >>> said_of({"recognised": {"rank": "much"}}, 0)
    ''
    """
    found = config.get(KEY)
    if not isinstance(found, dict) or not isinstance(found.get("judge"), str) or not isinstance(found.get("rank"), list):
        return ""
    ranks = found["rank"]
    return f", {found['judge']}: rank {ranks[sample]}" if sample < len(ranks) and type(ranks[sample]) is int else ""
