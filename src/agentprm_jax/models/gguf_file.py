"""GGUF files as the package `gguf` reads them: metadata, and tensors that are widened to float32 one by one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from agentprm_jax.models.checkpoint import CheckpointFormatError, StoredTensor
from agentprm_jax.models.gguf_header import check_header

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFReader, ReaderTensor

_ROWS = 4096  # dequantized at a time: the package holds its result twice
_DAMAGED = (ValueError, IndexError, KeyError, OverflowError, TypeError, MemoryError)


class GgufFile(NamedTuple):
    """An open GGUF file.

    Attributes:
        path: where it lies.
        metadata: its keys and values: numbers, texts, and lists of them.
        tensors: its tensors, under the names and in the layout that it gives them.
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: dict[str, StoredTensor]

    def require(self, key: str) -> Any:
        """The value of a key.

        Raises:
            ValueError: the file has no such key.
        """
        if key not in self.metadata:
            raise ValueError(f"{self.path}: the key {key} is missing. Make the file again with a newer converter.")
        return self.metadata[key]


def is_gguf(path: Path) -> bool:
    """Whether a path is meant as that of a GGUF file."""
    return path.suffix == ".gguf"


def read_gguf(path: Path) -> GgufFile:
    """Reads the metadata of a GGUF file, and what tensors it holds.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: the package `gguf` is not installed.
        CheckpointFormatError: the file is damaged or one of several parts.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no model in {path}: expected a GGUF file, got nothing.")
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise ImportError(
            f"{path} is a GGUF file, and the package that reads it is not installed: pip install agentprm-jax[gguf]."
        ) from error
    try:
        check_header(path)
        reader = GGUFReader(path)
        metadata = {name: field.contents() for name, field in reader.fields.items()}
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    if metadata.get("split.count", 1) > 1:
        raise CheckpointFormatError(
            f"{path} is one of {metadata['split.count']} parts: expected a whole file. Join them with llama-gguf-split."
        )
    return GgufFile(path, metadata, _tensors(path, reader))


def _tensors(path: Path, reader: GGUFReader) -> dict[str, StoredTensor]:
    return {tensor.name: _stored(path, tensor) for tensor in reader.tensors}


def _stored(path: Path, tensor: ReaderTensor) -> StoredTensor:
    shape = tuple(int(size) for size in reversed(tensor.shape))
    read = partial(_read, path, tensor.name, tensor.data, tensor.tensor_type, shape)
    return StoredTensor(path, shape, "float32", read)


def _read(path: Path, name: str, data: np.ndarray, kind: GGMLQuantizationType, shape: tuple[int, ...]) -> np.ndarray:
    from gguf import dequantize

    rows, wide = data.reshape(-1, data.shape[-1]), np.empty((int(np.prod(shape[:-1])), shape[-1]), np.float32)
    try:
        for start in range(0, len(rows), _ROWS):
            wide[start : start + _ROWS] = dequantize(rows[start : start + _ROWS], kind)
    except NotImplementedError as error:
        raise CheckpointFormatError(
            f"{path}, tensor {name!r}: the package gguf cannot dequantize {kind.name}. Use a file with another "
            "quantization, such as Q8_0 or Q4_1."
        ) from error
    return wide.reshape(shape)


def _damaged(path: Path, error: Exception) -> CheckpointFormatError:
    return CheckpointFormatError(f"{path} is damaged or cut off: {error}. Copy or download the file again.")
