"""A look through the structure of a MAT-file of version 5 or 7 before anything is read of it. Layout: the MathWorks' "MAT-File Format".

scipy reads without asking: it takes a type's number for the place in a table, makes room for the dimensions that a header claims, and
goes on wherever one value ended, whatever the value's own length says. So only what it reads in exactly one way passes here.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, BinaryIO

from ..untrusted import DEPTH, VALUES, Damaged, bounded

_FIELDS = 4096  # of a struct; scipy compares each name with each
_INT32, _UINT32, _MATRIX, _COMPRESSED = 5, 6, 14, 15
_NAMES = (1, 16)  # types of what holds a name
_WIDTHS: Mapping[int, int] = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}  # bytes of one number, by type
_LETTERS = (1, 2, 4, 16, 17, 18)  # types of what holds text
_CELL, _STRUCT, _OBJECT, _CHAR, _SPARSE, _FUNCTION, _OPAQUE = 1, 2, 3, 4, 5, 16, 17
_NUMBERS = range(6, 16)
_COMPLEX = 1 << 11


@dataclass
class Walk:
    """Goes along the tags of a file without keeping anything. Raises Damaged. stream: at any place; size: of the file; order: < or >."""

    stream: BinaryIO
    size: int
    order: str
    values: int = 0
    inflated: int = 0
    names: list[str] = field(default_factory=list)

    def file(self) -> list[str]:
        """The names of the variables, in order."""
        self.stream.seek(128)
        while (at := self.stream.tell()) < self.size:
            kind, length = self._tag(_Plain(self.stream, self.size - at))
            end = self.stream.tell() + length
            if end > self.size:
                raise Damaged(f"it ends inside a variable, {end - self.size} bytes too early")
            source = _Inflated(self, length) if kind == _COMPRESSED else _Plain(self.stream, length)
            if kind == _COMPRESSED:
                kind, length = self._tag(source)
            if kind == _MATRIX and length:
                self._matrix(source, length, 0)
            if isinstance(source, _Inflated):
                source.drain()
            if kind != _MATRIX or not length:
                raise Damaged("what stands in the place of a variable is none")
            self.stream.seek(end)
        return self.names

    def _matrix(self, source: _Source, length: int, depth: int) -> None:
        if depth > DEPTH:
            raise Damaged(f"its cells are nested more than {DEPTH} deep")
        self.values += 1
        if self.values > VALUES:
            raise Damaged(f"it holds more than {VALUES} values")
        if length == 0:
            return
        end = source.position + length
        flags = self._flags(source)
        kind = flags & 0xFF
        dimensions = [] if kind == _OPAQUE else self._dimensions(source)
        name = self._name(source)
        if depth == 0:
            self.names.append(name)
        if kind in (_CELL, _STRUCT, _OBJECT, _FUNCTION, _OPAQUE):
            for _ in range(self._children(source, kind, dimensions)):
                child, inner = self._tag(source)
                if child != _MATRIX or source.position + inner > end:
                    raise Damaged("a cell or field does not fit into its array")
                self._matrix(source, inner, depth + 1)
        elif kind == _CHAR:
            self._text(source, dimensions)
        elif kind == _SPARSE:
            for _ in range(4 if flags & _COMPLEX else 3):  # rows, columns, values
                self._numeric(source, None)
        elif kind in _NUMBERS:
            for _ in range(2 if flags & _COMPLEX else 1):
                self._numeric(source, prod(dimensions))
        else:
            raise Damaged(f"it holds an array of the unknown class {kind}")
        if source.position != end:
            raise Damaged("an array is longer or shorter than it says")

    def _flags(self, source: _Source) -> int:
        """The first of the two numbers that open an array: its class and whether it is complex."""
        if self._tag(source) != (_UINT32, 8):
            raise Damaged("an array does not open with its flags")
        return int(struct.unpack(f"{self.order}II", source.read(8))[0])

    def _dimensions(self, source: _Source) -> list[int]:
        kind, content = self._element(source)
        found = self._integers(kind, content)
        if not 2 <= len(found) <= 32 or min(found) < 0:
            raise Damaged(f"an array has the dimensions {found[:33]}")
        if prod(found) == 0 and prod(max(n, 1) for n in found) > VALUES:  # scipy makes room for rows of nothing
            raise Damaged(f"an empty array claims the dimensions {found}")
        return found

    def _children(self, source: _Source, kind: int, dimensions: list[int]) -> int:
        """How many values an array holds that are arrays themselves; the source is left in front of the first."""
        if kind in (_FUNCTION, _OPAQUE):
            for _ in range(2 if kind == _OPAQUE else 0):  # the system of types and the class
                self._name(source)
            return 1
        count = each = prod(dimensions)
        if kind == _OBJECT:
            self._name(source)  # of the class
        if kind != _CELL:
            width = self._integers(*self._element(source))
            kind, names = self._element(source)
            if len(width) != 1 or width[0] < 1 or kind not in _NAMES or len(names) // width[0] > _FIELDS:
                raise Damaged("the names of a struct's fields cannot be read, or are too many")
            count *= len(names) // width[0]
        if max(count, each) > VALUES:
            raise Damaged(f"it claims a cell array or struct of {max(count, each)} values")
        return count

    def _numeric(self, source: _Source, wanted: int | None) -> None:
        """Over the numbers of an array, which are so many, or any number for None."""
        kind, length, packed = self._head(source)
        width = _WIDTHS.get(kind)
        if width is None or length % width or wanted not in (None, length // width):
            raise Damaged("the numbers of an array are not as many as its dimensions say, or of no known type")
        source.skip(0 if packed else length + -length % 8)

    def _text(self, source: _Source, dimensions: list[int]) -> None:
        kind, length, packed = self._head(source)
        if kind not in _LETTERS or prod(dimensions) > (length or VALUES):  # some programs write spaces as nothing
            raise Damaged("a text is shorter than its dimensions say, or of no known type")
        source.skip(0 if packed else length + -length % 8)

    def _tag(self, source: _Source) -> tuple[int, int]:
        kind, length = struct.unpack(f"{self.order}II", source.read(8))
        return kind, length

    def _head(self, source: _Source) -> tuple[int, int, bytes]:
        """An element's type, how many bytes it has, and these if there are at most 4, packed into the tag."""
        head = source.read(8)
        word, length = struct.unpack(f"{self.order}II", head)
        if word >> 16 == 0:
            return word, length, b""
        if word >> 16 > 4:
            raise Damaged("a small element is longer than its place")
        return word & 0xFFFF, word >> 16, head[4 : 4 + (word >> 16)]

    def _element(self, source: _Source) -> tuple[int, bytes]:
        """The type and content of a small part of an array's head, with the padding to 8 bytes taken along."""
        kind, length, packed = self._head(source)
        if packed:
            return kind, packed
        if length > 1 << 20:
            raise Damaged("the head of an array is absurdly long")
        content = source.read(length)
        source.skip(-length % 8)
        return kind, content

    def _name(self, source: _Source) -> str:
        kind, content = self._element(source)
        if kind not in _NAMES:
            raise Damaged("a name is no text")
        return content.decode("latin1")

    def _integers(self, kind: int, content: bytes) -> list[int]:
        if kind not in (_INT32, _UINT32) or len(content) % 4:
            raise Damaged("the head of an array holds no whole numbers")
        return list(struct.unpack(f"{self.order}{len(content) // 4}i", content))


