"""Checkpoints of the training state, written and read by Orbax."""

import functools
import logging
import pathlib
import shutil
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import jax
import orbax.checkpoint as ocp

from agentprm_jax.training.distributed import first_process_first
from agentprm_jax.training.state import TrainState

_METADATA = "_CHECKPOINT_METADATA"


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; the message says what is left and what to do."""


class Checkpointer:
    """Keeps the newest checkpoints of a run, one folder a step.

    Writing goes on in the background and ends with a rename, so that a checkpoint is either whole or not there. What a
    killed process left half-written is removed when the folder is opened.
    """

    def __init__(self, directory: pathlib.Path, keep: int) -> None:
        """Opens or creates the folder.

        Args:
            directory: the folder; nobody else may write to it.
            keep: newest checkpoints that are kept, at least 1.
        """
        self.directory = directory.absolute()
        _quieten_orbax()
        with first_process_first():
            if jax.process_index() == 0:
                _remove_incomplete(self.directory)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=ocp.checkpoint_managers.LatestN(keep), cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def latest_step(self) -> int | None:
        """Returns the step of the newest checkpoint, or None if there is none."""
        return self._manager.latest_step()

    def save(self, state: TrainState, step: int) -> None:
        """Begins to write a checkpoint; `state` may be donated as soon as this returns.

        Args:
            state: the state.
            step: number of updates it has seen; nothing happens if that checkpoint is already there.

        Raises:
            CheckpointError: if this or an earlier checkpoint could not be written.
        """
        if step == self.latest_step():
            return
        try:
            self._manager.save(step, args=ocp.args.StandardSave(state))
        except (OSError, ValueError) as error:
            raise self._not_written(error) from error

    def wait(self) -> None:
        """Returns when everything is written.

        Raises:
            CheckpointError: if a checkpoint could not be written.
        """
        try:
            self._manager.wait_until_finished()
        except (OSError, ValueError) as error:
            raise self._not_written(error) from error

    def restore(self, abstract: TrainState) -> TrainState:
        """Reads the newest checkpoint.

        Args:
            abstract: shapes, dtypes and shardings that the state shall have; the mesh may be another than at writing.

        Raises:
            CheckpointError: if there is none, or it cannot be read into `abstract`.
        """
        step = self.latest_step()
        if step is None:
            raise CheckpointError(f"There is no checkpoint in {self.directory}.")
        try:
            return TrainState(*self._manager.restore(step, args=ocp.args.StandardRestore(abstract)))
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"The checkpoint {self.directory / str(step)} cannot be read: {_first_line(error)} Remove that folder "
                "to go on from the checkpoint before it (or from the start, if it is the only one)."
            ) from error

    def close(self) -> None:
        """Waits for what is being written and lets go of the folder.

        Raises:
            CheckpointError: if a checkpoint could not be written.
        """
        self.wait()
        self._manager.close()

    def __enter__(self) -> Self:
        """Returns itself; leaving the block closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the folder, unless writing has failed: closing would report the same failure again."""
        if not isinstance(error, CheckpointError):
            self.close()

    def _not_written(self, error: Exception) -> CheckpointError:
        whole = sorted(_complete_steps(self.directory))
        left = f"the checkpoint of step {whole[-1]} is whole" if whole else "there is no earlier one"
        return CheckpointError(
            f"A checkpoint could not be written to {self.directory}: {_first_line(error)} Of the earlier ones, {left}. "
            "Make room or correct the folder's permissions, then run the same command again: it goes on from there."
        )


def _complete_steps(directory: pathlib.Path) -> list[int]:
    return [int(path.parent.name) for path in directory.glob(f"*/{_METADATA}") if path.parent.name.isdigit()]


def _remove_incomplete(directory: pathlib.Path) -> None:
    """Removes step folders without Orbax's metadata: a deletion that was cut off, or a file system without rename."""
    for path in directory.glob("*"):
        if path.is_dir() and path.name.isdigit() and not (path / _METADATA).exists():
            shutil.rmtree(path)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".") + "."


def _quieten_orbax() -> None:
    """Drops what Orbax prints beside the errors that it raises: many tracebacks, which would hide the answer to them.

    They are what it logs below a critical error, and what becomes of the writing of other files when that of one has
    failed: asyncio logs their errors, which nobody asks for, and reports the event loop that Orbax has closed by then.
    """
    for name in ("absl", "asyncio"):
        logger = logging.getLogger(name)
        if _not_from_orbax not in logger.filters:
            logger.addFilter(_not_from_orbax)
    if getattr(sys.unraisablehook, "func", None) is not _unless_loop_is_closed:
        sys.unraisablehook = functools.partial(_unless_loop_is_closed, sys.unraisablehook)


def _not_from_orbax(record: logging.LogRecord) -> bool:
    raised = traceback.walk_tb(record.exc_info[2]) if record.exc_info else ()
    places = [record.pathname, *(frame.f_code.co_filename for frame, _ in raised)]
    return record.levelno >= logging.CRITICAL or not any("orbax" in place for place in places)


def _unless_loop_is_closed(report: Callable[[Any], object], unraisable: Any) -> None:
    if str(unraisable.exc_value) != "Event loop is closed":
        report(unraisable)
