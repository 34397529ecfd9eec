"""A look through the structure of a MAT-file of version 5 or 7 before anything is read of it. Layout: the MathWorks' "MAT-File Format"."""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass, field
from math import prod
from typing import Any, BinaryIO

DEPTH, VALUES = 24, 200_000  # of nesting; of values in all. A file like imagenet-vgg-m.mat has 2 and 1115
BYTES = 8 << 30  # in all, unpacked
_PACKED, _EASY = 100, 64 << 20  # more than this ratio, above this size, is a bomb and no network
_COMPRESSED, _MATRIX = 15, 14
_CELL, _STRUCT, _OBJECT, _FUNCTION, _OPAQUE = 1, 2, 3, 16, 17


class Damaged(Exception):
    """What is wrong with a file, as the end of a sentence."""


def bounded(unpacked: int, size: int) -> None:
    """Raises Damaged where a file of `size` bytes has unpacked to more than a network would."""
    if unpacked > BYTES or (unpacked > _EASY and unpacked > _PACKED * size):
        raise Damaged(f"its {size} bytes unpack to more than {unpacked}")


@dataclass
class Walk:
    """Goes along the tags of a file without keeping anything. Raises Damaged. stream: at any place; size: of the file; order: < or >."""

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
                raise Damaged(f"it ends inside a variable, {self.stream.tell() + length - self.size} bytes too early")
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
            raise Damaged(f"its cells are nested more than {DEPTH} deep")
        self.values += 1
        if self.values > VALUES:
            raise Damaged(f"it holds more than {VALUES} values")
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
                raise Damaged("a cell or field does not fit into its array")
            self._matrix(source, inner, depth + 1)
        if source.position > end:
            raise Damaged("an array is longer than it says")
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
            raise Damaged(f"it claims a cell array or struct of {count} values")
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
            raise Damaged("the head of an array is absurdly long")
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
            raise Damaged("it ends inside a compressed variable")
        try:
            new = self._zlib.decompress(source, 1 << 20)
        except zlib.error as error:
            raise Damaged(f"a compressed variable does not unpack ({error})") from None
        self._buffer += new
        self.walk.inflated += len(new)
        bounded(self.walk.inflated, self.walk.size)


_Source = _Plain | _Inflated
