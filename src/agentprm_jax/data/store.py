"""Encoded trajectories on disk: blocks of records, of which memory holds a few numbers per trajectory."""

import copy
import functools
import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec
import numpy as np
from jaxtyping import Float32, Float64, Int32, UInt64

from agentprm_jax.data.batch import Example
from agentprm_jax.data.encode import EncodedTrajectory
from agentprm_jax.data.writing import advice_on, whole_folder

RECORDS, INDEX = "records.msgpack", "index.npz"

_OPEN_BLOCKS = 256  # each is an open file, of which many systems allow 1,024
_NUMBERS = np.dtype(
    [("tokens", "i4"), ("steps", "i4"), ("outcome", "f8"), ("group", "u8"), ("bytes", "u4"), ("check", "u4")]
)


class DamagedStore(ValueError):
    """A store of encoded trajectories is not what was written."""


class StoreWriteError(OSError):
    """Encoded trajectories could not be written; the blocks that were finished before are whole."""


class _Record(msgspec.Struct, array_like=True):
    """What is read when a trajectory is shown; arrays as bytes, the mask one bit a token."""

    id: str
    task: str
    tokens: bytes
    readouts: bytes
    action_mask: bytes
    action_loss: bytes


_DECODER = msgspec.msgpack.Decoder(_Record)


class ExampleStore:
    """A data set in blocks on disk, as `packing.Examples`; any number of threads may read it.

    Attributes:
        initial_values: float32 [n]. V(s_0) of each trajectory, in [0, 1].
    """

    def __init__(self, blocks: Sequence[Path]) -> None:
        """Reads the numbers of all trajectories.

        Args:
            blocks: Folders that `write_block` has filled, in the order of the data.

        Raises:
            DamagedStore: If a block is not what was written.
        """
        indices = [_read_index(block) for block in blocks]
        numbers = np.concatenate([np.zeros(0, _NUMBERS), *(index["numbers"] for index in indices)])
        self._blocks = tuple(blocks)
        self._starts = np.cumsum([0, *(len(index["numbers"]) for index in indices)])
        self._lengths, self._steps = (np.ascontiguousarray(numbers[name]) for name in ("tokens", "steps"))
        self._outcomes, self._groups = (np.ascontiguousarray(numbers[name]) for name in ("outcome", "group"))
        self._checks, ends = np.ascontiguousarray(numbers["check"]), np.cumsum(numbers["bytes"], dtype=np.int64)
        self._offsets = np.concatenate([np.zeros(1, np.int64), ends])
        self._content = hashlib.sha256("".join(str(index["digest"]) for index in indices).encode()).hexdigest()
        self._file = functools.lru_cache(_OPEN_BLOCKS)(self._open)
        self.initial_values: Float32[np.ndarray, " n"] = np.zeros(len(numbers), np.float32)

    def __len__(self) -> int:
        """Number of trajectories."""
        return len(self._lengths)

    @property
    def lengths(self) -> Int32[np.ndarray, " n"]:
        """Tokens of each trajectory."""
        return self._lengths

    @property
    def steps(self) -> Int32[np.ndarray, " n"]:
        """Steps of each trajectory."""
        return self._steps

    @property
    def outcomes(self) -> Float64[np.ndarray, " n"]:
        """Outcome of each trajectory, in [0, 1]."""
        return self._outcomes

    @property
    def groups(self) -> UInt64[np.ndarray, " n"]:
        """The `Example.group` of each trajectory."""
        return self._groups

    @property
    def digest(self) -> str:
        """Identifies all that the examples hold."""
        values = hashlib.sha256(self.initial_values.tobytes()).hexdigest()
        return hashlib.sha256((self._content + values).encode()).hexdigest()

    def with_initial_values(self, values: Float32[np.ndarray, " n"]) -> "ExampleStore":
        """The same trajectories with other initial values.

        Raises:
            ValueError: If their number is not that of the trajectories.
        """
        if len(values) != len(self):
            raise ValueError(f"There should be one initial value per trajectory, {len(self)}, got {len(values)}.")
        other = copy.copy(self)
        other.initial_values = np.asarray(values, np.float32)
        return other

    def read(self, places: Sequence[int]) -> list[Example]:
        """The examples at some places, counted from 0 over all blocks, in the order of ``places``.

        Raises:
            DamagedStore: If their block is not what was written.
        """
        blocks = (np.searchsorted(self._starts, places, side="right") - 1).tolist()
        return [self._example(place, self._record(block, place)) for block, place in zip(blocks, places, strict=True)]

    def _record(self, block: int, place: int) -> _Record:
        """Reads with a call that moves no position and maps no memory, so that threads and the peak stay untouched."""
        first, begin, end = self._offsets[[self._starts[block], place, place + 1]].tolist()
        file = self._file(block)  # held while it is read: only the one that is kept for a block stays open by itself
        found = os.pread(file.fileno(), end - begin, begin - first)
        if zlib.crc32(found) != self._checks[place]:
            raise _damaged(self._blocks[block] / RECORDS, f"other bytes in record {place - int(self._starts[block])}")
        return _DECODER.decode(found)

    def _open(self, block: int) -> IO[bytes]:
        try:
            return open(self._blocks[block] / RECORDS, "rb", buffering=0)
        except OSError as error:
            raise _damaged(self._blocks[block] / RECORDS, str(error)) from error

    def _example(self, place: int, record: _Record) -> Example:
        length = int(self._lengths[place])
        mask = np.unpackbits(np.frombuffer(record.action_mask, np.uint8), count=length).view(bool)
        tokens, readouts = np.frombuffer(record.tokens, np.int32), np.frombuffer(record.readouts, np.int32)
        return Example(
            encoded=EncodedTrajectory(tokens, readouts, mask, record.id, record.task),
            outcome=float(self._outcomes[place]),
            initial_value=float(self.initial_values[place]),
            action_loss=np.frombuffer(record.action_loss, np.float32).tolist(),
            group=int(self._groups[place]),
        )


