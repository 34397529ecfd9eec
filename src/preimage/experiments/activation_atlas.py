"""An activation atlas: what a layer tells apart, as a map of images, each made for the mean of many activations (Carter et al. 2019)."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..bars import progress_bar
from ..errors import InputError, PreimageWarning, ResultFolderError, missing_extra
from ..files import atomic_write
from ..inverses.photographs import Crops, digest, gather
from ..methods.recipe import recipe_named
from ..networks.network import weights_hash
from ..pixels.images import write_png
from ..ranges import checked
from ..representations.base import device_of, features_of, module_of
from ..statistics.accumulators import by_channel
from ..statistics.examples import as_pictures

if TYPE_CHECKING:
    from ..representations.cnn import Layer

LAYOUTS = ("tsne", "umap", "pca")
CROPS, EVALUATIONS, CANVAS, RECIPE = 2000, 100, 112, "lucid2017"
EACH = 14  # activations of a cell, on average, where the grid is not given
LEAST = 3  # activations below which a cell stays empty
SHOWN = 9  # natural examples of a cell
THUMBNAIL = 64
RECORD, ACTIVATIONS = "atlas.json", "activations.safetensors"
_BATCH = 16
_TOGETHER = 4  # cells of one call: what is lost when the run is ended


@dataclass(frozen=True)
class Activations:
    """Of N crops one activation each. vectors: (N, C). places: (N, 2), row and column in the map. crops: (N, h, w[, 3]), small, uint8."""

    vectors: Tensor
    places: Tensor
    crops: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Cell:
    """One field of the map. members: which activations are in it, the one nearest to their mean first. direction: (C,) of unit length."""

    row: int
    column: int
    members: Sequence[int]
    direction: Tensor = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.row:02}-{self.column:02}"


def sample_activations(phi: Layer, photographs: Sequence[Any], crops: int = CROPS, *, seed: int = 0, progress: bool = True) -> Activations:
    """Take the activation at one random place of each of many random crops, away from the border where there is room.

    Parameters
    ----------
    phi : Layer
        With a map (C, H, W), or one vector an image.
    photographs : files or pictures
        Crop n is of photograph n modulo their number, 40 to 100 % of its side, every other one mirrored.
    crops : int
        How many, default 2,000.
    seed : int
        Of crops and places.

    Raises
    ------
    InputError
        For a layer of tokens, whose part `:grid` is a map.
    """
    size = phi.space.size
    if size is None or len(phi.shape) not in (1, 3):
        raise InputError(
            f"An activation atlas is of a map or a vector; {phi.name} gives {phi.shape}. Of tokens take the part {phi.name}:grid."
        )
    cut, rng = Crops(photographs, phi.space, size, checked("seed", seed)), np.random.default_rng([seed, 1])
    vectors, places, small = [], [], []
    bar = progress_bar(total=checked("crops", crops), desc="activations", unit="crop", shown=progress)
    with bar, phi.session(), torch.no_grad():
        for start in range(0, crops, _BATCH):
            x = torch.cat([cut[n] for n in range(start, min(start + _BATCH, crops))])
            features = features_of(phi, x.to(device_of(phi))).float().cpu()
            height, width = features.shape[2:] if features.ndim == 4 else (1, 1)
            at = torch.tensor([[_inner(rng, height), _inner(rng, width)] for _ in x])
            flat = by_channel(features)
            vectors.append(flat[torch.arange(len(x)), :, at[:, 0] * width + at[:, 1]])
            places.append(at)
            shrunk = torch.nn.functional.interpolate(phi.space.decode(x), (THUMBNAIL, THUMBNAIL), mode="area")
            small.append(as_pictures(shrunk))
            bar.update(len(x))
    return Activations(torch.cat(vectors), torch.cat(places), np.concatenate(small))


def lay_out(vectors: Tensor, layout: str = "tsne", seed: int = 0) -> Tensor:
    """Place activations in the plane so that alike ones are near each other, by the cosine between them: (N, C) -> (N, 2) from 0 to 1.

    layout: "tsne" and "pca" of scikit-learn, or "umap" (the extra `umap`), as Carter et al. have it. The outermost 1 % on each side are
    moved to the border. Raises InputError for another name and for activations of one direction, and MissingExtra.
    """
    if layout not in LAYOUTS:
        raise InputError(f"A layout is {', '.join(LAYOUTS)}; got {layout!r}.")
    unit = torch.nn.functional.normalize(vectors.double(), dim=1).numpy()
    if bool((unit == unit[:1]).all()):
        raise InputError(
            "All activations have one direction, so there is no map of them: choose a layer of several channels, or other photographs."
        )
    found = torch.from_numpy(np.asarray(_plane(unit, layout, checked("seed", seed)), dtype=np.float64))
    low, high = found.quantile(0.01, dim=0), found.quantile(0.99, dim=0)
    return ((found - low) / (high - low).clamp(min=1e-12)).clamp(0.0, 1.0 - 1e-9)


def cells_of(vectors: Tensor, places: Tensor, grid: int, least: int = LEAST, whiten: bool = False) -> list[Cell]:
    """Gather activations in the fields of a grid x grid map; a field of fewer than `least` is left out.

    Parameters
    ----------
    vectors, places : tensors (N, C) and (N, 2)
        As `sample_activations` and `lay_out` give them.
    whiten : bool
        Take the direction Σ⁻¹(m − μ), with m the field's mean, and μ and Σ mean and covariance of all (shrunk: Ledoit and Wolf 2004), so
        that channels that answer to everything do not make all images alike; default m − μ, whose images looked nearer to their crops.
    """
    mean = vectors.double().mean(dim=0)
    precision = _precision(vectors) if whiten else None
    at = (places * grid).long()
    found = []
    for row in range(grid):
        for column in range(grid):
            members = ((at[:, 1] == row) & (at[:, 0] == column)).nonzero().flatten()
            if len(members) < least:
                continue
            own = vectors[members].double()
            apart = own.mean(dim=0) - mean
            direction = apart if precision is None else precision @ apart
            if not bool(direction.any()):
                continue
            order = torch.nn.functional.cosine_similarity(own - mean, apart[None]).argsort(descending=True, stable=True)
            found.append(Cell(row, column, members[order].tolist(), (direction / direction.norm()).float()))
    return found


def activation_atlas(
    phi: Layer,
    photographs: Any,
    out: str | os.PathLike[str],
    *,
    crops: int = CROPS,
    grid: int | None = None,
    layout: str = "tsne",
    whiten: bool = False,
    canvas: int = CANVAS,
    recipe: str = RECIPE,
    iterations: int = EVALUATIONS,
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> Path:
    """Make the activation atlas of a layer, a folder whose page opens from disk; the same call goes on where an ended one stopped.

    Parameters
    ----------
    phi : Layer
    photographs : files, folders or pictures
    out : path
        The folder.
    crops : int
        Activations that are sampled, one a crop, default 2,000.
    grid : int, optional
        Fields along a side, at least 2, as a direction is how a field differs from all; default as many as give 14 activations a field.
    layout : "tsne", "umap" or "pca"
        As of `lay_out`.
    whiten : bool
        As of `cells_of`.
    canvas : int
        Side of each image in pixels, default 112: it is looked at in small, and costs a quarter of 224.
    recipe : str
        By which images are made, default "lucid2017", which of five that were looked at told fields
        of SqueezeNet's fire8 apart best; the direction is excited over the whole canvas.
    iterations : int
        Evaluations of each image, default 100.
    seed, device, progress : as of `maximize`

    Returns
    -------
    path of the page

    Raises
    ------
    InputError
        For a layer or photographs that cannot be used, and for a folder of another atlas.

    References
    ----------
    Carter, Armstrong, Schubert, Johnson, Olah: Activation atlas, Distill 2019. There the images come from ImageNet, the layout from UMAP,
    and the objective is multiplied by a power of the cosine; here it is the inner product, over the whole canvas.
    """
    from ..report.activation_page import write_activation_atlas

    pictures, module = gather(photographs), module_of(phi)
    crops = checked("crops", crops)
    grid = checked("grid", grid) if grid is not None else max(round((crops / EACH) ** 0.5), 2)
    about: dict[str, Any] = {
        "network": phi.network.card.name if hasattr(phi.network, "card") else type(module).__name__,
        "layer": phi.name,
        "weights_sha256": None if module is None else weights_hash(module),
        "photographs": len(pictures),
        "photographs_sha256": digest(pictures),
        "crops": crops,
        "grid": grid,
        "layout": layout,
        "whiten": whiten,
        "canvas": checked("side", canvas, "canvas"),
        "recipe": recipe_named(recipe).name,
        "iterations": checked("iterations", iterations),
        "seed": seed,
        "scikit-learn": _version(),
    }
    folder = _folder(Path(out), about)
    activations = _kept(folder) or _keep(folder, sample_activations(phi, pictures, crops, seed=seed, progress=progress))
    cells = cells_of(activations.vectors, lay_out(activations.vectors, layout, seed), grid, whiten=whiten)
    if not cells:
        raise InputError(f"No field of the {grid} x {grid} map has {LEAST} activations: take more crops or a smaller grid.")
    failed = _synthesise(phi, cells, folder, about, device, progress)
    for cell in cells:
        _write_examples(folder / "cells" / f"{cell.name}-natural.jpg", activations.crops[list(cell.members[:SHOWN])])
    rows = [
        {
            "row": c.row,
            "column": c.column,
            "count": len(c.members),
            "channels": c.direction.topk(min(5, len(c.direction))).indices.tolist(),
            "failed": failed.get(c.name, ""),
        }
        for c in cells
    ]
    return write_activation_atlas(folder, about, rows)


def _version() -> str:
    """Of what lays out: another one may place activations elsewhere, and images would stand in the wrong fields."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("scikit-learn")
    except PackageNotFoundError:
        raise missing_extra("An activation atlas needs scikit-learn", "shallow") from None


