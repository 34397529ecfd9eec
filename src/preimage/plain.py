"""Settings as data: a frozen dataclass <-> plain values <-> "name:key=value". Records, keys and flags are made of these."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, Union

from .errors import InputError
from .registry import Registry

P = TypeVar("P")
LATER = {"later": True}
"""Metadata of a field that a class did not have at first: left out of plain values at its default, so that old records and keys stay."""
FILE = {"file": True}
"""Metadata of a field whose value names a file, so that who may not name any can be told so."""
_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def to_plain(part: Any, registry: Registry[Any]) -> dict[str, Any]:
    """Return {"name": …, field: value …}, of which `from_plain` makes the part again.

    Fields that are not compared are left out, and those that are `LATER` where they have their default.

    Parameters
    ----------
    part : a frozen dataclass of a registered class
    registry : where its class has its name; parts inside a part are of the same registry

    Raises
    ------
    InputError : if the class is not registered, as a user's own may not be

    >>> from .energy.transforms import TRANSFORMS, Jitter
    >>> to_plain(Jitter(3), TRANSFORMS)
    {'name': 'jitter', 'amount': 3}
    """
    return {"name": name_of(part, registry)} | {
        f.name: _plain(getattr(part, f.name), registry)
        for f in _settings(type(part))
        if not (f.metadata.get("later") and getattr(part, f.name) == f.default)
    }


def from_plain(data: Mapping[str, Any], registry: Registry[Any]) -> Any:
    """Return the part that plain values name: the other way of `to_plain`.

    Raises
    ------
    InputError : for a setting that the class does not have, or a value of another type
    UnknownName : for a name that is not registered

    >>> from .energy.transforms import TRANSFORMS
    >>> from_plain({"name": "jitter", "amount": 3}, TRANSFORMS)
    Jitter(amount=3)
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("name"), str):
        raise InputError(f"A {registry.kind} is given as {{'name': …, setting: value, …}}; got {data!r}.")
    given = {k: v for k, v in data.items() if k != "name"}
    return _build(registry[data["name"]], data["name"], given, registry, _from_value)


def names_in(plain: Any) -> list[str]:
    """Return the name of a part that is given as plain values, and those of the parts inside it.

    >>> names_in({"name": "compose", "parts": [{"name": "crops", "low": 0.4}, {"name": "noise"}]})
    ['compose', 'crops', 'noise']
    """
    if isinstance(plain, (list, tuple)):
        return [name for value in plain for name in names_in(value)]
    if not isinstance(plain, Mapping):
        return []
    own = [plain["name"]] if isinstance(plain.get("name"), str) else []
    return own + [name for key, value in plain.items() if key != "name" for name in names_in(value)]


def parse(text: str, registry: Registry[Any]) -> Any:
    """Return the part that a text names, as on the command line: "name" or "name:key=value,key=value"; "/" stands between those of a list.

    A part inside a part is written in brackets where it has settings: "compose:parts=[crops:low=0.4,high=0.8]/noise".

    Raises
    ------
    InputError : for a setting that the class does not have, or a value that cannot be read
    UnknownName : for a name that is not registered

    >>> from .energy.transforms import TRANSFORMS
    >>> parse("jitter:amount=3", TRANSFORMS)
    Jitter(amount=3)
    """
    name, _, rest = text.partition(":")
    cls = registry[name.strip()]
    given: dict[str, Any] = {}
    for pair in filter(None, (p.strip() for p in _split(rest, ","))):
        key, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"A {registry.kind} is written name:key=value,key=value; got {text!r}.")
        given[key.strip().replace("-", "_")] = value.strip()
    return _build(cls, name.strip(), given, registry, _from_text)


def spell(part: Any, registry: Registry[Any]) -> str:
    """Return the text that `parse` reads as this part, with the settings that are not at their defaults.

    >>> from .energy.transforms import TRANSFORMS, Jitter
    >>> spell(Jitter(3), TRANSFORMS), spell(Jitter(), TRANSFORMS)
    ('jitter:amount=3', 'jitter')
    """
    pairs = [(f.name, getattr(part, f.name)) for f in _settings(type(part)) if getattr(part, f.name) != f.default]
    text = ",".join(f"{k}={_spelled(v, registry)}" for k, v in pairs)
    return name_of(part, registry) + (f":{text}" if text else "")


