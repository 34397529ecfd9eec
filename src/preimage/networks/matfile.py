"""MAT-files as plain values: dictionaries, lists, strings and arrays. Versions 5 and 7 through scipy, 7.3 (HDF5) through h5py.

A file may come from anybody. Before scipy opens one, its structure is walked: scipy follows nesting without a bound (a few megabytes
of nested cells end the process) and makes room for as many cells as a header claims. HDF5 files are read along links and references
inside the file only, each value once counted.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import InputError, MissingExtra

DEPTH, VALUES = 24, 200_000  # of nesting; of cells and fields in all. The published networks have 8 and about 5000
BYTES = 8 << 30  # in all, unpacked
_PACKED, _EASY = 100, 64 << 20  # more than this ratio, above this size, is a bomb and no network
_HDF5 = b"\x89HDF\r\n\x1a\n"
_COMPRESSED, _MATRIX = 15, 14
_CELL, _STRUCT, _OBJECT, _FUNCTION, _OPAQUE = 1, 2, 3, 16, 17


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
        with path.open("rb") as stream:
            start = stream.read(520)
            size = os.fstat(stream.fileno()).st_size
            if _HDF5 in (start[:8], start[512:520]):
                return _read_hdf5(path, size)
            if start[126:128] not in (b"IM", b"MI") or start[124:126] not in (b"\x00\x01", b"\x01\x00"):
                raise _Damaged("it does not begin as one of version 5, 7 or 7.3 does")
            _Walk(stream, size, ">" if start[126:128] == b"MI" else "<").file()
        return _read_scipy(path)
    except _Damaged as error:
        raise InputError(f"{str(path)!r} is no MAT-file that can be read, or damaged: {error}.") from None
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error


class _Damaged(Exception):
    pass


def _read_scipy(path: Path) -> dict[str, Any]:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MissingExtra("Reading a MAT-file needs scipy: pip install 'preimage[matlab]'") from error
    try:
        found = loadmat(path)
    except Exception as error:  # scipy raises whatever a damaged byte leads to
        raise _Damaged(_first_line(error)) from error
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


@dataclass
class _Walk:
    """A version 5 file, read along its tags without keeping anything. Layout: the MathWorks' "MAT-File Format"."""

    stream: BinaryIO
    size: int
    order: str
    values: int = 0
    inflated: int = 0

    def file(self) -> None:
        self.stream.seek(128)
        while (at := self.stream.tell()) < self.size:
            kind, length = self._tag(_Plain(self.stream, self.size - at))
            if self.stream.tell() + length > self.size:
                raise _Damaged(f"it ends inside a variable, {self.stream.tell() + length - self.size} bytes too early")
            end = self.stream.tell() + length
            source = _Inflated(self, length) if kind == _COMPRESSED else _Plain(self.stream, length)
            if kind == _COMPRESSED:
                kind, length = self._tag(source)
            if kind == _MATRIX:
                self._matrix(source, length, 0)
            if isinstance(source, _Inflated):
                source.drain()
            self.stream.seek(end)

    def _matrix(self, source: _Source, length: int, depth: int) -> None:
        if depth > DEPTH:
            raise _Damaged(f"its cells are nested more than {DEPTH} deep")
        self.values += 1
        if self.values > VALUES:
            raise _Damaged(f"it holds more than {VALUES} values")
        if length == 0:
            return
        end = source.position + length
        flags = self._element(source)
        dimensions = self._numbers(self._element(source))
        self._element(source)  # the name
        kind = flags[0 if self.order == "<" else 3] if len(flags) >= 4 else 0
        for _ in range(self._children(source, kind, dimensions)):
            child, inner = self._tag(source)
            if child != _MATRIX or source.position + inner > end:
                raise _Damaged("a cell or field does not fit into its array")
            self._matrix(source, inner, depth + 1)
        if source.position > end:
            raise _Damaged("an array is longer than it says")
        source.skip(end - source.position)

    def _children(self, source: _Source, kind: int, dimensions: list[int]) -> int:
        """How many values an array holds that are arrays themselves; the source is left in front of the first."""
        if kind in (_FUNCTION, _OPAQUE):
            if kind == _OPAQUE:  # three names in place of dimensions and a name
                self._element(source)
            return 1
        if kind not in (_CELL, _STRUCT, _OBJECT):
            return 0
        count = prod(dimensions) if min(dimensions, default=-1) >= 0 else VALUES + 1
        if kind == _OBJECT:
            self._element(source)  # the name of the class
        if kind != _CELL:
            width = max(self._numbers(self._element(source)), default=1)
            count *= len(self._element(source)) // max(width, 1)
        if count > VALUES:
            raise _Damaged(f"it claims a cell array or struct of {count} values")
        return count

    def _tag(self, source: _Source) -> tuple[int, int]:
        kind, length = struct.unpack(f"{self.order}II", source.read(8))
        return kind, length

    def _element(self, source: _Source) -> bytes:
        """A small part of an array's head: its flags, dimensions or names, with the padding to 8 bytes taken along."""
        head = source.read(8)
        (word,) = struct.unpack(f"{self.order}I", head[:4])
        if word >> 16:  # up to 4 bytes, packed into the tag
            return head[4 : 4 + min(word >> 16, 4)]
        (length,) = struct.unpack(f"{self.order}I", head[4:])
        if length > 1 << 20:
            raise _Damaged("the head of an array is absurdly long")
        content = source.read(length)
        source.skip(-length % 8)
        return content

    def _numbers(self, content: bytes) -> list[int]:
        return list(struct.unpack(f"{self.order}{len(content) // 4}i", content[: len(content) // 4 * 4]))


@dataclass
class _Plain:
    """So many bytes of the file."""

    stream: BinaryIO
    length: int
    position: int = 0

    def read(self, count: int) -> bytes:
        if count > self.length - self.position:
            raise _Damaged("it ends inside an array")
        self.position += count
        return self.stream.read(count)

    def skip(self, count: int) -> None:
        if count > self.length - self.position:
            raise _Damaged("it ends inside an array")
        self.position += count
        self.stream.seek(count, os.SEEK_CUR)


@dataclass
class _Inflated:
    """So many compressed bytes of the file, as they unpack; never more than a block of them at once."""

    walk: _Walk
    length: int
    position: int = 0
    _taken: int = 0
    _buffer: bytes = b""
    _zlib: Any = field(default_factory=zlib.decompressobj)

    def read(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._more()
        out, self._buffer = self._buffer[:count], self._buffer[count:]
        self.position += count
        return out

    def skip(self, count: int) -> None:
        while count > len(self._buffer):
            count -= len(self._buffer)
            self.position += len(self._buffer)
            self._buffer = b""
            self._more()
        self.read(count)

    def drain(self) -> None:
        """To the end, so that its checksum and its size are seen too."""
        while not self._zlib.eof:
            self._buffer = b""
            self._more()

    def _more(self) -> None:
        source = self._zlib.unconsumed_tail
        if not source:
            source = self.walk.stream.read(min(1 << 16, self.length - self._taken))
            self._taken += len(source)
        if not source or self._zlib.eof:
            raise _Damaged("it ends inside a compressed variable")
        try:
            new = self._zlib.decompress(source, 1 << 20)
        except zlib.error as error:
            raise _Damaged(f"a compressed variable does not unpack ({error})") from None
        self._buffer += new
        self.walk.inflated += len(new)
        _bounded(self.walk.inflated, self.walk.size)


_Source = _Plain | _Inflated


def _bounded(unpacked: int, size: int) -> None:
    if unpacked > BYTES or (unpacked > _EASY and unpacked > _PACKED * size):
        raise _Damaged(f"its {size} bytes unpack to more than {unpacked}")


def _read_hdf5(path: Path, size: int) -> dict[str, Any]:
    try:
        import h5py
    except ImportError as error:
        raise MissingExtra("Reading a MAT-file of version 7.3 needs h5py: pip install 'preimage[matlab]'") from error
    try:
        with h5py.File(path, "r") as file:
            reader = _Hdf5(file, size)
            return {name: reader.value(node, 0) for name, node in reader.members(file) if not name.startswith("#")}
    except _Damaged:
        raise
    except Exception as error:  # h5py raises whatever the library finds wrong
        raise _Damaged(_first_line(error)) from error


@dataclass
class _Hdf5:
    """MATLAB's way of keeping its values in HDF5: a struct is a group, a cell array a dataset of references, text codes of letters."""

    file: Any
    size: int
    values: int = 0
    bytes: int = 0

    def members(self, group: Any) -> Iterator[tuple[str, Any]]:
        import h5py

        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise _Damaged(f"{name!r} is a link out of its place")
            yield name, group[name]

    def value(self, node: Any, depth: int) -> Any:
        import h5py

        self.values += 1
        if depth > DEPTH or self.values > VALUES:
            raise _Damaged(f"its values are more than {VALUES}, or nested more than {DEPTH} deep, or in a circle")
        kind = node.attrs.get("MATLAB_class", b"")
        kind = kind.decode("ascii", "replace") if isinstance(kind, bytes) else str(kind)
        if "MATLAB_object_decode" in node.attrs or kind == "function_handle":
            return Unreadable("function handle" if kind == "function_handle" else "object")
        if isinstance(node, h5py.Group):
            return self._struct(node, depth)
        if not isinstance(node, h5py.Dataset):
            return Unreadable("HDF5 type")
        return self._array(node, kind, depth)

    def _struct(self, group: Any, depth: int) -> Any:
        fields = dict(self.members(group))
        lists = {n for n, f in fields.items() if hasattr(f, "dtype") and f.dtype.kind == "O" and "MATLAB_class" not in f.attrs}
        if not lists:
            return {n: self.value(f, depth + 1) for n, f in fields.items()}
        columns = {n: self._referred(fields[n], depth + 1) for n in lists}
        if lists != set(fields) or len({len(c) for c in columns.values()}) != 1:
            raise _Damaged("a struct array has fields of different lengths")
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _array(self, node: Any, kind: str, depth: int) -> Any:
        if node.is_virtual or node.external:
            raise _Damaged("an array is kept outside the file")
        if node.attrs.get("MATLAB_empty", 0):
            return "" if kind == "char" else [] if kind == "cell" else {} if kind == "struct" else np.zeros(0)
        if node.dtype.kind == "O":
            return self._referred(node, depth + 1)
        self._count(node)
        if kind == "char":
            codes = np.asarray(node[()]).T
            rows = ["".join(map(chr, row)) for row in np.atleast_2d(codes)]
            return rows[0] if len(rows) == 1 else rows
        return np.asarray(node[()]).T if node.dtype.kind in "fiub" else Unreadable(f"array of {node.dtype}")

    def _referred(self, node: Any, depth: int) -> list[Any]:
        import h5py

        if node.dtype != h5py.ref_dtype or node.size > VALUES:
            raise _Damaged("a cell array holds no references, or too many")
        self._count(node)
        return [self.value(self.file[reference], depth) for reference in np.asarray(node[()]).T.flatten(order="F")]

    def _count(self, node: Any) -> None:
        self.bytes += int(node.nbytes)
        _bounded(self.bytes, self.size)


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return (text[0][:200] if text else type(error).__name__).rstrip(".")
