"""Encodes a file of trajectories once, block by block, and notices when the file or the tokenizer has changed."""

import hashlib
import itertools
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from agentprm_jax.data.batch import Example, Lesson, make_example
from agentprm_jax.data.encode import ChatEncoder
from agentprm_jax.data.reading import numbered_lines, parse_line
from agentprm_jax.data.store import DamagedStore, ExampleStore, write_block
from agentprm_jax.data.writing import write_whole

MANIFEST = "manifest.json"
BLOCK = 16_384
"""Trajectories of a block: four windows of `packing`, so that a row is read from one file."""
_CACHED_TURNS = 4096
"""Enough for instructions that many trajectories begin with; other turns of a large file seldom come again."""

Watch = Callable[[Iterable[Any], str, int | None], Iterator[Any]]
"""Passes items on and shows what is done with them, and how many there will be if that is known."""
_LOG = logging.getLogger(__name__)


class _File(msgspec.Struct, frozen=True):
    """A file of trajectories as it was when it was read; the digest is of its lines, however they are compressed."""

    size: int
    modified_ns: int
    lines: int
    digest: str


class _Manifest(msgspec.Struct, frozen=True, tag_field="schema", tag="agentprm.encoded/1"):
    """What a store is made of."""

    file: _File
    tokenizer: str
    lesson: Lesson
    block: int


def claim_store(
    folder: Path, source: Path, encoder: ChatEncoder, lesson: Lesson, *, watch: Watch, block: int = BLOCK
) -> None:
    """Makes a folder ready for the encoded trajectories of a file.

    What has been encoded of the same file in the same way stays; a store of another file, tokenizer or lesson, which
    would be of no use, is removed, and the log says so.

    Args:
        folder: Of the store; made when missing.
        source: The file of trajectories.
        encoder: Makes the tokens.
        lesson: What the trajectories are to teach.
        watch: Shows the progress.
        block: Trajectories of a block.

    Raises:
        BadLine: If the file is a damaged compressed stream.
        FileExistsError: If the folder holds something else than a store.
        DamagedStore: If its manifest cannot be read.
        OSError: If the file cannot be read, or the folder not written.
    """
    found = _read_manifest(folder) if (folder / MANIFEST).exists() else None
    drafts = set(folder.glob("*.partial"))  # of a process that was killed
    if found is None and folder.exists() and set(folder.iterdir()) != drafts:
        raise FileExistsError(
            f"{folder} is to hold encoded trajectories, but holds other files and no {MANIFEST}. Nothing in it was "
            "touched. Choose another folder, or remove this one."
        )
    file = _survey(source, found.file if found else None, watch)
    wanted = _Manifest(file, _fingerprint(encoder), lesson, block)
    if found is not None and (changes := _changes(found, wanted)):
        _LOG.warning("%s is encoded again, because it was encoded with another %s.", source, " and ".join(changes))
        drafts.update(filter(Path.exists, _blocks(folder, found)))
    for useless in drafts:
        if useless.is_dir():
            shutil.rmtree(useless)
        else:
            useless.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / MANIFEST, "", [msgspec.json.format(msgspec.json.encode(wanted)), b"\n"])