@dataclass
class _Plain:
    """So many bytes of the file."""

    stream: BinaryIO
    length: int
    position: int = 0

    def read(self, count: int) -> bytes:
        if count > self.length - self.position:
            raise Damaged("it ends inside an array")
        self.position += count
        return self.stream.read(count)

    def skip(self, count: int) -> None:
        if count > self.length - self.position:
            raise Damaged("it ends inside an array")
        self.position += count
        self.stream.seek(count, os.SEEK_CUR)


@dataclass
class _Inflated:
    """So many compressed bytes of the file, as they unpack; never more than a block of them at once."""

    walk: Walk
    length: int
    position: int = 0
    _taken: int = 0
    _buffer: bytes = b""
    _at: int = 0  # how much of the buffer is used
    _zlib: Any = field(default_factory=zlib.decompressobj)

    def read(self, count: int) -> bytes:
        while len(self._buffer) - self._at < count:
            self._more()
        out = self._buffer[self._at : self._at + count]
        self._at += count
        self.position += count
        return out

    def skip(self, count: int) -> None:
        while count > (left := len(self._buffer) - self._at):
            count -= left
            self.position += left
            self._at += left
            self._more()
        self.read(count)

    def drain(self) -> None:
        """To the end, so that its checksum and its size are seen too."""
        while not self._zlib.eof:
            self._at = len(self._buffer)
            self._more()

    def _more(self) -> None:
        source = self._zlib.unconsumed_tail
        if not source:
            source = self.walk.stream.read(min(1 << 16, self.length - self._taken))
            self._taken += len(source)
        if not source or self._zlib.eof:
            raise Damaged("it ends inside a compressed variable")
        try:
            new = self._zlib.decompress(source, 1 << 20)
        except zlib.error as error:
            raise Damaged(f"a compressed variable does not unpack ({error})") from None
        self._buffer, self._at = self._buffer[self._at :] + new, 0
        self.walk.inflated += len(new)
        bounded(self.walk.inflated, self.walk.size)


_Source = _Plain | _Inflated
