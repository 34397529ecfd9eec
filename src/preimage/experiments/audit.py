"""How much of an image can be got back from the features of each layer: inversion as an attack, measured."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, ResultFolderError
from ..inverses.fit import CROPS
from .arguments import StudyArguments, divided
from .attackers import Attacker
from .attacks import DEFAULT, STRENGTHS
from .audit_numbers import RATES, columns
from .base import ChosenParts, Study
from .leakage import EXACT, NAME, Leakage

if TYPE_CHECKING:
    import os

    from typing_extensions import Unpack

PAGE = "audit.html"
SPREAD = 8  # layers that are audited unless they are named
OUTPUT = "output"  # the word for what a network gives at its end, as a model does that is the first half of another

RISK = (
    "What these attacks recover is a lower bound on what leaks: an attacker who has learned from images like these, or who tries "
    "longer, gets more. A low number is no proof of privacy; a high number is proof of a leak."
)


@dataclass(frozen=True)
class Threat:
    """What an audit assumes of the attacker, and who says whose image came back.

    Parameters
    ----------
    attacks : names
        Of `experiments.attacks.ATTACKS`; default `experiments.attacks.DEFAULT`, those that need no minutes of training.
    images : files and folders, optional
        What the attacker's inverses are fitted on; by default the free photographs of `preimage.inverses`. Refused if one of them is
        an audited image.
    crops : int, default 200
        That an inverse is fitted on.
    judge : str, optional
        A network that had no part in the attacks and says whose reconstruction it sees; "auto" takes the first of
        `audit_numbers.JUDGES` that is here, None takes none.

    >>> Threat(attacks=["smoothness"], judge=None).crops
    200
    """

    attacks: Sequence[str] = DEFAULT
    images: Sequence[str | os.PathLike[str]] | None = None
    crops: int = CROPS
    judge: str | None = "auto"


@dataclass(repr=False)
class Audit:
    """What `audit` found.

    table: a row for each layer, release and attack, the guesses made without features, and the controls, as
    `experiments.audit_numbers.COLUMNS` tells; NAME_low and NAME_high are the ends of 95 % intervals. notes: what a reader must know
    beside `RISK`. failed: jobs that have no result, with their reasons. store: the folder with every reconstruction. findings: of each
    layer and release what the strongest attack recovered, with a sentence in plain words.
    """

    table: list[dict[str, Any]]
    notes: list[str]
    failed: dict[str, str]
    store: Path
    findings: list[dict[str, Any]] = field(default_factory=list)

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
        layers = len({row["layer"] for row in self.table if row.get("features") is not None})
        images = max((row["images"] for row in self.table), default=0)
        return f"Audit({layers} layer{'s' * (layers != 1)}, {images} images, {str(self.store)!r})"

    def __str__(self) -> str:
        return self.text()

    def text(self) -> str:
        """What was found, the table and the notes in plain text; `print` shows it too."""
        shown = [c for c in columns() if any(row.get(c) is not None for row in self.table)]
        cells = [shown, *[[_word(c, row.get(c)) for c in shown] for row in self.table]]
        widths = [max(len(line[k]) for line in cells) for k in range(len(shown))]
        lines = [
            "  ".join(f"{c:<{w}}" if k < 3 else f"{c:>{w}}" for k, (c, w) in enumerate(zip(line, widths, strict=True))) for line in cells
        ]
        said = [f["sentence"] for f in self.findings]
        return "\n".join([*said, *[""][: len(said)], *[line.rstrip() for line in lines], "", RISK, *self.notes])


def audit(
    network: str,
    images: Sequence[str | os.PathLike[str]],
    layers: Sequence[str] | str = (),
    *,
    C: float | Sequence[float] | None = None,
    release: Sequence[str] = (),
    threat: Threat | None = None,
    recipe: str | ChosenParts | None = None,
    out: str | os.PathLike[str] | None = None,
    lpips: str | None = "alex",
    say: Callable[[str], None] | None = None,
    **study: Unpack[StudyArguments],
) -> Audit:
    """Attack every layer in several ways with every image, and measure how much of the images came back.

    Parameters
    ----------
    network : name
        As on the command line; it needs layer names.
    images : files
        At least two. One that cannot be read is named in `failed`.
    layers : names, "all", "output", optional
        By default `SPREAD` of the layers that compute something, evenly from the first to the last. "output" is what the network
        gives at its end, as of a model that is the first half of another.
    C : number or several
        Of the attack "smoothness"; by default 20 and 100, or the recipe's. Of each image's reconstructions the one with the smallest
        feature error counts, which an attacker can see too.
    release : texts
        Beside the exact features also these, as in `parse_release` (["bits:4", "noise:0.1", "topk:0.1", "pool:2"]).
    threat : Threat, optional
        The attacks, what the attacker learns from, and who judges.
    recipe : str or ChosenParts
        How "smoothness" makes its images, by name, or with parts as text in the place of its own.
    out : folder, optional
        The store, in which an audit that was stopped goes on; None keeps it as long as the `Audit`.
    lpips : str, optional
        Its network, where its weights are there; a note says if they are not.
    say : callable, optional
        Is told how much work there is, before it begins.

    Other Parameters
    ----------------
    weights, space, size, trust
        Of the network, as on the command line.
    solver, iterations, seed, device, precision
        As in `preimage.invert`.
    workers : int, optional
        Processes that compute; by default one a core.
    progress : bool
        Whether bars are shown.

    Returns
    -------
    Audit

    Raises
    ------
    InputError
        For fewer than two images that can be read, for attacker's images that are audited, and what `load_network` and the layers raise.
    """
    from ..files import atomic_write
    from ..studies.store import store_for
    from .study import run_study

    _at_least_two(len(images))
    parts = recipe if isinstance(recipe, ChosenParts) else ChosenParts(recipe)
    own = STRENGTHS if parts.recipe is None else (parts.strength("invert", 0.0),)
    strengths = own if C is None else (C,) if isinstance(C, (int, float)) else tuple(C)
    threat = threat or Threat()
    settings, workers, progress = divided(study, StudyArguments, "preimage.audit")
    attacker = Attacker(threat.images, threat.crops, progress)
    experiment = Leakage(strengths, (EXACT, *release), lpips, threat.attacks, attacker, threat.judge, say)
    with store_for(tempfile.mkdtemp(prefix="preimage-audit-") if out is None else out) as store:
        whole = Study(store, [Path(i) for i in images], network, parts=parts, **settings)
        whole = replace(whole, layers=chosen_layers(whole, layers))
        _at_least_two(len(whole.photographs))
        done, _ = run_study(whole, {NAME: experiment}, workers=workers, progress=progress)
    summary = experiment.found
    if summary is None:
        raise InputError(f"No job of the audit went well: {next(iter(done.failed.values()), 'there was none')}")
    result = Audit(summary.rows, summary.notes, done.failed, store.path, summary.findings)
    if out is None:
        weakref.finalize(result, shutil.rmtree, store.path, ignore_errors=True)
    with atomic_write(store.path / "summary" / NAME / "table.txt") as file:
        file.write(f"{result.text()}\n".encode())
    return result


def _at_least_two(images: int) -> None:
    if images < 2:
        raise InputError(f"An audit needs at least 2 images that can be read, to find each among them; got {images}.")


def chosen_layers(study: Study, layers: Sequence[str] | str) -> Sequence[str]:
    """All that the study would take, the named ones, or an even spread of those that compute something."""
    if layers == "all":
        return ()
    if layers:
        own = [i.name for i in study.net.layers()]
        named = (layers,) if isinstance(layers, str) else layers
        return [own[-1] if name == OUTPUT and OUTPUT not in own else name for name in named]
    names = [i.name for i in study.features]
    count = min(SPREAD, len(names))
    return [names[round(k * (len(names) - 1) / max(count - 1, 1))] for k in range(count)]


def write_page(store: Path) -> Path:
    """The page of an audit, in its store's folder."""
    from ..report.audit_page import write_audit
    from ..studies.store import Store

    return write_audit(Store.open(store, create=False), store / PAGE, lead=RISK)


def _word(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1%}" if name in RATES or name.startswith("error") else f"{value:.1f}" if name == "psnr" else f"{value:.3f}"
    return str(value)
