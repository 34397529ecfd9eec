"""MAT-files as plain values: dictionaries, lists, strings and arrays. Versions 5 and 7 through scipy, 7.3 (HDF5) through h5py.

A file may come from anybody. Before scipy opens one, its structure is walked: scipy follows nesting without a bound (a few megabytes
of nested cells end the process) and makes room for as many cells as a header claims. HDF5 files are read along links and references
inside the file only, each value once counted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import InputError, first_line, missing_extra
from ..untrusted import DEPTH, VALUES, Damaged, bounded
from .matwalk import Walk

_HDF5 = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class Unreadable:
    """A value that is no data, such as a MATLAB object or a function handle. It is an error only where it is needed."""

    kind: str


def read_mat(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The variables of a file. A struct is a dict, or a list of dicts if it is an array; a cell array a list, column by column; text a
    string; numbers an array in MATLAB's order of dimensions; anything else an `Unreadable`.

    Raises InputError for what is no MAT-file of version 5, 7 or 7.3, is damaged, or unpacks to something absurd.
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe or a device would be waited for
            raise Damaged("it is no ordinary file")
        with path.open("rb") as stream:
            start = stream.read(520)
            size = os.fstat(stream.fileno()).st_size
            if _HDF5 in (start[:8], start[512:520]):
                return _read_hdf5(path, size)
            if start[126:128] not in (b"IM", b"MI") or start[124:126] not in (b"\x00\x01", b"\x01\x00"):
                raise Damaged("it does not begin as one of version 5, 7 or 7.3 does")
            names = Walk(stream, size, ">" if start[126:128] == b"MI" else "<").file()
            return _read_scipy(stream, names)
    except Damaged as error:
        raise InputError(f"{str(path)!r} is no MAT-file that can be read, or damaged: {error}.") from None
    except (OSError, ValueError) as error:  # of the path, as a zero byte in it
        raise InputError(f"{str(path)!r} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def _read_scipy(stream: BinaryIO, names: Sequence[str]) -> dict[str, Any]:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise missing_extra("Reading a MAT-file needs scipy", "matlab") from error
    try:
        # only what the walk saw has a name; what has none is for MATLAB's own objects
        found = loadmat(stream, variable_names=[name for name in dict.fromkeys(names) if name])
    except Exception as error:  # scipy raises whatever a damaged byte leads to
        raise Damaged(first_line(error).rstrip(".")) from error
    return {name: _plain(value) for name, value in found.items() if not name.startswith("__")}


def _plain(value: Any) -> Any:
    """What scipy gives, as plain values. The depth was bounded by the walk."""
    if not isinstance(value, np.ndarray) or type(value) is not np.ndarray:
        return Unreadable("function handle" if "Function" in type(value).__name__ else "object or sparse matrix")
    if value.dtype.names is not None:
        entries = [{n: _plain(entry[n]) for n in value.dtype.names} for entry in value.flatten(order="F")]
        return entries[0] if len(entries) == 1 else entries
    if value.dtype.kind == "O":
        return [_plain(v) for v in value.flatten(order="F")]
    if value.dtype.kind == "U":
        rows = [str(row) for row in value.ravel()]
        return rows[0] if len(rows) == 1 else rows if rows else ""
    return value if value.dtype.kind in "fiub" else Unreadable(f"array of {value.dtype}")


def _read_hdf5(path: Path, size: int) -> dict[str, Any]:
    try:
        import h5py
    except ImportError as error:
        raise missing_extra("Reading a MAT-file of version 7.3 needs h5py", "matlab") from error
    try:
        with h5py.File(path, "r") as file:
            reader = _Hdf5(file, size)
            return {name: reader.value(node, 0) for name, node in reader.members(file) if not name.startswith("#")}
    except Damaged:
        raise
    except Exception as error:  # h5py raises whatever the library finds wrong
        raise Damaged(first_line(error).rstrip(".")) from error


@dataclass
class _Hdf5:
    """MATLAB's way of keeping its values in HDF5: a struct is a group, a cell array a dataset of references, text codes of letters."""

    file: Any
    size: int
    values: int = 0
    bytes: int = 0

    def members(self, group: Any) -> Iterator[tuple[str, Any]]:
        import h5py

        if len(group) > VALUES:
            raise Damaged(f"a group of it has {len(group)} members")
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise Damaged(f"{name!r} is a link out of its place")
            yield name, group[name]

    def value(self, node: Any, depth: int) -> Any:
        import h5py

        self.values += 1
        if depth > DEPTH or self.values > VALUES:
            raise Damaged(f"its values are more than {VALUES}, or nested more than {DEPTH} deep, or in a circle")
        kind = self._mark(node, "MATLAB_class", "")
        if "MATLAB_object_decode" in node.attrs or kind == "function_handle":
            return Unreadable("function handle" if kind == "function_handle" else "object")
        if isinstance(node, h5py.Group):
            return self._struct(node, depth)
        if not isinstance(node, h5py.Dataset):
            return Unreadable("HDF5 type")
        return self._array(node, kind, depth)

    def _mark(self, node: Any, name: str, default: Any) -> Any:
        """One of the small notes that MATLAB puts on a value: a text or a whole number, as the default is."""
        if name not in node.attrs:
            return default
        about = node.attrs.get_id(name)
        if about.shape in ((), (1,)) and about.dtype.itemsize <= 64:
            found = np.asarray(node.attrs[name]).reshape(-1)[0]
            found = found.decode("ascii", "replace") if isinstance(found, bytes) else found
            if isinstance(found, type(default)) or (isinstance(found, np.integer) and isinstance(default, int)):
                return found
        raise Damaged(f"the mark {name} of {node.name!r:.60} is no word, or no number")

    def _struct(self, group: Any, depth: int) -> Any:
        fields = dict(self.members(group))
        lists = {n for n, f in fields.items() if hasattr(f, "dtype") and f.dtype.kind == "O" and "MATLAB_class" not in f.attrs}
        if not lists:
            return {n: self.value(f, depth + 1) for n, f in fields.items()}
        columns = {n: self._referred(fields[n], depth + 1) for n in lists}
        if lists != set(fields) or len({len(c) for c in columns.values()}) != 1:
            raise Damaged("a struct array has fields of different lengths")
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _array(self, node: Any, kind: str, depth: int) -> Any:
        if node.shape is None:
            return Unreadable("value of no shape")
        if self._mark(node, "MATLAB_empty", 0):
            return "" if kind == "char" else [] if kind == "cell" else {} if kind == "struct" else np.zeros(0)
        if node.dtype.kind == "O":
            return self._referred(node, depth + 1)
        if kind == "char":
            return _letters(self._read(node))
        return self._read(node).T if node.dtype.kind in "fiub" else Unreadable(f"array of {node.dtype}")

    def _referred(self, node: Any, depth: int) -> list[Any]:
        """The values of a cell array. References alone: a text, which numpy tells by no other type, would be taken for a path."""
        import h5py

        if h5py.check_dtype(ref=node.dtype) is not h5py.Reference or node.shape is None or node.size > VALUES:
            raise Damaged("a cell array holds no references, or too many")
        return [self.value(self.file[reference], depth) for reference in self._read(node).T.flatten(order="F")]

    def _read(self, node: Any) -> np.ndarray:
        """The numbers of a dataset, once it is sure that they and the blocks that they are packed in are no more than a network's."""
        if node.is_virtual or node.external:
            raise Damaged("an array is kept outside the file")
        self.bytes += max(int(node.nbytes), prod(node.chunks or ()) * node.dtype.itemsize)
        bounded(self.bytes, self.size)
        return np.asarray(node[()])


def _letters(codes: np.ndarray) -> str | list[str]:
    """The rows of a character array, whose letters MATLAB keeps as UTF-16; what is no letter becomes a replacement character."""
    if codes.dtype.kind not in "iu" or codes.ndim > 2:
        raise Damaged(f"a text is kept as an array of {codes.dtype} and shape {codes.shape[:8]}")
    rows = np.atleast_2d(np.where((codes >= 0) & (codes < 1 << 16), codes, 0xFFFD).astype("<u2").T)
    found = [np.ascontiguousarray(row).tobytes().decode("utf-16-le", "replace") for row in rows]
    return found[0] if len(found) == 1 else found if found else ""
