"""A result made again from what its folder holds."""

from __future__ import annotations

import os
import re
from typing import Any

import torch

from ..errors import InputError
from ..methods.recipe import TASKS, Parts, Recipe
from ..networks.network import Network, load_network, weights_hash
from ..pixels.pixelspace import PixelSpace
from ..representations.base import Representation
from ..representations.masks import parse_mask
from ..representations.release import parse_release
from ..representations.shallow import load_shallow
from ..solvers.compute import Compute
from .caricature import caricature
from .invert import invert
from .maximize import maximize
from .result import Result, load_result


def again(folder: str | os.PathLike[str], phi: Representation | None = None, progress: bool = True) -> Result:
    """Make a result again: the same parts, inputs, seeds and weights, and so the same image, to the bit on the same machine.

    Parameters
    ----------
    folder : of a result, as `Result.save` writes it
    phi : the representation, where it is not a network or descriptor that is known by its name
    progress : whether a bar is shown

    Returns
    -------
    Result

    Raises
    ------
    ResultFolderError : for a folder that holds no result
    InputError : for other weights, and where what decided the image is not in the folder, as a mask or a start of one's own
    """
    old = load_result(folder)
    config = old.config
    if "parts" not in config:
        raise InputError("This result was made by an earlier version, which did not record all that decided it.")
    if len(old.seeds) < int(config.get("restarts", 1)):
        raise InputError("This result is one of several restarts that were pushed apart, and its folder does not hold those before it.")
    phi = _representation(config) if phi is None else phi
    module = phi.module
    if config.get("weights_sha256") and (module is None or weights_hash(module) != config["weights_sha256"]):
        raise InputError(f"The weights are others than those of the result, {str(config['weights_sha256'])[:12]}…")
    parts = Parts.from_plain(config["parts"])
    common: dict[str, Any] = {
        "C": parts.C,
        "seed": old.seeds,
        "dtype": getattr(torch, config["dtype"]),
        "progress": progress,
        "objective": parts.objective or None,
        "parameterization": parts.parameterization,
        "transform": parts.transform,
        "regularizers": parts.regularizers,
        "bound": parts.bound,
        "solver": parts.solver,
        "iterations": parts.iterations,
        "stages": parts.stages,
        "compute": Compute(precision=config.get("precision", "float32"), compiled=bool(config.get("compiled", False))),
    }
    if parts.closed_slope:  # no argument of its own
        own = {t: parts if t == old.task else None for t in TASKS}
        common["recipe"] = Recipe(config.get("recipe") or "this result", "", "", own["invert"], own["maximize"], own["caricature"])
    if config.get("start") not in (None, "noise", "image", "inverse"):
        raise InputError(f"This result began with {config['start']}, which its folder does not hold.")
    common["start"] = config.get("start")
    if old.task == "maximize":
        if any(isinstance(u, str) and u.startswith("direction ") for u in config["unit"]):
            raise InputError("This result is of a direction that was given as a vector, which its folder does not hold.")
        units = [tuple(u) if isinstance(u, list) else u for u in config["unit"]]
        options = {"restarts": config["restarts"], "everywhere": config["everywhere"], "canvas": tuple(config["canvas"]), "Z": config["Z"]}
        return maximize(phi, units, **options, **common)
    assert old.originals is not None
    x0 = old.originals - phi.space.decode(torch.zeros(1, phi.space.count, 1, 1))
    mask = config.get("mask")
    if mask is not None and str(mask).startswith(("tensor", "function")):
        raise InputError("This result has a mask of its maker's own, which its folder does not hold.")
    common |= {"mask": None if mask is None else parse_mask(mask), "fit": config.get("fit")}
    if old.task == "caricature":
        return caricature(phi, x0, **common)
    if config.get("release"):
        common["release"] = parse_release(config["release"])
    restarts = int(config["restarts"])
    return invert(phi, x0[::restarts], restarts=restarts, **common)


def _representation(config: dict[str, Any]) -> Representation:
    if config.get("network") is None:
        try:
            return load_shallow(str(config["representation"]))
        except (InputError, KeyError):
            raise InputError(f"{config['representation']} is no network or descriptor that is known by its name: give it as phi.") from None
    size = PixelSpace.from_dict(config["space"]).size
    weights = str(config.get("weights"))
    seeded = re.fullmatch(r"random \(seed (\d+)\)", weights)
    network: Network = load_network(config["network"], weights=None if seeded else weights, size=size, seed=int(seeded[1]) if seeded else 0)
    return network.layer(config["representation"], leak=config.get("leak", 0.0))
