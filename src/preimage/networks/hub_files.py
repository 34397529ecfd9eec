"""The JSON files of a model folder of Hugging Face's, looked at before any library acts on them.

A folder may come from anybody. transformers builds as many layers as its config.json asks for, makes a label for each of the classes
that it counts, and fetches code from the hub where `attn_implementation` names a repository.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..untrusted import DEPTH, VALUES, is_file

_BYTES = 16 << 20  # of a file; a config of 21,841 classes has 1 << 20
_SIDE, _NUMBER, _LAYERS, _CLASSES, _NAME = 1 << 12, 1 << 20, 1024, 100_000, 1000
PARAMETERS = 1 << 33  # 32 GiB in single precision; the largest image towers have some 2^33 / 1.5
_COUNTS = re.compile(r"(layers|layer|depths?|blocks?|stages|heads|groups|experts)$")  # of parts that are made one by one
_ATTENTION = re.compile(r"_?(attn|attention|experts)_implementation(_internal)?$|_attn_implementation_autoset$")
_BUILT_IN = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention", "grouped_mm", "batched_mm")
_REFUSED = {  # what makes transformers fetch, import or change more than the model
    "quantization_config": "quantized weights",
    "kernel_config": "kernels of its own",
    "use_kernels": "kernels of its own",
    "transformers_weights": "weights of another name",
    "custom_pipelines": "code of its own",
}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises InputError for what is no such file, is too large, too deep or has numbers that are none.
    """
    if not is_file(path):
        raise InputError(f"There is no file {str(path)!r}.")
    if path.stat().st_size > _BYTES:
        raise InputError(f"{str(path)!r} has {path.stat().st_size} bytes, which is no configuration: at most {_BYTES} are read.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise InputError(f"{str(path)!r} is no JSON ({str(error)[:200]}).") from None
    if not isinstance(found, dict):
        raise InputError(f"{str(path)!r} holds no object of names and values.")
    for count, (_, value, depth) in enumerate(_values(found)):
        if depth > DEPTH or count > VALUES:
            raise InputError(f"{str(path)!r} has values nested more than {DEPTH} deep, or more than {VALUES} of them.")
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{str(path)!r} holds {value}, which is no number.")
    return found


def check_config(path: Path) -> None:
    """Look at a config.json: what it asks for must be what this version of transformers has of itself, and not absurd.

    Raises InputError with the file, the name and the value.
    """
    for key, value, _ in _values(read_json(path)):
        if key in _REFUSED and value not in (None, False, {}):
            raise InputError(f"{str(path)!r} asks for {_REFUSED[key]} ({key}), which is not supported. Save the plain model.")
        if _ATTENTION.match(key) and not _known_attention(value):
            raise InputError(
                f"{str(path)!r} asks for the attention {value!s:.80} ({key}); only those that transformers itself has are taken: "
                f"{', '.join(_BUILT_IN)}. Remove that line."
            )
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            most = _CLASSES if key.strip("_") == "num_labels" else _LAYERS if _COUNTS.search(key) else _NUMBER
            if abs(value) > most:
                raise InputError(f"{str(path)!r}: {key[:80]} is {str(value)[:20]}, which is absurd; at most {most} is taken.")
        if key == "architectures" and not (value is None or isinstance(value, (str, list))):
            raise InputError(f"{str(path)!r}: architectures is {str(value)[:80]}, wanted a list of names.")
        if key in ("id2label", "label2id"):
            _labels(path, key, value)


def check_index(path: Path) -> None:
    """Look at an index of weights in several files: each is a file beside it.

    Raises InputError.
    """
    files = read_json(path).get("weight_map")
    if not isinstance(files, dict) or not all(
        isinstance(f, str) and f == Path(f).name and f.endswith(".safetensors") for f in files.values()
    ):
        raise InputError(f"{str(path)!r} does not list .safetensors files beside it.")


def check_processor(path: Path) -> dict[str, Any]:
    """Read what an image processor's file says of pixels, or raise InputError: a mean and a deviation of a few numbers, a sane size."""
    values = read_json(path)
    for key in ("image_mean", "image_std"):
        given = values.get(key)
        if given is not None and not (_few_numbers(given) and (key == "image_mean" or min(given) > 0)):
            raise InputError(f"{str(path)!r}: {key} is {given!s:.80}; wanted one number for each channel.")
    if values.get("image_mean") is not None and len(values["image_mean"]) != len(values.get("image_std") or values["image_mean"]):
        raise InputError(f"{str(path)!r}: image_mean and image_std are of different lengths.")
    factor = values.get("rescale_factor")
    if factor is not None and not (_number(factor) and factor > 0):
        raise InputError(f"{str(path)!r}: rescale_factor is {factor!s:.80}; wanted a number above 0.")
    for key in ("size", "crop_size"):
        given = values.get(key)
        sides = list(given.values()) if isinstance(given, dict) else given if isinstance(given, list) else [given]
        if given is not None and not all(s is None or (isinstance(s, int) and not isinstance(s, bool) and 1 <= s <= _SIDE) for s in sides):
            raise InputError(f"{str(path)!r}: {key} is {given!s:.80}; wanted pixels from 1 to {_SIDE}.")
    return values


def _values(value: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, Any, int]]:
    """Every value with the name that it, or the list around it, has. No deeper than is allowed: what is deeper is given once."""
    yield key, value, depth
    if depth > DEPTH:
        return
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _values(inner, str(name), depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _values(inner, key, depth + 1)


def _known_attention(value: Any) -> bool:
    if isinstance(value, Mapping):  # one for each part of the model
        return all(_known_attention(v) for v in value.values())
    return value is None or isinstance(value, bool) or value in _BUILT_IN


def _labels(path: Path, key: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, dict) or len(value) > _CLASSES:
        raise InputError(f"{str(path)!r}: {key} is no list of at most {_CLASSES} classes.")
    pairs = value.items() if key == "id2label" else ((v, k) for k, v in value.items())
    for index, name in pairs:
        if not isinstance(name, (str, int)) or len(str(name)) > _NAME or not re.fullmatch(r"\d{1,6}", str(index)):
            raise InputError(
                f"{str(path)!r}: {key} gives class {str(index)[:20]!r} the name {str(name)[:40]!r}; wanted a number and a text."
            )
    if key == "id2label" and {int(k) for k in value} != set(range(len(value))):
        raise InputError(f"{str(path)!r}: the numbers of the classes in id2label are not 0 to {len(value) - 1}.")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e6


def _few_numbers(value: Any) -> bool:
    return isinstance(value, list) and 1 <= len(value) <= _NAME and all(map(_number, value))
