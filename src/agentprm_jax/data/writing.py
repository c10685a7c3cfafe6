"""Writes trajectory files: whole lines only, whatever stops the process."""

import errno
import gzip
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec
import zstandard

from agentprm_jax.data.lock import take_lock
from agentprm_jax.data.reading import suffix_of
from agentprm_jax.data.record import Trajectory

_BLOCK = 1 << 16
_LOG = logging.getLogger(__name__)


class TrajectoryWriteError(OSError):
    """Trajectories could not be written; the file holds whole lines only."""


def encode_line(trajectory: Trajectory) -> bytes:
    """One trajectory as one line of UTF-8 JSON with its line ending.

    Floats are written with the fewest digits that read back as the same float.
    """
    record = msgspec.to_builtins(trajectory)
    return json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8") + b"\n"


def write_trajectories(path: str | os.PathLike[str], trajectories: Iterable[Trajectory]) -> int:
    """Writes a whole file at once: either all of it appears under its name, or nothing does.

    Args:
        path: A ``.jsonl``, ``.jsonl.gz`` or ``.jsonl.zst`` file; a file of that name is replaced.
        trajectories: What to write, in order.

    Returns:
        The number of trajectories written.

    Raises:
        TrajectoryWriteError: If the disk refuses; a file that stood under that name is left as it was.
        ValueError: If the file's name ends in none of the known suffixes.
    """
    return write_whole(Path(path), suffix_of(Path(path)), map(encode_line, trajectories))


def write_whole(target: Path, suffix: str, parts: Iterable[bytes]) -> int:
    """Writes a file of which either all appears under its name, or nothing does.

    Args:
        target: The file; one of that name is replaced.
        suffix: ``.jsonl.gz`` and ``.jsonl.zst`` compress; any other writes the bytes as they are.
        parts: What the file holds, in order.

    Returns:
        The number of parts.

    Raises:
        TrajectoryWriteError: If the disk refuses; a file that stood under that name is left as it was.
    """
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    count = 0
    try:
        with _explained(target), open(partial, "wb") as raw:
            with _compressed(raw, suffix) as file:
                for part in parts:
                    file.write(part)
                    count += 1
            raw.flush()
            os.fsync(raw.fileno())
            os.replace(partial, target)
            _sync_folder(target.parent)
    finally:
        partial.unlink(missing_ok=True)
    return count


@contextmanager
def whole_folder(target: Path, replaceable: Callable[[Path], bool] = lambda _: False) -> Iterator[Path]:
    """A folder to fill, which gets its name when it is complete; whatever stops the filling, no part of it stays.

    Args:
        target: The folder.
        replaceable: Whether what is there already may be replaced, asked before the filling and after it.

    Yields:
        The folder under another name, beside the target.

    Raises:
        FileExistsError: If something of that name is there that may not be replaced.
    """
    _check_replaceable(target, replaceable)
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        _check_replaceable(target, replaceable)
        if target.exists():
            _replace_folder(target, partial)
        else:
            partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_replaceable(target: Path, replaceable: Callable[[Path], bool]) -> None:
    if target.exists() and not replaceable(target):
        raise FileExistsError(
            f"A folder to write to should not be there yet, got {target}: choose another, or remove it."
        )


def _replace_folder(target: Path, new: Path) -> None:
    """Puts a folder in the place of another, which is whole under some name beside it until the new one is there."""
    parking = Path(tempfile.mkdtemp(prefix=f"{target.name}.", suffix=".replaced", dir=target.parent))
    old = parking / target.name
    try:
        target.rename(old)
        new.rename(target)
        _sync_folder(target.parent)
    finally:  # also when Ctrl-C comes between the two
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(parking, ignore_errors=True)


