"""Names of classes from files: one a line, JSON, a transformers config, a MatConvNet file, the metadata of an ONNX file."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, first_line

_BYTES = 16 << 20  # of a file of names; those of 21,841 classes have 1 << 20
_KEYS = ("names", "classes", "labels", "class_names", "id2label")  # what exporters write into an ONNX file


def read_labels(labels: str | os.PathLike[str] | Sequence[str]) -> list[str]:
    """Read the names of classes in their order.

    Parameters
    ----------
    labels : list of names, or path
        `.txt`: one a line; `.json`: a list, {"0": name, …}, or a transformers config with `id2label`; `.mat`: of MatConvNet, its
        `classes.description` or `classes.name`, or one cell array of texts; `.onnx`: its metadata.

    Raises
    ------
    InputError
        For a file that holds no such names.

    Examples
    --------
    >>> read_labels(["cat", "dog"])
    ['cat', 'dog']
    """
    if not isinstance(labels, (str, os.PathLike)):
        return _texts(list(labels), "The list of labels")
    path = Path(labels)
    name = f"{str(path)!r}"
    try:
        if path.suffix.lower() in (".mat", ".onnx"):
            return _texts(_of_mat(path) if path.suffix.lower() == ".mat" else _of_onnx_file(path), name)
        if path.stat().st_size > _BYTES:
            raise InputError(f"{name} has more than {_BYTES:,} bytes: it is no list of class names.")
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() != ".json":
            return _texts([line.strip() for line in text.splitlines() if line.strip()], name)
        return _texts(_in_order(json.loads(text)), name)
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{name} holds no class names ({first_line(error)}). Give a text file with one a line, JSON, .mat or .onnx."
        ) from error


def of_onnx(model: Any) -> list[str]:
    """The names in the metadata of an ONNX model, as its exporters write them (JSON, or a Python literal); none where there are none."""
    metadata = {p.key: p.value for p in model.metadata_props}
    for key in _KEYS:
        text = metadata.get(key, "")
        if not text or len(text) > _BYTES:
            continue
        for read in (json.loads, ast.literal_eval):  # a literal is data: nothing in it is run
            try:
                found = _in_order(read(text))
            except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
                continue
            if found and all(isinstance(n, str) for n in found):
                return found
    return []


def check_count(labels: Sequence[str], outputs: int, of: str) -> None:
    """Raises InputError unless there is a name for each output."""
    if len(labels) != outputs:
        raise InputError(f"{len(labels)} labels are given, and the last layer of {of} has {outputs} outputs: give one name for each.")


def _of_onnx_file(path: Path) -> list[str]:
    from ..errors import missing_extra

    try:
        import onnx
    except ImportError as error:
        raise missing_extra(f"{str(path)!r} needs onnx ({error})", "onnx") from error
    try:
        return of_onnx(onnx.load(str(path), load_external_data=False))
    except Exception as error:  # whatever that library raises
        raise InputError(f"{str(path)!r} is no ONNX file, or damaged ({first_line(error)}).") from error


def _of_mat(path: Path) -> list[Any]:
    from .matfile import read_mat

    found: Any = read_mat(path)
    for key in ("net", "meta", "classes"):
        found = found[key] if isinstance(found, Mapping) and isinstance(found.get(key), Mapping) else found
    lists = [v for k in ("description", "name", *found) if isinstance(v := found.get(k), list) and v and all(isinstance(t, str) for t in v)]
    return lists[0] if lists else []


def _in_order(value: Any) -> list[Any]:
    """A list, or the values of {number: name} by their numbers from 0."""
    if isinstance(value, Mapping) and isinstance(value.get("id2label"), Mapping):
        value = value["id2label"]
    if isinstance(value, Mapping):
        numbered = {int(k): v for k, v in value.items()}
        if sorted(numbered) != list(range(len(numbered))):
            raise ValueError(f"the numbers of the classes are not 0 to {len(numbered) - 1}")
        return [numbered[k] for k in range(len(numbered))]
    if not isinstance(value, (list, tuple)):
        raise ValueError("neither a list of names nor {number: name}")
    return list(value)


def _texts(names: list[Any], of: str) -> list[str]:
    if not names or not all(isinstance(n, str) for n in names):
        raise InputError(f"{of} holds no class names, one text for each class.")
    return names
