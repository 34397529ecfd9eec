"""Inverses that need not be given: those that come with the package, and those that are fitted when first asked for and kept."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..networks.fetch import cache_folder
from ..representations.base import Representation, RepresentationLike, as_representation
from .fit import REVISION, fit_inverse
from .fitting import SIDE
from .learned import LearnedInverse, identity, probe
from .reading import load_inverse, read

SHIPPED = {"squeezenet1_1": ("fire2", "fire3", "fire4", "fire5")}
"""Networks and layers whose inverses the package carries: fitted by `fit_inverse` with its defaults, on the free photographs."""


def shipped_inverse(phi: RepresentationLike) -> LearnedInverse | None:
    """Return the inverse that the package carries for a representation, or None: for other layers, weights and pixels.

    Parameters
    ----------
    phi : representation
        Any; only a layer of an embedded network, with the weights that it comes with, has one.

    Returns
    -------
    LearnedInverse or None

    >>> import preimage
    >>> net = preimage.load_network("squeezenet1_1")
    >>> shipped_inverse(net.layer("fire4"))
    LinearInverse(of fire4, 3x3 cells, rank 128, 21.4 dB on photographs held out)
    >>> shipped_inverse(net.layer("fire9")) is None
    True
    """
    phi = as_representation(phi)
    network: Any = phi.network
    if network is None or phi.name not in SHIPPED.get(network.card.name, ()):
        return None
    found = _carried(network.card.name, phi.name)
    try:
        found.check(phi)
    except InputError:  # other weights, or other pixels
        return None
    return found


def inverse_of(phi: RepresentationLike, progress: bool = True) -> LearnedInverse:
    """Return the inverse of a representation: the package's, or the one in the cache folder, or a new one, which is kept there.

    A new one is fitted on the free photographs with the defaults of `fit_inverse`, so that the same request has the same inverse
    whenever it is made; only the time differs.

    Parameters
    ----------
    phi : representation
        One that gives a map of features.
    progress : bool, default True
        Whether a new fit shows a bar.

    Returns
    -------
    LearnedInverse

    Raises
    ------
    InputError
        For features without a grid, and images that are neither grey nor in colour.
    MissingExtra
        Without the packages that carry the free photographs.

    >>> import preimage
    >>> inverse_of(preimage.load_network("squeezenet1_1").layer("fire2"))
    LinearInverse(of fire2, 3x3 cells, rank 128, 26.0 dB on photographs held out)
    """
    phi = as_representation(phi)
    found = shipped_inverse(phi)
    if found is not None:
        return found
    if phi.space.count not in (1, 3):
        raise InputError(
            f"{phi.name} takes {phi.space.count} channels, and the photographs that an inverse is fitted on by itself have 1 or 3: "
            "fit one on images of your own with preimage.fit_inverse, and give it as start=."
        )
    if phi.module is None:  # nothing tells one function from another: not kept
        return fit_inverse(phi, progress=progress)
    path = _kept(phi)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fit_inverse(phi, progress=progress).save(path)
    return load_inverse(path, phi)


def keep_inverse(facts: Mapping[str, Any], fit: Callable[[], LearnedInverse]) -> str:
    """Fit an inverse unless one of these facts is in the cache folder already, and return the name by which `kept_inverse` gives it.

    Parameters
    ----------
    facts : mapping of plain values
        All that decides the inverse: what it is of, what it is fitted on, and how.
    fit : callable
        Gives the inverse.

    Returns
    -------
    str
        32 digits, made of the facts and the revision of fits: the same wherever the inverse is fitted.
    """
    text = json.dumps([dict(facts), REVISION], sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:32]
    path = _named(name)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fit().save(path)
    return name


def kept_inverse(name: str) -> LearnedInverse:
    """Return the inverse that `keep_inverse` has named so. Raises InputError where the cache folder does not hold it any more."""
    if re.fullmatch(r"[0-9a-f]{32}", name) is None:
        raise InputError(f"An inverse that was kept is named by 32 digits; got {name!r}.")
    path = _named(name)
    if not path.exists():
        raise InputError(f"The inverse {name} is not in the cache folder any more. Start the run again, which fits it.")
    return _read(path, path.stat().st_mtime_ns)


def _named(name: str) -> Path:
    return cache_folder() / "inverses" / f"attack-{name}.safetensors"


@lru_cache(maxsize=8)
def _read(path: Path, changed: int) -> LearnedInverse:
    return read(path)


def _kept(phi: Representation) -> Path:
    """Where an inverse of this representation is kept: a readable name, and a digest of all that decides it."""
    facts = json.dumps([identity(phi), probe(phi, phi.space.size or (SIDE, SIDE)).tolist(), REVISION], sort_keys=True)
    name = re.sub(r"[^\w.-]+", "-", phi.name)[:40]
    return cache_folder() / "inverses" / f"{name}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}.safetensors"


@lru_cache(maxsize=8)
def _carried(network: str, layer: str) -> LearnedInverse:
    with as_file(files("preimage") / "data" / f"inverse-{network}-{layer}.safetensors") as path:
        return read(path)