def _inner(rng: np.random.Generator, length: int) -> int:
    """A place along a side that is not its first or last, where there are others."""
    edge = 1 if length > 2 else 0
    return int(rng.integers(edge, length - edge))


def _plane(unit: np.ndarray, layout: str, seed: int) -> Any:
    if layout == "umap":
        try:
            import umap  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            raise missing_extra("The layout umap needs umap-learn", "umap", ", or take tsne") from None
        return umap.UMAP(n_neighbors=min(15, len(unit) - 1), min_dist=0.1, metric="cosine", random_state=seed).fit_transform(unit)
    try:
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
    except ImportError:
        raise missing_extra("A layout is made by scikit-learn", "shallow") from None
    if layout == "pca" or len(unit) < 5:
        return PCA(2, random_state=seed).fit_transform(unit)
    few = PCA(min(50, *unit.shape), random_state=seed).fit_transform(unit)  # as t-SNE's authors advise
    return TSNE(2, perplexity=min(30.0, (len(unit) - 1) / 3), init="pca", random_state=seed).fit_transform(few)


def _precision(vectors: Tensor) -> Tensor:
    try:
        from sklearn.covariance import LedoitWolf
    except ImportError:
        raise missing_extra("Directions are whitened by scikit-learn", "shallow", ", or take whiten=False") from None
    return torch.from_numpy(LedoitWolf().fit(vectors.double().numpy()).precision_)