def write_block(block: Path, examples: Iterable[Example]) -> None:
    """Writes the next examples of a data set; the folder gets its name when it is complete.

    Args:
        block: The folder; it must not be there yet.
        examples: What it shall hold. Their initial values are not kept, since they depend on the whole data set.

    Raises:
        FileExistsError: If the folder is there.
        StoreWriteError: If the disk refuses.
    """
    numbers, digest = [], hashlib.sha256()
    with _explained(block), whole_folder(block) as draft:
        with open(draft / RECORDS, "wb") as file:
            for example in examples:
                record = _encode(example)
                file.write(record)
                digest.update(record)
                sizes = (len(example.encoded.tokens), len(example.encoded.readouts))
                numbers.append((*sizes, example.outcome, example.group, len(record), zlib.crc32(record)))
        table = np.array(numbers, _NUMBERS)
        digest.update(table.tobytes())
        np.savez(draft / INDEX, numbers=table, digest=np.array(digest.hexdigest()))


def _encode(example: Example) -> bytes:
    encoded = example.encoded
    return msgspec.msgpack.encode(
        _Record(
            id=encoded.id,
            task=encoded.task,
            tokens=np.asarray(encoded.tokens, np.int32).tobytes(),
            readouts=np.asarray(encoded.readouts, np.int32).tobytes(),
            action_mask=np.packbits(encoded.action_mask).tobytes(),
            action_loss=np.asarray(example.action_loss, np.float32).tobytes(),
        )
    )


def _read_index(block: Path) -> dict[str, np.ndarray]:
    """The numbers of a block, whose size is checked; what lies in the records is checked when it is read."""
    try:
        with np.load(block / INDEX) as file:
            index = {name: file[name] for name in ("numbers", "digest")}
        size = (block / RECORDS).stat().st_size
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise _damaged(block, f"{type(error).__name__}: {error}") from error
    written = index["numbers"]["bytes"].sum(dtype=np.int64)
    if size != written:
        raise _damaged(block / RECORDS, f"{size} bytes where {written} were written")
    return index


def _damaged(path: Path, problem: str) -> DamagedStore:
    return DamagedStore(
        f"{path} is damaged: expected a block of encoded trajectories as it was written, got {problem.rstrip('.')}. "
        f"Remove the folder {path.parent if path.name == RECORDS else path}; the same command encodes that block again."
    )


@contextmanager
def _explained(block: Path) -> Iterator[None]:
    """Turns an operating system error into one paragraph that says what is left and what to do."""
    try:
        yield
    except OSError as error:
        raise StoreWriteError(
            error.errno,
            f"Encoding stopped: {error}. The blocks that were finished before are whole. {advice_on(error)}, and run "
            "the same command again",
            str(block),
        ) from error
