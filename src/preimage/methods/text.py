"""Parts as text, as on the command line and in jobs: "name:setting=value"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..energy import registered as _registered  # noqa: F401  # the parts of all methods
from ..energy.objectives import OBJECTIVES, Objective, Objectives
from ..energy.parameterizations import PARAMETERIZATIONS
from ..energy.regularizers import REGULARIZERS, Regularizer
from ..energy.transforms import TRANSFORMS, Transform
from ..errors import InputError
from ..plain import parse
from . import recipe as _recipe  # noqa: F401  # registers all objectives


def parts_from_text(
    objective: Sequence[str] = (),
    transform: Sequence[str] = (),
    parameterization: str | None = None,
    prior: Sequence[str] = (),
    regularizers: Mapping[str, Regularizer] | None = None,
) -> dict[str, Any]:
    """Return keyword arguments of a task for parts that are given as text; None where nothing is.

    Parameters
    ----------
    objective : "name:setting=value", with a weight as "0.5*name"; several are added up
    transform : several are applied one after the other
    parameterization : one
    prior : regularizers, instead of all others; "none" for no regularizer
    regularizers : what holds without a prior

    Raises
    ------
    UnknownName, InputError : for a name or a setting that is not there

    >>> parts_from_text(prior=["tv-beta:beta=1"])["regularizers"]
    {'tv-beta': TVBeta(beta=1.0, V=12.307692307692308)}
    """
    found = [_objective(o) for o in objective]
    priors = None if not prior else {p.partition(":")[0]: parse(p, REGULARIZERS) for p in prior if p != "none"}
    return {
        "objective": None if not found else found[0] if len(found) == 1 else Objectives(tuple(found)),
        "transform": _transform(transform),
        "parameterization": None if parameterization is None else parse(parameterization, PARAMETERIZATIONS),
        "regularizers": regularizers if priors is None else priors,
    }


def _objective(text: str) -> Objective:
    weight, star, rest = text.rpartition("*")
    found: Objective = parse(rest, OBJECTIVES)
    if not star:
        return found
    try:
        return float(weight) * found
    except ValueError:
        raise InputError(f"A weight before an objective is a number, as 0.5*match; got {text!r}.") from None


def _transform(texts: Sequence[str]) -> Transform | None:
    found = [parse(t, TRANSFORMS) for t in texts]
    if len(found) > 1:
        compose: Any = TRANSFORMS["compose"]
        found = [compose(parts=tuple(found))]
    return found[0] if found else None