class TrajectoryWriter:
    """Appends trajectories to a ``.jsonl`` file, a whole line at a time.

    Opening detects a torn last line, left by a process that was killed, and repairs it: a line that lacks only its line
    ending gets it, an incomplete one is cut off. Every append reaches the disk before it returns. Only one writer can
    have a file open.

    Attributes:
        path: The file.
        removed: Number of bytes of an incomplete last line that opening cut off.
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Opens the file, makes it if there is none, and repairs its end.

        Args:
            path: A file whose name ends in ``.jsonl``. To compress a finished file, write it with
                ``write_trajectories``.

        Raises:
            ValueError: If the name does not end in ``.jsonl``, or the last line is incomplete and is no JSON object.
            TrajectoryWriteError: If another writer has the file open, or the disk refuses.
        """
        self.path = Path(path)
        if suffix_of(self.path) != ".jsonl":
            raise ValueError(f"Trajectories can be appended to a .jsonl file only, got {self.path}.")
        with _explained(self.path), ExitStack() as unless_ready:
            self._file = unless_ready.enter_context(open(self.path, "a+b", buffering=0))
            _lock(self._file, self.path)
            self.removed = _repair(self._file, self.path)
            _sync_folder(self.path.parent)
            unless_ready.pop_all()

    def append(self, trajectory: Trajectory) -> None:
        """Writes one trajectory; when this returns it is on the disk.

        Raises:
            TrajectoryWriteError: If the disk refuses; the file then ends where it ended before.
        """
        self.extend([trajectory])

    def extend(self, trajectories: Iterable[Trajectory]) -> None:
        """Writes several trajectories and waits for the disk once.

        Raises:
            TrajectoryWriteError: If the disk refuses; the file then ends where it ended before.
        """
        self.extend_lines(map(encode_line, trajectories))

    def extend_lines(self, encoded: Iterable[bytes]) -> None:
        """Writes lines that are encoded already, each with its line ending, and waits for the disk once.

        Raises:
            TrajectoryWriteError: If the disk refuses; the file then ends where it ended before.
        """
        lines = b"".join(encoded)
        with _explained(self.path):
            start = self._file.seek(0, os.SEEK_END)
            whole = False
            try:
                _write_all(self._file, lines)
                os.fsync(self._file.fileno())
                whole = True
            finally:  # also when Ctrl-C comes between two partial writes
                if not whole:
                    self._file.truncate(start)

    def close(self) -> None:
        """Closes the file and lets the next writer in."""
        self._file.close()

    def __enter__(self) -> Self:
        """The writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the file."""
        self.close()


def _write_all(file: IO[bytes], data: bytes) -> None:
    """Unbuffered writes may be partial."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _lock(file: IO[bytes], path: Path) -> None:
    """Keeps a second writer from taking the line that this one is writing for a torn one."""
    if not take_lock(file):
        raise TrajectoryWriteError(
            errno.EWOULDBLOCK,
            "Another writer has the file open: wait for it, stop it, or write to another file",
            str(path),
        )


def _repair(file: IO[bytes], path: Path) -> int:
    """Makes the file end with a whole line; gives the number of bytes that had to go."""
    start = _last_line_start(file)
    file.seek(start)
    tail = file.read()
    if not tail:
        return 0
    if _is_json(tail):
        _write_all(file, b"\n")
        return 0
    if not tail.lstrip().startswith((b"{", b"\0")):  # zeros: what a power cut leaves on some file systems
        raise ValueError(
            f"The last line of {path} (from byte {start}) is incomplete and is not the beginning of a JSON object: "
            "expected a file of trajectories; check the path, or remove that line by hand."
        )
    _LOG.warning("%s ended in an incomplete line of %d bytes, which was removed.", path, len(tail))
    file.truncate(start)
    return len(tail)


def _last_line_start(file: IO[bytes]) -> int:
    """Offset of the first byte after the last line ending, found from the end."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        begin = max(0, end - _BLOCK)
        file.seek(begin)
        found = file.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def _is_json(tail: bytes) -> bool:
    """A prefix of a JSON object is never a JSON object, so this tells a lost line ending from a torn line."""
    try:
        return isinstance(json.loads(tail.decode("utf-8")), dict)
    except (ValueError, RecursionError):
        return False


@contextmanager
def _compressed(raw: IO[bytes], suffix: str) -> Iterator[IO[bytes]]:
    """A file to write plain bytes to; leaving the block ends the compressed stream but not the file."""
    match suffix:
        case ".jsonl.gz":  # no name and no time in the header: equal trajectories give equal bytes
            with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as file:
                yield file  # pyright: ignore[reportReturnType]
        case ".jsonl.zst":
            with zstandard.ZstdCompressor(write_checksum=True).stream_writer(raw, closefd=False) as file:
                yield file
        case _:
            yield raw


def advice_on(error: OSError) -> str:
    """What to do where a file could not be written: on a full disk make room."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "Make room, or choose another disk" if full else "Check the path and its permissions"


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns an operating system error into one paragraph that says what is left and what to do."""
    try:
        yield
    except TrajectoryWriteError:
        raise
    except OSError as error:
        raise TrajectoryWriteError(
            error.errno,
            f"Writing trajectories failed: {error}. Nothing that was written before is lost, and the "
            f"file, if it exists, holds whole lines only. {advice_on(error)}, and run the same command again",
            str(path),
        ) from error


def _sync_folder(folder: Path) -> None:
    """Makes a new file's name as durable as its content."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