def name_of(part: Any, registry: Registry[Any]) -> str:
    """Return the name under which the class of a part is registered."""
    for name in registry:
        if registry[name] is type(part):
            return name
    raise InputError(f"{type(part).__name__} is no registered {registry.kind}: only what is registered can be kept as plain data.")


def is_plain(part: Any, registry: Registry[Any]) -> bool:
    """Return whether a part can be kept as plain values: its class is registered."""
    return any(registry[name] is type(part) for name in registry)


def _settings(cls: type) -> list[dataclasses.Field[Any]]:
    return [f for f in dataclasses.fields(cls) if f.init and f.compare]


def _plain(value: Any, registry: Registry[Any]) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(v, registry) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    return to_plain(value, registry)


def _build(cls: Any, name: str, given: Mapping[str, Any], registry: Registry[Any], read: Any) -> Any:
    hints = typing.get_type_hints(cls)
    known = {f.name for f in _settings(cls)}
    if extra := sorted(set(given) - known):
        raise InputError(f"The {registry.kind} {name!r} has no setting {extra[0]!r}. It has: {', '.join(sorted(known)) or 'none'}.")
    values = {}
    for key, value in given.items():
        try:
            values[key] = read(value, hints[key], registry)
        except (TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"The setting {key} of the {registry.kind} {name!r} cannot be {value!r}: {error}.") from None
    try:
        return cls(**values)
    except TypeError as error:
        raise InputError(f"The {registry.kind} {name!r} is not complete: {error}.") from None


def _spelled(value: Any, registry: Registry[Any]) -> str:
    if isinstance(value, (tuple, list)):
        return "/".join(_spelled(v, registry) for v in value)
    if value is None or isinstance(value, (str, bool, int, float)):
        return str(value)
    text = spell(value, registry)
    return f"[{text}]" if ":" in text else text


def _split(text: str, mark: str) -> list[str]:
    """What stands between marks that are in no brackets.

    >>> _split("a=1,b=[c:d=2,e=3]", ",")
    ['a=1', 'b=[c:d=2,e=3]']
    """
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == mark and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _from_text(text: str, hint: Any, registry: Registry[Any]) -> Any:
    """A value of the type that a field has, of its text."""
    kinds = [int, float, str] if hint is Any else _kinds(hint)
    if type(None) in kinds and text.lower() in ("none", ""):
        return None
    for kind in kinds:
        if typing.get_origin(kind) is tuple:
            inner = typing.get_args(kind)[0]
            return tuple(_from_text(t, inner, registry) for t in _split(text, "/") if t)
    if bool in kinds and text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                continue
    if str in kinds:
        return text
    if not {bool, int, float} & set(kinds):
        return parse(text[1:-1] if text.startswith("[") and text.endswith("]") else text, registry)
    raise ValueError(f"wanted {_wanted(kinds)}")


def _from_value(value: Any, hint: Any, registry: Registry[Any]) -> Any:
    """A value of the type that a field has, of a plain one."""
    if hint is Any and not isinstance(value, Mapping):
        return tuple(value) if isinstance(value, list) else value
    kinds = _kinds(hint)
    if isinstance(value, (list, tuple)):
        for kind in kinds:
            if typing.get_origin(kind) is tuple:
                inner = typing.get_args(kind)[0]
                return tuple(_from_value(v, inner, registry) for v in value)
    if isinstance(value, Mapping):
        return from_plain(value, registry)
    if isinstance(value, bool) and bool in kinds:
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if int in kinds and float(value) == int(value):
            return int(value)
        if float in kinds:
            return float(value)
    if isinstance(value, str):
        return _from_text(value, hint, registry)
    if value is None and type(None) in kinds:
        return None
    raise ValueError(f"wanted {_wanted(kinds)}")


def _kinds(hint: Any) -> list[Any]:
    origin = typing.get_origin(hint)
    return list(typing.get_args(hint)) if origin in (Union, types.UnionType) else [hint]


def _wanted(kinds: list[Any]) -> str:
    return " or ".join(getattr(k, "__name__", str(k)) for k in kinds)
