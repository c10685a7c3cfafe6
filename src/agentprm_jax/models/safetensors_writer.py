"""Writes safetensors tensor by tensor.

The package `safetensors` writes only what lies in memory as a whole; a model's tensors are made one by one from its
stacked parameters. The format: eight bytes with the length of a JSON header, the header, the tensors' bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

_DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
_ALIGNMENT = 8


class Draft(NamedTuple):
    """A tensor that is to be written.

    Attributes:
        name: its name in the file.
        shape: its shape in the file.
        dtype: its dtype, float32, bfloat16 or float16.
        make: makes its content.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    make: Callable[[], np.ndarray]

    @property
    def bytes(self) -> int:
        """How many bytes of the file it takes."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_safetensors(path: Path, drafts: Sequence[Draft]) -> None:
    """Writes a file, holding one tensor at a time.

    Raises:
        OSError: it could not be written; part of it may be there.
    """
    ordered = sorted(drafts, key=lambda draft: -draft.dtype.itemsize)  # keeps every tensor aligned to its dtype
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}  # transformers reads no other
    offset = 0
    for draft in ordered:
        place = [offset, offset + draft.bytes]
        header[draft.name] = {"dtype": _DTYPES[draft.dtype.name], "shape": draft.shape, "data_offsets": place}
        offset = place[1]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for draft in ordered:
            file.write(np.ascontiguousarray(draft.make()).view(np.uint8).data)
