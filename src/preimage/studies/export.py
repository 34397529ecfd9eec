"""Stimuli: the images of a store or a result as PNGs with readable names, made alike where asked, and a table with a row an image."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import InputError
from ..files import atomic_write
from ..pixels import images as pictures
from ..tasks.folders import RECORD, new_folder
from ..tasks.result import file_names, load_result, plain_json, printable
from .store import Store

TABLE, LIST = "images.csv", "export.json"
_ROUNDS = 20  # of bringing mean and contrast back to what was wanted after values out of 0-255 were cut
_STRAIGHT = ("layer", "representation", "image", "name", "unit", "variant")  # settings that make a name


@dataclass(frozen=True)
class Look:
    """How the exported images look. Sizes in pixels, levels 0-255.

    grey: one channel, the luma of Rec. 601. mean, contrast: of the luma of every image, its mean and its standard deviation; None leaves
    them. alike: mean and contrast of all images are the means over the set, where they are not given. size: of the longer side.
    """

    grey: bool = False
    mean: float | None = None
    contrast: float | None = None
    alike: bool = False
    size: int | None = None

    def __post_init__(self) -> None:
        if self.mean is not None and not 0 <= self.mean <= 255:
            raise InputError(f"mean is a level from 0 to 255; got {self.mean!r}.")
        if self.contrast is not None and not 0 <= self.contrast <= 127.5:
            raise InputError(f"contrast is a standard deviation of levels, from 0 to 127.5; got {self.contrast!r}.")
        if self.size is not None and self.size < 1:
            raise InputError(f"size is a number of pixels of at least 1; got {self.size!r}.")


def export(
    source: str | os.PathLike[str], out: str | os.PathLike[str], look: Look | None = None, *, overwrite: bool = False, **where: Any
) -> list[dict[str, Any]]:
    """Write the images of a store or of a result's folder as PNGs, and images.csv with a row an image; return the rows.

    Parameters
    ----------
    source : path
        A store (`preimage paper`, `preimage invert FOLDER/`) or the folder of one result.
    out : path
        A new or empty folder. It appears whole or not at all.
    look : Look, default as they are
        What is made of every image.
    where : settings
        Of a store, only records with these settings, as ``layer="fire4"``.

    Returns
    -------
    list of dict
        file, every setting and number of the image, and mean, contrast and clipped (share of values that 0-255 cuts) as they were written.

    Raises
    ------
    ResultFolderError, InputError
        Where source holds no image, or out cannot be written.
    """
    look = look or Look()
    path = Path(source)
    if path.resolve() == Path(out).resolve():
        raise InputError(f"The images of {str(path)!r} cannot be written into it. Name another folder.")
    found = list(_of_result(path) if (path / RECORD).is_file() else _of_store(path, where))
    if not found:
        raise InputError(f"{str(path)!r} holds no finished image with these settings. See: preimage runs {path}")
    names = file_names([name for name, _, _ in found])
    levels = [_sized(_shown(image, look.grey), look.size) for _, image, _ in found]
    wanted = _wanted(levels, look)
    rows: list[dict[str, Any]] = []
    with new_folder(Path(out), overwrite) as part:
        for name, image, (_, _, facts) in zip(names, levels, found, strict=True):
            image, clipped = _matched(image, *wanted)
            pictures.write_png(part / f"{name}.png", torch.from_numpy(image if image.ndim == 3 else image[..., None]).permute(2, 0, 1))
            luma = pictures.to_grey(image)
            numbers = {"mean": round(float(luma.mean()), 3), "contrast": round(float(luma.std()), 3), "clipped": round(clipped, 5)}
            rows.append({"file": f"{name}.png", "height": image.shape[0], "width": image.shape[1], **numbers, **facts})
        with atomic_write(part / TABLE) as file:
            file.write(_csv(rows))
        record = {"preimage": 1, "source": printable(str(source)), "look": asdict(look), "files": [*(r["file"] for r in rows), TABLE]}
        (part / LIST).write_bytes(plain_json(record))
    return rows


def _of_store(path: Path, where: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray, dict[str, Any]]]:
    store = Store.open(path, create=False)
    for record in store.records(status="done", **where):
        config = record.config
        parts = [str(config[k]) for k in _STRAIGHT if config.get(k) not in (None, "")]
        name = "-".join([*dict.fromkeys(parts), f"C{config.get('C', 0):g}", f"seed{config.get('seed', 0)}"])
        name += f"-restart{config['restart']}" if config.get("restart") else ""
        image = store.result(record.key).images[0].numpy()
        yield name, image, {"key": record.key, **config, **record.metrics, "seconds": record.seconds}


def _of_result(path: Path) -> Iterator[tuple[str, np.ndarray, dict[str, Any]]]:
    result = load_result(path)
    for b, label in enumerate(result.labels):
        numbers: dict[str, Any] = {k: t[b].item() for k, t in (("error", result.error), ("activation", result.activation)) if t is not None}
        numbers |= {"energy" if k == "total" else f"energy.{k}": v[b].item() for k, v in result.energy.items()}
        facts = {
            "label": label,
            "task": result.task,
            "seed": result.seeds[b],
            "status": result.status[b],
            "evaluations": result.evaluations,
        }
        yield label, result.images[b].numpy(), {**facts, **numbers, **result.config}


def _shown(image: np.ndarray, grey: bool) -> np.ndarray:
    """Levels (H, W) or (H, W, 3), float64."""
    if image.shape[0] not in (1, 3):
        raise InputError(f"An image of {image.shape[0]} channels is no picture; its tensors are in its folder.")
    levels = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
    found: np.ndarray = np.ascontiguousarray(pictures.to_grey(levels) if grey else levels, dtype=np.float64)
    return found


def _sized(levels: np.ndarray, size: int | None) -> np.ndarray:
    if size is None:
        return levels
    scale = size / max(levels.shape[:2])
    height, width = (max(1, round(n * scale)) for n in levels.shape[:2])
    return pictures.resize(levels.astype(np.float32), (height, width)).astype(np.float64)


def _wanted(levels: list[np.ndarray], look: Look) -> tuple[float | None, float | None]:
    """Mean and contrast that every image is to have."""
    if not look.alike:
        return look.mean, look.contrast
    lumas = [pictures.to_grey(np.clip(x, 0, 255)) for x in levels]
    mean = float(np.mean([x.mean() for x in lumas])) if look.mean is None else look.mean
    return mean, float(np.mean([x.std() for x in lumas])) if look.contrast is None else look.contrast


def _matched(levels: np.ndarray, mean: float | None, contrast: float | None) -> tuple[np.ndarray, float]:
    """Shift and scale all channels alike until the luma is as wanted after clipping; the image, and the share of values cut.

    >>> image, cut = _matched(np.array([[10.0, 30.0], [50.0, 70.0]]), 100.0, 20.0)
    >>> round(float(image.mean()), 3), round(float(image.std()), 3), cut
    (100.0, 20.0, 0.0)
    """
    base = np.clip(levels, 0, 255)
    shift, scale = 0.0, 1.0
    centre = float(pictures.to_grey(base).mean())
    for _ in range(_ROUNDS):
        shown = np.clip((base - centre) * scale + centre + shift, 0, 255)
        luma = pictures.to_grey(shown)
        if mean is not None:
            shift += mean - float(luma.mean())
        if contrast is not None and luma.std() > 0:
            scale *= contrast / float(luma.std())
    raw = (base - centre) * scale + centre + shift
    cut = (raw < 0) | (raw > 255) if mean is not None or contrast is not None else (levels < 0) | (levels > 255)
    return np.clip(raw, 0, 255), float(cut.mean())


def _csv(rows: list[dict[str, Any]]) -> bytes:
    """Numbers as numbers; lists and mappings as JSON; nothing where an image has not this column."""
    columns = list(dict.fromkeys(k for row in rows for k in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: json.dumps(v, ensure_ascii=False) if isinstance(v, (dict, list, tuple)) else v for k, v in row.items()})
    return text.getvalue().encode("utf-8", "backslashreplace")
