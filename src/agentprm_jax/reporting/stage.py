"""A folder that one stage of an experiment fills: reused when done, continued when interrupted, else refused."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import msgspec

from agentprm_jax.data.lock import take_lock
from agentprm_jax.reporting.provenance import Origin, join_origins, origin_here
from agentprm_jax.reporting.results import Stage
from agentprm_jax.training.record import check_record, claim_record, is_draft, write_record

CONFIG_FILE, PROGRESS_FILE, DONE_FILE = "config.json", "minutes.json", "stage.json"
ENCODED = "encoded"
"""Folder of encoded trajectories, which says itself of what it is made: it stays when a claim is given back."""
_NOTES = (CONFIG_FILE, PROGRESS_FILE, ENCODED)
"""What a folder may hold before anything has been made in it, beside drafts of these."""


class ForeignFolder(ValueError):
    """The folder holds files that no stage of this kind has made."""


class FolderInUse(RuntimeError):
    """Another process is filling the folder."""


class _Notes(Origin, frozen=True, kw_only=True):
    minutes: float = 0.0


class StageFolder:
    """The folder of one stage.

    Making it writes the configuration into the folder, or compares it with the one that is there.

    Args:
        folder: where the stage keeps what it makes; created when missing.
        name: what the stage is called in the results.
        config: the stage's dataclass config; any other is refused.
        ignore: fields of the config that do not change what the stage makes.
        writer: whether this process fills the folder; the others of a run find it claimed and only read it.
        together: given what is done, a block that fails in every process of a run where it fails in one.

    Raises:
        RunMismatch: the folder was filled under another configuration; the message names the differing fields.
        ForeignFolder: the folder holds files of something else.
        OSError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        config: Any,
        ignore: tuple[str, ...] = (),
        *,
        writer: bool = True,
        together: Callable[[str], AbstractContextManager[Any]] = nullcontext,
    ):
        """Claims the folder for `config`."""
        self.folder, self.name, self.writer, self._together = folder, name, writer, together
        self._running: Callable[[], dict[str, Any]] | None = None
        plain = {key: value for key, value in plain_config(config).items() if key not in ignore}
        path = folder / CONFIG_FILE
        if path.exists() or not writer:
            check_record(path, plain)
            return
        folder.mkdir(parents=True, exist_ok=True)
        if any(entry.name != ENCODED and not is_draft(entry, *_NOTES) for entry in folder.iterdir()):
            raise ForeignFolder(
                f"{folder} is not empty and has no {CONFIG_FILE}, so it is no folder of this stage ({name}). Nothing "
                "in it was touched. Choose another output folder, or remove this one."
            )
        claim_record(path, plain)

    @property
    def done(self) -> Stage | None:
        """The record of the finished stage, marked as reused; None while the stage is unfinished."""
        path = self.folder / DONE_FILE
        if not path.exists():
            return None
        return msgspec.structs.replace(msgspec.json.decode(path.read_bytes(), type=Stage), reused=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other runs from filling the folder while inside.

        Raises:
            FolderInUse: another one is filling it, or has just ended the stage.
            OtherProcessFailed: the first process of this run has met such an error.
        """
        with ExitStack() as until_left:
            with self._together(f"locking {self.folder}"):
                if self.writer:
                    file = until_left.enter_context((self.folder / CONFIG_FILE).open("rb+"))
                    # without a name it is the file of one that has given the folder back in between
                    if not take_lock(file) or not os.fstat(file.fileno()).st_nlink:
                        raise FolderInUse(
                            f"Another process is at work in {self.folder} ({self.name}), so nothing in it was touched. "
                            "Wait until that one has ended, or stop it, and run the same command again; or choose "
                            "another output folder."
                        )
                    if self.done:
                        raise FolderInUse(
                            f"Another process has just finished {self.folder} ({self.name}), so nothing in it was "
                            "touched. Run the same command again: it goes on from there."
                        )
            yield

    @contextmanager
    def clock(self, seconds_between_notes: float = 60.0) -> Iterator[None]:
        """Adds the time spent inside, and its `Origin`, to the stage's notes, also when it is interrupted.

        They are brought up to date every so many seconds, more than which no kill can lose. An error before anything
        was made gives the folder back, so that a corrected command may have it. Other runs are kept from the folder.

        Raises:
            FolderInUse, OtherProcessFailed: as `held` does.
        """
        with self.held(), self._clock(seconds_between_notes) if self.writer else nullcontext():
            yield

    @contextmanager
    def _clock(self, seconds_between_notes: float) -> Iterator[None]:
        start, known = time.monotonic(), self._notes()
        origin = join_origins([known, origin_here()])

        def running() -> dict[str, Any]:
            return {"minutes": known.minutes + (time.monotonic() - start) / 60, **origin}

        def note() -> None:
            write_record(self.folder / PROGRESS_FILE, running())

        try:
            self._running = running
            with _every(seconds_between_notes, note):
                yield
        except BaseException as error:
            with suppress(OSError):  # on a full disk what the error says matters, and not that it cannot be noted
                if isinstance(error, Exception) and self._nothing_made():
                    self._give_back()
                else:
                    note()
            raise
        note()

    def finish(self, **counts: float) -> Stage:
        """Marks the stage as done; `counts` are the counting fields of `Stage`, and `padding`.

        Belongs into `clock`, so that no other process takes the folder for unfinished.
        """
        notes = msgspec.structs.asdict(self._notes()) if self._running is None else self._running()
        stage = Stage(name=self.name, **notes)
        stage = msgspec.structs.replace(stage, **counts)
        if self.writer:
            write_record(self.folder / DONE_FILE, msgspec.to_builtins(stage))
        return stage

    def _nothing_made(self) -> bool:
        return all(entry.name in _NOTES or is_draft(entry, *_NOTES) for entry in self.folder.iterdir())

    def _give_back(self) -> None:
        for entry in self.folder.iterdir():
            if entry.name == PROGRESS_FILE or is_draft(entry, PROGRESS_FILE, CONFIG_FILE):
                entry.unlink(missing_ok=True)
        (self.folder / CONFIG_FILE).unlink(missing_ok=True)

    def _notes(self) -> _Notes:
        """Minutes and origin so far; older code noted no machine and no versions, and still older no commits."""
        path = self.folder / PROGRESS_FILE
        return msgspec.json.decode(path.read_bytes(), type=_Notes) if path.exists() else _Notes()


@contextmanager
def _every(seconds: float, note: Callable[[], None]) -> Iterator[None]:
    """Calls `note` in a thread every so many seconds while inside; what the disk refuses is tried again next time."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(seconds):
            with suppress(OSError):
                note()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def claim_together(folder: Path, name: str, config: Any, ignore: tuple[str, ...] = ()) -> StageFolder:
    """Makes the `StageFolder` of a run of several processes: the first one claims and fills it, the others read it.

    Args and errors are those of `StageFolder`; all processes must call it and see the same folder.
    """
    import jax

    from agentprm_jax.training.distributed import all_or_none, first_process_first

    with first_process_first():
        return StageFolder(folder, name, config, ignore, writer=jax.process_index() == 0, together=all_or_none)


def plain_config(config: Any) -> Any:
    """A dataclass config as plain JSON values; paths become text."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: plain_config(getattr(config, field.name)) for field in dataclasses.fields(config)}
    if isinstance(config, dict):
        return {str(key): plain_config(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [plain_config(value) for value in config]
    return str(config) if isinstance(config, Path) else config


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`, one an update."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def trained_tokens(run: Path) -> int:
    """Tokens that a training run has seen, from its metrics."""
    return int(sum(row["tokens"] for row in read_metrics(run / "metrics.jsonl")))
