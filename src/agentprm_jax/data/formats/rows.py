"""Rows of foreign files: objects of a JSON array, of lines, a table or a folder, each with the place it stands at."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agentprm_jax.data.formats.parquet import PARQUET, as_object, read_parquet, write_parquet
from agentprm_jax.data.formats.values import described
from agentprm_jax.data.reading import SUFFIXES, BadLine, numbered_lines, strict_json
from agentprm_jax.data.record import BadTrajectory
from agentprm_jax.data.writing import whole_folder, write_whole

Container = Literal["array", "lines", "folder"]

_ROW_FILE = re.compile(r"(0|[1-9]\d*)\.json", re.ASCII)
_EXPECTED = {
    "line": "one JSON object in UTF-8",
    "item": "one JSON object, an array of them, or one a line, in UTF-8",
    "row": "values that JSON has",
}


class BadItem(BadLine):
    """A row of a foreign file that its format does not allow.

    Attributes:
        path: The file.
        line: Number of the row, from 1: a line of JSON lines, an item of an array, a row of a table.
        unit: ``line``, ``item`` or ``row``.
        field: Path of the offending field inside the row; empty when the row as a whole is wrong.
        expected: What the format allows there.
        got: What was there.
    """

    def __init__(self, place: "Place", field: str, expected: str, got: str):
        """Keeps the parts and composes the sentence from them."""
        super().__init__(place.path, place.number, field, expected, got)
        self.unit = place.unit
        self.args = (self.args[0].replace(", line ", f", {place.unit} ", 1),)


@dataclass(frozen=True)
class Place:
    """Where a row stands.

    Attributes:
        path: The file.
        unit: What is counted there.
        number: Number of the row, from 1.
    """

    path: Path
    unit: Literal["line", "item", "row"]
    number: int

    @property
    def name(self) -> str:
        """``<file>_<number>``: names a trajectory for which the file has no name."""
        return f"{self.path.name.split('.')[0]}_{self.number}"


@dataclass(frozen=True)
class Row:
    """One JSON object of a foreign file, and typed access to what stands in it.

    Attributes:
        values: The object.
        name: Names the trajectory if nothing in the object does.
        where: Path of the object inside its row, with a dot at the end; empty for the row itself.
    """

    values: dict[str, Any]
    name: str = ""
    where: str = ""

    def text(self, key: str) -> str:
        """The text under `key`.

        Raises:
            BadTrajectory: If there is something else, or nothing.
        """
        return self._typed(key, str, "text")

    def number(self, key: str) -> float:
        """The number under `key`, as a float.

        Raises:
            BadTrajectory: If there is something else, or nothing.
        """
        return as_number(self._present(key, "a number"), f"{self.where}{key}")

    def texts(self, key: str) -> list[str]:
        """The list of texts under `key`.

        Raises:
            BadTrajectory: If there is something else, or nothing.
        """
        items = self._typed(key, list, "a list of texts")
        for index, item in enumerate(items):
            if not isinstance(item, str):
                raise BadTrajectory(f"{self.where}{key}[{index}]", "text", described(item))
        return items

    def part(self, key: str) -> "Row":
        """The object under `key`.

        Raises:
            BadTrajectory: If there is something else, or nothing.
        """
        return Row(self._typed(key, dict, "an object"), self.name, f"{self.where}{key}.")

    def parts(self, key: str) -> "list[Row]":
        """The list of objects under `key`.

        Raises:
            BadTrajectory: If there is something else, or nothing.
        """
        items = self._typed(key, list, "a list of objects")
        for index, item in enumerate(items):
            if not isinstance(item, dict):
                raise BadTrajectory(f"{self.where}{key}[{index}]", "an object", described(item))
        return [Row(item, self.name, f"{self.where}{key}[{index}].") for index, item in enumerate(items)]

    def without(self, *keys: str) -> dict[str, Any]:
        """What stands under other keys than these."""
        return {key: value for key, value in self.values.items() if key not in keys}

    def _typed(self, key: str, kind: type, expected: str) -> Any:
        value = self._present(key, expected)
        if not isinstance(value, kind):
            raise BadTrajectory(f"{self.where}{key}", expected, described(value))
        return value

    def _present(self, key: str, expected: str) -> Any:
        if key not in self.values:
            raise BadTrajectory(f"{self.where}{key}", expected, "nothing")
        return self.values[key]


def as_number(value: Any, field: str) -> float:
    """A JSON number as a float of the same value.

    Raises:
        BadTrajectory: If it is something else, or a whole number that no float equals.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadTrajectory(field, "a number", described(value))
    try:
        number = float(value)
    except OverflowError as error:
        raise BadTrajectory(field, "a number that a float can hold", described(value)) from error
    if number != value:
        raise BadTrajectory(field, f"a number that a float can hold (the nearest is {number!r})", described(value))
    return number