def _folder(folder: Path, about: dict[str, Any]) -> Path:
    """The folder with its record, new or of the same atlas."""
    record = folder / RECORD
    try:
        if record.is_file():
            found = json.loads(record.read_text(encoding="utf-8"))
            differ = [k for k in about if found.get(k) != about[k]]
            if differ:
                raise InputError(f"{str(folder)!r} is of another atlas: {', '.join(differ)} differ. Name another folder.")
        elif folder.exists() and any(folder.iterdir()):
            raise InputError(f"{str(folder)!r} holds something that is no atlas. Name a new folder.")
        (folder / "cells").mkdir(parents=True, exist_ok=True)
        if not record.is_file():
            with atomic_write(record) as file:
                file.write(json.dumps(about, indent=1).encode())
    except OSError as error:
        raise ResultFolderError(f"{str(folder)!r} cannot be written: {error.strerror or error}.") from error
    return folder


def _keep(folder: Path, found: Activations) -> Activations:
    from safetensors.torch import save

    tensors = {"vectors": found.vectors.contiguous(), "places": found.places, "crops": torch.from_numpy(found.crops.copy())}
    with atomic_write(folder / ACTIVATIONS) as file:
        file.write(save(tensors))
    return found


def _kept(folder: Path) -> Activations | None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not (folder / ACTIVATIONS).is_file():
        return None
    try:
        found = load_file(folder / ACTIVATIONS)
        return Activations(found["vectors"], found["places"], found["crops"].numpy())
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise InputError(f"{str(folder / ACTIVATIONS)!r} cannot be read ({error}). Remove it to sample again.") from error


def _synthesise(
    phi: Layer, cells: Sequence[Cell], folder: Path, about: dict[str, Any], device: str | torch.device | None, progress: bool
) -> dict[str, str]:
    """Write the images that are not there yet; why some could not be made, by the cell's name."""
    import warnings

    from ..errors import OptimizationError
    from ..tasks.maximize import maximize

    failed: dict[str, str] = {}
    left = [c for c in cells if not _image(folder, c).is_file()]
    with progress_bar(total=len(cells), initial=len(cells) - len(left), desc="images", unit="image", shown=progress) as bar:
        for start in range(0, len(left), _TOGETHER):
            some = left[start : start + _TOGETHER]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PreimageWarning)  # the page says which have failed
                try:
                    result = maximize(
                        phi,
                        [c.direction for c in some],
                        canvas=about["canvas"],
                        everywhere=True,
                        recipe=about["recipe"],
                        iterations=about["iterations"],
                        seed=about["seed"],
                        device=device,
                        progress=False,
                    )
                except OptimizationError as error:
                    failed |= {c.name: str(error) for c in some}
                    continue
            for cell, image, status in zip(some, result.images, result.status, strict=True):
                if status == "ok":
                    write_png(_image(folder, cell), image)
                else:
                    failed[cell.name] = status
            bar.update(len(some))
    return failed


def _image(folder: Path, cell: Cell) -> Path:
    return folder / "cells" / f"{cell.name}.png"


def _write_examples(path: Path, crops: np.ndarray) -> None:
    import PIL.Image

    strip = np.concatenate(list(crops), axis=1)
    buffer = io.BytesIO()
    PIL.Image.fromarray(strip).save(buffer, format="JPEG", quality=88)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())