def encode_share(
    folder: Path, source: Path, encoder: ChatEncoder, *, watch: Watch, part: int = 0, parts: int = 1
) -> None:
    """Encodes those blocks of a claimed store that are missing and fall to this process.

    Args:
        folder: As given to ``claim_store``.
        source: As given to ``claim_store``.
        encoder: As given to ``claim_store``.
        watch: Shows the progress.
        part: Number of this process, from 0.
        parts: Number of processes that share the work.

    Raises:
        BadLine: At the first line of its blocks that is not a trajectory.
        ValueError: If a trajectory cannot be encoded; names its line.
        StoreWriteError: If the disk refuses.
    """
    manifest = _read_manifest(folder)
    blocks = _blocks(folder, manifest)
    missing = {number for number in range(part, len(blocks), parts) if not blocks[number].exists()}
    if not missing:
        return
    own = ChatEncoder(encoder.tokenizer, _CACHED_TURNS)
    lines = enumerate(itertools.islice(_lines(source), manifest.file.lines))
    wanted = ((place // manifest.block, *line) for place, line in lines if place // manifest.block in missing)
    total = sum(min(manifest.block, manifest.file.lines - number * manifest.block) for number in missing)
    for number, group in itertools.groupby(watch(wanted, f"encoding {source.name}", total), key=lambda one: one[0]):
        write_block(blocks[number], (_example(line, source, at, own, manifest.lesson) for _, at, line in group))


def open_store(folder: Path) -> ExampleStore:
    """Opens a store that has been encoded completely.

    Raises:
        DamagedStore: If a block is missing or not what was written.
    """
    blocks = _blocks(folder, manifest := _read_manifest(folder))
    missing = [block for block in blocks if not block.exists()]
    if missing:
        raise DamagedStore(
            f"{folder} should hold {len(blocks)} blocks of encoded trajectories, but {len(missing)} are missing, the "
            f"first is {missing[0].name}. Run the command that encodes them again."
        )
    store = ExampleStore(blocks)
    if len(store) != manifest.file.lines:
        raise DamagedStore(
            f"{folder} should hold {manifest.file.lines} trajectories, got {len(store)}: the file changed while it was "
            "encoded. Remove the folder, and run the command again when nobody writes to the file."
        )
    return store


def line_of(source: Path, place: int) -> int:
    """Number, from 1, of the line in a file that holds the trajectory at a place, counted from 0, of its store."""
    return next(itertools.islice(_lines(source), place, None))[0]


def _example(line: bytes, source: Path, number: int, encoder: ChatEncoder, lesson: Lesson) -> Example:
    """What a line of a file teaches."""
    trajectory = parse_line(line, source, number)
    try:
        return make_example(trajectory, encoder, lesson)
    except ValueError as error:
        raise ValueError(f"{source}, line {number}: {error}") from error


def _changes(found: _Manifest, wanted: _Manifest) -> list[str]:
    """What makes encoded trajectories useless; a file may be moved, touched or compressed."""
    parts = {
        "content": lambda manifest: (manifest.file.lines, manifest.file.digest),
        "tokenizer": lambda manifest: manifest.tokenizer,
        "lesson": lambda manifest: manifest.lesson,
        "size of blocks": lambda manifest: manifest.block,
    }
    return [name for name, part in parts.items() if part(found) != part(wanted)]


def _blocks(folder: Path, manifest: _Manifest) -> list[Path]:
    return [folder / f"{number:06d}" for number in range(-(-manifest.file.lines // manifest.block))]


def _read_manifest(folder: Path) -> _Manifest:
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=_Manifest)
    except (FileNotFoundError, msgspec.DecodeError) as error:
        raise DamagedStore(
            f"{folder / MANIFEST} should say of what the encoded trajectories beside it were made, got: {error}. "
            "Remove the folder; the same command encodes them again."
        ) from error


def _survey(source: Path, known: _File | None, watch: Watch) -> _File:
    """What there is to encode; the file is only read if it is not known with this size and time of change."""
    status = os.stat(source)
    if known is not None and (known.size, known.modified_ns) == (status.st_size, status.st_mtime_ns):
        return known
    count, digest = 0, hashlib.sha256()
    for _, line in watch(_lines(source), f"reading {source.name}", None):
        count += 1
        digest.update(line)
    return _File(status.st_size, status.st_mtime_ns, count, digest.hexdigest())


def _lines(source: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not only white space, with their numbers."""
    return (pair for pair in numbered_lines(source, None) if pair[1].strip())


def _fingerprint(encoder: ChatEncoder) -> str:
    digest = hashlib.sha256(encoder.tokenizer.backend_tokenizer.to_str().encode())
    digest.update(str(encoder.tokenizer.chat_template).encode())
    return digest.hexdigest()