def iterate_rows(path: Path, errors: list[BadLine] | None) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The objects of a file, or of the ``.json`` files of a folder in the order of their numbers.

    Args:
        path: A folder, a file of JSON lines (see ``SUFFIXES``), a ``.parquet`` file, or any other file: one JSON
            object, an array of them, or one a line.
        errors: When given, bad rows are appended to it and reading goes on; otherwise the first one is raised.

    Yields:
        Each object with its place.

    Raises:
        BadItem: At the first row that is no JSON object, if ``errors`` is None.
    """
    for place, found in _found(path, errors):
        value = found
        try:
            if isinstance(value, bytes):
                value = strict_json(value.decode("utf-8"))
            elif place.unit == "row":
                value = as_object(value)
            if not isinstance(value, dict):
                raise ValueError(described(value))
        except (ValueError, RecursionError) as problem:
            error = BadItem(place, "", _EXPECTED[place.unit], str(problem).rstrip("."))
            if errors is None:
                raise error from problem
            errors.append(error)
        else:
            yield place, value


def _found(path: Path, errors: list[BadLine] | None) -> Iterator[tuple[Place, Any]]:
    """Rows as bytes still to be decoded, as the items of an array, or as those of a table."""
    if path.is_dir():
        for file in sorted(path.glob("*.json"), key=lambda file: (len(file.name), file.name)):
            yield from _found(file, errors)
    elif path.name.endswith(SUFFIXES):
        yield from _lines(path, numbered_lines(path, errors))
    elif path.name.endswith(PARQUET):
        yield from ((Place(path, "row", number), row) for number, row in enumerate(read_parquet(path), start=1))
    else:
        content = path.read_bytes()
        try:
            document = strict_json(content.decode("utf-8"))
        except (ValueError, RecursionError):
            lines = [line for line in content.split(b"\n") if line.strip()]
            if len(lines) > 1 and all(line.lstrip().startswith(b"{") for line in lines):
                yield from _lines(path, enumerate(content.split(b"\n"), start=1))
            else:
                yield Place(path, "item", 1), content
        else:
            items = document if isinstance(document, list) else [document]
            yield from ((Place(path, "item", number), item) for number, item in enumerate(items, start=1))


def _lines(path: Path, lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[Place, bytes]]:
    for number, line in lines:
        if line.strip():
            yield Place(path, "line", number), line


def write_rows(
    path: Path, container: Container, rows: Iterable[dict[str, Any]], *, replace_folder: bool = False
) -> int:
    """Writes objects as their format holds them; either all of it appears under its name, or nothing does.

    Args:
        path: A ``.json`` file for an array, one of ``SUFFIXES`` or ``.parquet`` for lines, a folder for a folder. A
            file of that name is replaced.
        container: Which of the three.
        rows: The objects, in order.
        replace_folder: Whether a folder of that name is replaced too, if it holds nothing but files of rows.

    Returns:
        The number of rows written.

    Raises:
        FileExistsError: If a folder is to be written where something else stands, or one that is not replaced.
        TrajectoryWriteError: If the disk refuses.
        ValueError: If the name does not fit the container, or Parquet cannot hold a row.
    """
    suffixes = {"lines": (*SUFFIXES, PARQUET), "array": (".json",), "folder": ("",)}[container]
    suffix = next((suffix for suffix in suffixes if path.name.endswith(suffix)), None)
    if suffix is None:
        raise ValueError(f"A file of this format should end in one of {', '.join(suffixes)}, got {path}.")
    match container:
        case "lines" if suffix == PARQUET:
            return write_parquet(path, rows)
        case "lines":
            return write_whole(path, suffix, (_encoded(row) + b"\n" for row in rows))
        case "array":
            return write_whole(path, suffix, _array(rows)) - 2
        case "folder":
            return _write_folder(path, rows, replace_folder)


def _array(rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    yield b"["
    for number, row in enumerate(rows):
        yield (b",\n" if number else b"\n") + _encoded(row)
    yield b"\n]\n"


def unlike_folder(path: Path) -> str:
    """What tells something that is there from a folder that ``write_rows`` writes: expected and got, or nothing."""
    expected = "a folder that holds nothing but files such as 0.json"
    if path.is_symlink() or not path.is_dir():
        return f"expected {expected}, got {'a link' if path.is_symlink() else 'a file'}"
    strange = sorted(entry.name for entry in path.iterdir() if not _is_row(entry))
    return f"expected {expected}, got {strange[0]!r} in it" if strange else ""


def _is_row(path: Path) -> bool:
    return _ROW_FILE.fullmatch(path.name) is not None and path.is_file() and not path.is_symlink()


def _write_folder(path: Path, rows: Iterable[dict[str, Any]], replace: bool) -> int:
    """One file a row; the folder gets its name when it is complete."""
    count = 0
    with whole_folder(path, lambda there: replace and not unlike_folder(there)) as partial:
        for row in rows:
            write_whole(partial / f"{count}.json", ".json", [_encoded(row), b"\n"])
            count += 1
    return count


def _encoded(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8")
