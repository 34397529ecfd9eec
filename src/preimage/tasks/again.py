"""A result made again from what its folder holds."""

from __future__ import annotations

import os
import re
from typing import Any

import torch

from ..errors import InputError, Interrupted
from ..methods.recipe import TASKS, Parts, Recipe
from ..networks.network import Network, load_network, named_by_file, weights_hash
from ..pixels.pixelspace import PixelSpace
from ..representations.base import Representation
from ..representations.masks import parse_mask
from ..representations.release import parse_release
from ..representations.shallow import load_shallow
from ..solvers.compute import Compute
from ..solvers.memory import State
from ..solvers.monitor import Monitor
from .caricature import caricature
from .invert import invert
from .maximize import maximize
from .result import Result, load_kept, load_result


def again(
    folder: str | os.PathLike[str],
    phi: Representation | None = None,
    progress: bool = True,
    *,
    resume: bool = False,
    iterations: int | None = None,
    trust: bool = False,
    monitor: Monitor = Monitor(),  # noqa: B008 (frozen)
) -> Result:
    """Make a result again: the same parts, inputs, seeds and weights, and so the same image, to the bit on the same machine.

    With resume=True the run goes on from where it was left, which gives the bits of one that was never interrupted.

    Parameters
    ----------
    folder : of a result, as `Result.save` writes it
    phi : the representation, where it is not a network or descriptor that is known by its name
    progress : whether a bar is shown
    resume : continue the run of the folder, which must have been made with Monitor(keep_state=True)
    iterations : how many in all, those that are done included; default as many as the run was to have
    trust : open a network that the folder names as package.module:function or as a program: this runs code, which can do whatever you can
    monitor : `Monitor`: frames, watch, keep_state

    Returns
    -------
    Result

    Raises
    ------
    ResultFolderError : for a folder that holds no result
    InputError : for a network that is code, without trust; for other weights; where what decided the image is not in the folder, as a mask
        or a start of one's own; and for a run that has ended or that does not go on for so many iterations
    Interrupted : on Ctrl-C, or when the monitor asks for it, with what was found
    """
    old = load_result(folder)
    config = old.config
    if "parts" not in config:
        raise InputError("This result was made by an earlier version, which did not record all that decided it.")
    if len(old.seeds) < int(config.get("restarts", 1)):
        raise InputError("This result is one of several restarts that were pushed apart, and its folder does not hold those before it.")
    phi = _representation(config, trust) if phi is None else phi
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
        "iterations": parts.iterations if iterations is None else iterations,
        "stages": parts.stages,
        "compute": Compute(precision=config.get("precision", "float32"), compiled=bool(config.get("compiled", False))),
        "monitor": monitor,
    }
    if iterations is None and (quality := config.get("quality")):  # it says the length, unless the recipe has one of its own
        planned = sum(s["iterations"] for phase in config["plan"] for s in phase["stages"])
        common |= {"quality": quality} if parts.iterations is None else {"iterations": planned}
    if parts.closed_slope or parts.pool_share:  # no arguments of their own
        own = {t: parts if t == old.task else None for t in TASKS}
        common["recipe"] = Recipe(config.get("recipe") or "this result", "", "", own["invert"], own["maximize"], own["caricature"])
    if config.get("seen"):
        raise InputError("This result exaggerates the features of another image (seen), which its folder does not hold.")
    state = _state(folder, old, iterations) if resume else None
    if state is not None:
        common["resume"] = state
    elif config.get("start") not in (None, "noise", "image", "inverse"):
        raise InputError(f"This result began with {config['start']}, which its folder does not hold.")
    else:
        common["start"] = config.get("start")
    try:
        return _named(_made(phi, old, state, common), old)
    except Interrupted as stop:
        if stop.result is not None:
            _named(stop.result, old)
        raise


def _named(made: Result, old: Result) -> Result:
    """The result with the names of the old one, the files that it was made of, and where its divisors are from."""
    made.labels = old.labels
    made.config |= {k: old.config[k] for k in ("files", "M", "M_source", "inverse", "quality") if k in old.config}
    return made


def _state(folder: str | os.PathLike[str], old: Result, iterations: int | None) -> State:
    """From which the run goes on. Raises InputError for one that has ended."""
    state = load_kept(folder)
    if iterations is None and not old.interrupted:
        raise InputError(f"This run has ended after {state.evaluations} evaluations. Say how many it is to have in all: --iterations N.")
    return state


def _made(phi: Representation, old: Result, state: State | None, common: dict[str, Any]) -> Result:
    """The task of a result once more, with its own names."""
    config = old.config
    if old.task == "maximize":
        if any(isinstance(u, str) and u.startswith("direction ") for u in config["unit"]):
            raise InputError("This result is of a direction that was given as a vector, which its folder does not hold.")
        units = [tuple(u) if isinstance(u, list) else u for u in config["unit"]]
        options = {"restarts": config["restarts"], "everywhere": config["everywhere"], "canvas": tuple(config["canvas"])}
        if Parts.from_plain(config["parts"]).takes_divisor:
            options["Z"] = config["Z"]
        return maximize(phi, units, **options, **common)
    assert old.originals is not None
    x0 = old.originals - phi.space.decode(torch.zeros(1, phi.space.count, 1, 1))
    if state is not None and state.x0 is not None:
        x0 = state.x0  # exactly
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


def _representation(config: dict[str, Any], trust: bool) -> Representation:
    if config.get("network") is None:
        try:
            return load_shallow(str(config["representation"]))
        except (InputError, KeyError):
            raise InputError(f"{config['representation']} is no network or descriptor that is known by its name: give it as phi.") from None
    space = PixelSpace.from_dict(config["space"])
    name = named_by_file(str(config["network"]), trust)
    weights = str(config.get("weights"))
    seeded = re.fullmatch(r"random \(seed (\d+)\)", weights)
    seed = int(seeded[1]) if seeded else 0
    network: Network = load_network(name, weights=None if seeded else weights, space=space, seed=seed, trust=trust)
    return network.layer(config["representation"], leak=config.get("leak", 0.0))
