"""Parquet files as rows of JSON objects: a column has one type, and a null in an object is nothing at all."""

from __future__ import annotations

import io
import itertools
import json
import math
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentprm_jax.data.formats.values import described, same_json
from agentprm_jax.data.writing import write_whole

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET = ".parquet"

_BLOCK = 1024
"""Rows that are held at a time."""
_INSTEAD = "Write a .jsonl file instead."


def read_parquet(path: Path) -> Iterator[pa.StructScalar]:
    """The rows of a file, for `as_object`; a block of them is held at a time.

    Raises:
        ValueError: If the file is damaged, or has two columns of one name.
        ModuleNotFoundError: If the extra `parquet` is not installed.
    """
    arrow = _pyarrow(path)
    from pyarrow import parquet

    with open(path, "rb") as raw:
        try:
            with parquet.ParquetFile(raw, page_checksum_verification=True) as file:
                names = Counter(file.schema_arrow.names)
                if doubled := [name for name, count in names.items() if count > 1]:
                    raise ValueError(f"{path}: expected every column once, got several that are named {doubled[0]!r}.")
                for block in file.iter_batches(_BLOCK):
                    yield from block.to_struct_array()
        except (arrow.ArrowException, OSError) as error:
            raise ValueError(
                f"{path} is damaged or no Parquet file: {error}. Copy or download the file again."
            ) from error


def as_object(row: pa.StructScalar) -> Any:
    """A row as a JSON object, without what is null in it.

    Raises:
        ValueError: If JSON has no value such as one of it; says which, and where it stands.
    """
    return _as_json(row.as_py(), "")


def write_parquet(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Writes JSON objects as the rows of a file; either all of it appears under its name, or nothing does.

    The objects wait in a temporary file beside it until the types of all columns are known.

    Args:
        path: The file; one of that name is replaced.
        rows: The objects, in order.

    Returns:
        The number of rows written.

    Raises:
        ValueError: If the file would not give a row back as it is; names the row and says why.
        TrajectoryWriteError: If the disk refuses.
        ModuleNotFoundError: If the extra `parquet` is not installed.
    """
    _pyarrow(path)
    count = 0

    def counted() -> Iterator[dict[str, Any]]:
        nonlocal count
        for row in rows:
            count += 1
            yield row

    write_whole(path, PARQUET, _parts(path, counted()))
    return count


def _as_json(value: Any, where: str) -> Any:
    match value:
        case dict():
            return {key: _as_json(part, f"{where}.{key}") for key, part in value.items() if part is not None}
        case list():
            return [_as_json(part, f"{where}[{index}]") for index, part in enumerate(value)]
        case float() if not math.isfinite(value):
            raise ValueError(f"the number {value} in {where.lstrip('.')}")
        case None | bool() | int() | float() | str():
            return value
        case _:
            raise ValueError(f"a value of type {type(value).__name__} in {where.lstrip('.')}")


def _parts(path: Path, rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """The bytes of the file, block by block, after all rows have been seen."""
    import pyarrow as pa

    with tempfile.TemporaryFile(dir=path.parent) as waiting:
        schema, seen = pa.schema([]), 0
        for block in _blocks(rows):
            waiting.writelines(json.dumps(row, allow_nan=False).encode() + b"\n" for row in block)
            schema = _widened(path, schema, block, seen)
            seen += len(block)
        if seen and not schema.names:
            raise ValueError(f"{path}: expected rows with a value, got {seen} without any.")
        waiting.seek(0)
        file, written = _Drain(), 0
        with _writer(path, schema, file) as writer:
            for block in _blocks(map(json.loads, waiting)):
                columns = pa.array(block, type=pa.struct(list(schema)))
                for number, (row, kept) in enumerate(zip(block, columns, strict=True), start=written + 1):
                    _check_kept(path, number, row, as_object(kept))
                writer.write_batch(pa.RecordBatch.from_struct_array(columns))
                written += len(block)
                yield file.drain()
        yield file.drain()


def _widened(path: Path, schema: pa.Schema, block: list[dict[str, Any]], before: int) -> pa.Schema:
    """The schema with the columns and types of a block of rows, before which there were so many."""
    import pyarrow as pa

    def widened(schema: pa.Schema, rows: list[dict[str, Any]]) -> pa.Schema:
        found = pa.schema(list(pa.array(rows).type))
        return pa.unify_schemas([schema, found], promote_options="permissive")

    try:
        return widened(schema, block)
    except (pa.ArrowException, OverflowError):
        for number, row in enumerate(block, start=before + 1):
            try:
                schema = widened(schema, [row])
            except (pa.ArrowException, OverflowError) as error:
                raise ValueError(
                    f"{path}, row {number}: expected values of one type in a column, as Parquet has them, got others: "
                    f"{str(error).rstrip('.')}. {_INSTEAD}"
                ) from error
        return schema


def _writer(path: Path, schema: pa.Schema, file: _Drain) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.ParquetWriter(file, schema, write_page_checksum=True)
    except pa.ArrowException as error:
        raise ValueError(
            f"{path}: expected no object that is empty in all rows: {str(error).rstrip('.')}. {_INSTEAD}"
        ) from error


def _check_kept(path: Path, number: int, row: dict[str, Any], kept: dict[str, Any]) -> None:
    """Checks that a row comes back as it is."""
    for key in sorted(row.keys() | kept.keys()):
        if not same_json(row.get(key, ()), kept.get(key, ())):
            back = described(kept[key]) if key in kept else "nothing"
            raise ValueError(
                f"{path}, row {number}, field `{key}`: expected what Parquet gives back as it is (no null in objects, "
                f"one type in a column), got {described(row.get(key))}, which would come back as {back}. {_INSTEAD}"
            )


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
