"""Reads trajectory files: every line becomes a Trajectory or an error that says what is wrong with it, and where."""

import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import zstandard

from agentprm_jax.data.record import SCHEMA, ActorInfo, BadTrajectory, Message, RecordedScores, Trajectory, too_deep

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst")

_CHUNK = 1 << 20
_STREAM_ERRORS = (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError)
_MSGSPEC_PLACE = re.compile(r"^(?P<problem>.*?)(?: - at `\$?(?P<path>[^`]*)`)?$", re.DOTALL)
_MSGSPEC_TYPES = re.compile(r"^Expected (?P<expected>.*), got (?P<got>.*)$", re.DOTALL)
_MSGSPEC_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$")
_KNOWN: dict[type[msgspec.Struct], frozenset[str]] = {
    struct: frozenset(field.encode_name for field in msgspec.structs.fields(struct))
    for struct in (Trajectory, Message, ActorInfo, RecordedScores)
}


class BadLine(ValueError):
    """A line of a trajectory file that is not a trajectory.

    Attributes:
        path: The file.
        line: Number of the line, from 1.
        field: Path of the offending field inside the record; empty when the line as a whole is wrong.
        expected: What the record allows there.
        got: What was there.
    """

    def __init__(self, path: Path, line: int, field: str, expected: str, got: str):
        """Keeps the parts and composes the sentence from them."""
        place = f", field `{field}`" if field else ""
        super().__init__(f"{path}, line {line}{place}: expected {expected}, got {got}.")
        self.path, self.line, self.field, self.expected, self.got = path, line, field, expected, got


class Trajectories(list[Trajectory]):
    """The trajectories of a file, in order.

    Attributes:
        errors: The lines that were refused; always empty when the file was read with ``on_error="raise"``.
    """

    def __init__(self, trajectories: list[Trajectory], errors: list[BadLine]):
        """Holds both lists."""
        super().__init__(trajectories)
        self.errors = errors


def read_trajectories(path: str | os.PathLike[str], on_error: Literal["raise", "collect"] = "raise") -> Trajectories:
    """Reads a whole trajectory file.

    Args:
        path: A ``.jsonl``, ``.jsonl.gz`` or ``.jsonl.zst`` file.
        on_error: ``raise`` stops at the first bad line; ``collect`` goes on and leaves the errors in ``errors``.

    Returns:
        The trajectories in file order, a list with the attribute ``errors``.

    Raises:
        BadLine: At the first line that is not a trajectory, if ``on_error`` is ``raise``.
        ValueError: If the file's name ends in none of the known suffixes, or ``on_error`` is unknown.
        OSError: If the file cannot be opened.
    """
    if on_error not in ("raise", "collect"):
        raise ValueError(f"on_error should be 'raise' or 'collect', got {on_error!r}.")
    errors: list[BadLine] = []
    return Trajectories(list(iterate_trajectories(path, errors if on_error == "collect" else None)), errors)


def iterate_trajectories(path: str | os.PathLike[str], errors: list[BadLine] | None = None) -> Iterator[Trajectory]:
    """Reads a trajectory file one trajectory at a time, for files that should not be held in memory.

    Args:
        path: As for ``read_trajectories``.
        errors: When given, bad lines are appended to it and reading goes on; otherwise the first one is raised.

    Yields:
        The trajectories in file order. Lines of nothing but white space are passed over.

    Raises:
        BadLine: At the first line that is not a trajectory, if ``errors`` is None.
    """
    source = Path(path)
    for number, line in numbered_lines(source, errors):
        if not line.strip():
            continue
        try:
            trajectory = parse_line(line, source, number)
        except BadLine as error:
            if errors is None:
                raise
            errors.append(error)
        else:
            yield trajectory


def parse_line(line: bytes, path: Path, number: int) -> Trajectory:
    """One line of a trajectory file as a Trajectory.

    Args:
        line: The line's bytes, with or without its line ending.
        path: The file, for the error message.
        number: The line's number, from 1, for the error message.

    Returns:
        The trajectory; keys that the record does not know stand in its ``extra`` (or that of the message, actor or
        scores).

    Raises:
        BadLine: If the line is not a trajectory.
    """
    try:
        record = strict_json(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        torn = "" if line.endswith(b"\n") else " (the line has no end, so its writer was probably stopped inside it)"
        raise BadLine(path, number, "", "one JSON object in UTF-8", f"{str(error).rstrip('.')}{torn}") from error
    try:
        return trajectory_from_record(record)
    except BadTrajectory as error:
        raise BadLine(path, number, error.field, error.expected, error.got) from error


def strict_json(text: str) -> Any:
    """The value of a JSON text.

    Args:
        text: One JSON value.

    Returns:
        What it says.

    Raises:
        ValueError: If it is no JSON, has a key twice in one object, or a number that JSON does not have.
        RecursionError: If it is nested without end.
    """
    return json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_no_constant)


