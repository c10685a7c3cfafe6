"""Parquet files as rows of JSON objects: a column has one type, and a null in an object is nothing at all."""

from __future__ import annotations

import io
import itertools
import json
import math
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentprm_jax.data.writing import write_whole

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET = ".parquet"

_BLOCK = 1024
"""Rows that are held at a time."""


def read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file, a block at a time; `as_json` makes JSON of each.

    Raises:
        ValueError: If the file is damaged.
        ModuleNotFoundError: If the extra `parquet` is not installed.
    """
    arrow = _pyarrow(path)
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for block in file.iter_batches(_BLOCK):
                yield from block.to_pylist()
    except arrow.ArrowException as error:
        raise ValueError(f"{path} is damaged or no Parquet file: {error}. Copy or download the file again.") from error


def as_json(value: Any) -> Any:
    """A value of a row as JSON has it, without what is null in an object.

    Raises:
        ValueError: If JSON has no such value; says what it is.
    """
    match value:
        case dict():
            return {key: as_json(part) for key, part in value.items() if part is not None}
        case list():
            return list(map(as_json, value))
        case float() if not math.isfinite(value):
            raise ValueError(f"the number {value}")
        case None | bool() | int() | float() | str():
            return value
        case _:
            raise ValueError(f"a value of type {type(value).__name__}")


def write_parquet(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Writes JSON objects as the rows of a file; either all of it appears under its name, or nothing does.

    The objects wait in a temporary file until the types of all columns are known.

    Args:
        path: The file; one of that name is replaced.
        rows: The objects, in order.

    Returns:
        The number of rows written.

    Raises:
        ValueError: If the file would not give the rows back as they are: a column has values of two types, an object a
            null, or no row a value.
        TrajectoryWriteError: If the disk refuses.
        ModuleNotFoundError: If the extra `parquet` is not installed.
    """
    arrow = _pyarrow(path)
    with tempfile.TemporaryFile() as waiting:
        count, schema = 0, arrow.schema([])
        try:
            for block in _blocks(rows):
                waiting.writelines(json.dumps(row, allow_nan=False).encode() + b"\n" for row in block)
                found = arrow.schema(list(arrow.array(block).type))
                schema = arrow.unify_schemas([schema, found], promote_options="permissive")
                count += len(block)
            if count and not schema.names:
                raise ValueError(f"{path}: expected rows with a value, got {count} without any.")
            waiting.seek(0)
            write_whole(path, PARQUET, _parts(path, schema, map(json.loads, waiting)))
        except (arrow.ArrowException, OverflowError) as error:
            raise ValueError(
                f"{path}: expected one type of values in every column, as Parquet has it, got others: {error}. Write a "
                ".jsonl file instead."
            ) from error
    return count


def _parts(path: Path, schema: pa.Schema, rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """The bytes of the file, block by block."""
    import pyarrow as pa
    from pyarrow import parquet

    file, written = _Drain(), 0
    with parquet.ParquetWriter(file, schema) as writer:
        for block in _blocks(rows):
            columns = pa.array(block, type=pa.struct(list(schema)))
            for number, (row, kept) in enumerate(zip(block, columns.to_pylist(), strict=True), start=written + 1):
                if (back := as_json(kept)) != row:
                    raise ValueError(
                        f"{path}, row {number}: expected an object that Parquet can hold, without null, got {row}, of "
                        f"which {back} would be left. Write a .jsonl file instead."
                    )
            writer.write_batch(pa.RecordBatch.from_struct_array(columns))
            written += len(block)
            yield file.drain()
    yield file.drain()


class _Drain(io.RawIOBase):
    """Takes bytes until they are fetched."""

    def __init__(self) -> None:
        self._waiting, self._position = bytearray(), 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        self._waiting += data
        self._position += len(data)
        return len(data)

    def drain(self) -> bytes:
        fetched = bytes(self._waiting)
        self._waiting.clear()
        return fetched


def _blocks(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    rest = iter(rows)
    while block := list(itertools.islice(rest, _BLOCK)):
        yield block


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{path} needs the package 'pyarrow': install agentprm-jax[parquet].") from error
    return pyarrow
