"""The header of a GGUF file, walked before the package `gguf` reads it: that believes every length it finds there."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a number, by its type."""
_TEXT, _ARRAY = 8, 9
_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_SMALLEST_FIELD, _SMALLEST_TENSOR = 13, 24
_MOST_DIMENSIONS = 4
_DEEPEST = 8
"""Arrays within arrays."""


def check_header(path: Path) -> None:
    """Checks that all that a file's header announces has room in the file.

    The package loops over the length of an array whether or not the file goes on, so a single damaged byte would keep
    it at work, and the memory growing, for years.

    Args:
        path: a file that is not empty; another magic number or version is left for the package to refuse.

    Raises:
        ValueError: a count or a length reaches beyond the end of the file, or a value has an unknown type.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] == _MAGIC:
            _Walk(data).header()


class _Walk:
    """Goes over a header from place to place."""

    def __init__(self, data: mmap.mmap):
        self.data, self.place, self.order = data, 4, "<"

    def header(self) -> None:
        version = self.number("I")
        if version & 0xFFFF == 0:  # written on a machine with the other order of bytes
            self.order, version = ">", int.from_bytes(version.to_bytes(4, "little"), "big")
        if version not in _VERSIONS:
            return
        tensors = self.count("tensors", _SMALLEST_TENSOR, ahead=8)
        fields = self.count("fields", _SMALLEST_FIELD)
        for _ in range(fields):
            self.text()
            self.value(self.number("I"))
        for _ in range(tensors):
            self.text()
            if (dimensions := self.number("I")) > _MOST_DIMENSIONS:
                raise ValueError(f"a tensor has {dimensions} dimensions at byte {self.place - 4}")
            self.skip(8 * dimensions + 4 + 8)  # sizes, type and place

    def value(self, kind: int) -> None:
        if kind == _TEXT:
            self.text()
        elif kind == _ARRAY:
            self.array()
        else:
            self.skip(self.size(kind))

    def array(self, depth: int = 1) -> None:
        kind = self.number("I")
        if depth > _DEEPEST:
            raise ValueError(f"arrays are nested more than {_DEEPEST} deep before byte {self.place}")
        if kind == _TEXT:
            for _ in range(self.count("texts", 8)):
                self.text()
        elif kind == _ARRAY:
            for _ in range(self.count("arrays", 12)):
                self.array(depth + 1)
        else:
            self.skip(self.size(kind) * self.count("numbers", self.size(kind)))

    def size(self, kind: int) -> int:
        if kind not in _SIZES:
            raise ValueError(f"a value has the unknown type {kind} before byte {self.place}")
        return _SIZES[kind]

    def text(self) -> None:
        self.skip(self.count("bytes", 1))

    def count(self, what: str, smallest: int, ahead: int = 0) -> int:
        """Reads how many things follow, each of so many bytes at least, behind so many bytes of other things."""
        start, count = self.place, self.number("Q")
        if count * smallest > (left := len(self.data) - self.place - ahead):
            raise ValueError(f"{count} {what} are announced at byte {start}, and {max(left, 0)} bytes are left")
        return count

    def number(self, kind: str) -> int:
        start = self.place
        self.skip(struct.calcsize(f"<{kind}"))
        return struct.unpack_from(f"{self.order}{kind}", self.data, start)[0]

    def skip(self, size: int) -> None:
        if size > len(self.data) - self.place:
            raise ValueError(f"the file ends at byte {len(self.data)}, within its header")
        self.place += size