def trajectory_from_record(record: Any) -> Trajectory:
    """A decoded JSON object as a Trajectory.

    Args:
        record: What a JSON parser gave.

    Returns:
        The trajectory; unknown keys stand in ``extra``.

    Raises:
        BadTrajectory: If the record is not a trajectory.
    """
    if not isinstance(record, dict):
        raise BadTrajectory("", "a JSON object", type(record).__name__)
    if record.get("schema") != SCHEMA:
        raise BadTrajectory("schema", f'"{SCHEMA}"', repr(record["schema"]) if "schema" in record else "nothing")
    body = {key: value for key, value in record.items() if key != "schema"}
    try:
        return msgspec.convert(_with_unknown_in_extra(body), Trajectory)
    except msgspec.ValidationError as error:
        raise _explain(error) from error
    except RecursionError as error:
        raise too_deep("") from error


def _with_unknown_in_extra(record: dict[str, Any]) -> dict[str, Any]:
    """The same record with the unknown keys of every level moved to the `extra` of that level."""
    moved = _absorb(record, Trajectory, "")
    if isinstance(messages := moved.get("messages"), list):
        moved["messages"] = [_absorb(item, Message, f"messages[{index}].") for index, item in enumerate(messages)]
    if "actor" in moved:
        moved["actor"] = _absorb(moved["actor"], ActorInfo, "actor.")
    if isinstance(scores := moved.get("scores"), dict):
        moved["scores"] = {name: _absorb(item, RecordedScores, f"scores.{name}.") for name, item in scores.items()}
    return moved


def _absorb(value: Any, struct: type[msgspec.Struct], where: str) -> Any:
    """Moves the keys that `struct` does not know to `extra`; what is no object is left for the typed conversion."""
    if not isinstance(value, dict) or value.keys() <= _KNOWN[struct]:
        return value
    extra = value.get("extra", {})
    unknown = {key: item for key, item in value.items() if key not in _KNOWN[struct]}
    if not isinstance(extra, dict):
        raise BadTrajectory(f"{where}extra", "an object", repr(extra))
    if doubled := sorted(unknown.keys() & extra.keys()):
        raise BadTrajectory(f"{where}{doubled[0]}", "a key that `extra` does not also hold", "both")
    known = {key: item for key, item in value.items() if key in _KNOWN[struct]}
    return {**known, "extra": {**extra, **unknown}}


def _explain(error: msgspec.ValidationError) -> BadTrajectory:
    """The library's message taken apart into field, expected and got."""
    match = _MSGSPEC_PLACE.match(str(error))
    assert match is not None  # every part of the pattern is optional
    place, problem = (match["path"] or "").removeprefix("."), match["problem"]
    if isinstance(error.__cause__, BadTrajectory):
        cause = error.__cause__
        return BadTrajectory(f"{place}.{cause.field}" if place else cause.field, cause.expected, cause.got)
    if missing := _MSGSPEC_MISSING.match(problem):
        return BadTrajectory(f"{place}.{missing['name']}" if place else missing["name"], "a value", "nothing")
    if types := _MSGSPEC_TYPES.match(problem):
        return BadTrajectory(place, types["expected"].replace("`", ""), types["got"].replace("`", ""))
    return BadTrajectory(place, "a valid value", problem)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Builds a JSON object; a key that stands there twice would lose one of its values."""
    built = dict(pairs)
    if len(built) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} twice in one object")
    return built


def _no_constant(name: str) -> float:
    raise ValueError(f"the number {name}, which JSON does not have")


def numbered_lines(path: Path, errors: list[BadLine] | None) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, numbered from 1; a damaged compressed stream is an error of the line where it breaks off."""
    number = 0
    try:
        for number, line in enumerate(open_lines(path), start=1):
            yield number, line
    except _STREAM_ERRORS as problem:
        error = BadLine(
            path, number + 1, "", "a complete compressed file", f"{type(problem).__name__}: {problem}".rstrip(".")
        )
        if errors is None:
            raise error from problem
        errors.append(error)


def open_lines(path: Path) -> Iterator[bytes]:
    """The lines of a plain or compressed file, with their line endings.

    Args:
        path: A file whose name ends in one of ``SUFFIXES``.

    Yields:
        Each line; the last one may lack its line ending.

    Raises:
        ValueError: If the file's name ends in none of the known suffixes.
    """
    match suffix_of(path):
        case ".jsonl":
            with open(path, "rb") as file:
                yield from file
        case ".jsonl.gz":
            with gzip.open(path, "rb") as file:
                yield from file
        case ".jsonl.zst":
            yield from _zstandard_lines(path)


def suffix_of(path: Path) -> str:
    """The one of ``SUFFIXES`` that the file's name ends in.

    Raises:
        ValueError: If it ends in none of them.
    """
    for suffix in SUFFIXES:
        if path.name.endswith(suffix):
            return suffix
    raise ValueError(f"The name of a trajectory file should end in one of {', '.join(SUFFIXES)}, got {path}.")


def _zstandard_lines(path: Path) -> Iterator[bytes]:
    """Lines of one or more Zstandard frames; the library's own reader takes a cut-off frame for a whole one."""
    rest = b""
    with open(path, "rb") as file:
        for chunk in _zstandard_chunks(iter(lambda: file.read(_CHUNK), b"")):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line + b"\n"
    if rest:
        yield rest


def _zstandard_chunks(compressed: Iterator[bytes]) -> Iterator[bytes]:
    frame = None
    for chunk in compressed:
        pending = chunk
        while pending:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            yield frame.decompress(pending)
            pending = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError("the file ends inside a Zstandard frame")
