"""The one training loop: it fetches batches, makes updates, reports and saves, and knows no objective."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from agentprm_jax.training.agreement import Wish, make_agreement
from agentprm_jax.training.batches import BatchSource
from agentprm_jax.training.checkpoint import Checkpointer
from agentprm_jax.training.config import LoopConfig
from agentprm_jax.training.interrupt import NonFiniteUpdate, Stop, TrainingInterrupted
from agentprm_jax.training.mesh import batch_sharding, row_share
from agentprm_jax.training.metrics import Row, Writer
from agentprm_jax.training.state import TrainState
from agentprm_jax.training.step import FINITE, Metrics, Update

_IN_FLIGHT = 2
"""Updates that are dispatched before an earlier one must be done: enough to keep the devices busy, and few enough to be
waited for when the run must end soon."""


def fit(
    state: TrainState,
    update: Update,
    batches: BatchSource,
    total_steps: int,
    *,
    mesh: Mesh,
    loop: LoopConfig,
    checkpointer: Checkpointer,
    writers: Sequence[Writer],
    stop: Stop,
    clock: Callable[[], float],
) -> TrainState:
    """Makes the updates from `state.step` up to `total_steps`.

    Updates are dispatched without waiting for their metrics, which are fetched every `loop.log_every` steps and before
    every checkpoint. What a batch is depends on the number of the update alone, so that a restored state continues as
    if it had never stopped.

    Args:
        state: where to begin; it is donated.
        update: as `make_train_step` compiles it, for what is frozen.
        batches: gives the batch of every update.
        total_steps: updates of the whole run.
        mesh: where batches are put.
        loop: how often to report and to save.
        checkpointer: where to save.
        writers: what takes the metrics; one row an update.
        stop: whether this process has been asked to stop; one is enough, and all stop after the same update.
        clock: gives seconds from any origin.

    Returns:
        The state after the last update, which is saved as well.

    Raises:
        NonFiniteUpdate: loss or gradient of an update was not finite. Checkpoints are of states before it.
        TrainingInterrupted: the run was asked to stop and has been saved.
        CheckpointError: a checkpoint could not be written.
        ValueError: a batch has another number of rows than it should.
    """
    reports = _Reports(writers, batches, checkpointer)
    agree, start = make_agreement(mesh), int(state.step)
    saved, saved_at = start, clock()
    share = row_share(mesh)
    rows = loop.rows_per_batch // share.of * len(share.parts)
    for index in range(start, total_steps):
        batch = place_batch(mesh, _checked(batches[index], rows, loop.rows_per_batch))
        state, metrics = update(state, batch, np.int32(index))
        reports.add(index, metrics)
        done, asked = index + 1, stop()
        overdue = clock() - saved_at >= 60 * loop.checkpoint_minutes
        wish = agree(Wish.STOP if asked is not None else Wish.SAVE if overdue else Wish.GO_ON)
        if wish is not Wish.GO_ON or done - saved == loop.checkpoint_every or done == total_steps:
            reports.flush()
            checkpointer.save(state, done)
            saved, saved_at = done, clock()
        elif done % loop.log_every == 0:
            reports.flush(in_flight=1)
        if wish is Wish.STOP and done < total_steps:
            checkpointer.wait()
            raise TrainingInterrupted(
                _farewell(asked or "a signal to another process", done, total_steps, checkpointer)
            )
    checkpointer.wait()
    return state


def place_batch(mesh: Mesh, batch: Any) -> Any:
    """Puts this process' rows of a batch, which are those of its `row_share` in order, on its devices."""
    sharding, share = batch_sharding(mesh), row_share(mesh)

    def place(x: Any) -> jax.Array:
        rows = len(x) // len(share.parts) * share.of
        return jax.make_array_from_process_local_data(sharding, np.asarray(x), (rows, *x.shape[1:]))

    return jax.tree.map(place, batch)


class _Reports:
    """Metrics that are still on the device, in the order of their updates."""

    def __init__(self, writers: Sequence[Writer], batches: BatchSource, checkpointer: Checkpointer) -> None:
        self._writers = writers
        self._batches = batches
        self._checkpointer = checkpointer
        self._waiting: list[tuple[int, Metrics]] = []

    def add(self, index: int, metrics: Metrics) -> None:
        self._waiting.append((index, metrics))
        jax.block_until_ready(self._waiting[:-_IN_FLIGHT][-1:])

    def flush(self, in_flight: int = 0) -> None:
        """Fetches and writes all rows but the newest `in_flight`, which the device may still be computing."""
        ready = self._waiting[: len(self._waiting) - in_flight]
        self._waiting = self._waiting[len(ready) :]
        fetched = jax.device_get([metrics for _, metrics in ready])
        bad = next((i for i, metrics in enumerate(fetched) if not metrics[FINITE]), len(fetched))
        rows = [_row(index, metrics) for (index, _), metrics in zip(ready[:bad], fetched[:bad], strict=True)]
        for writer in self._writers:
            writer.write(rows)
        if bad < len(fetched):
            raise self._not_finite(ready[bad][0], fetched[bad])

    def _not_finite(self, index: int, metrics: Metrics) -> NonFiniteUpdate:
        names = list(self._batches.names(index))
        shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        self._checkpointer.wait()
        saved = self._checkpointer.latest_step()
        kept = "there is no checkpoint yet" if saved is None else f"the checkpoint of step {saved} is kept"
        return NonFiniteUpdate(
            f"Update {index + 1} had loss {float(metrics['loss'])} and gradient norm {float(metrics['grad_norm'])}, "
            "which are not both finite; the update was not made and training stops "
            f"({kept} in {self._checkpointer.directory}). Its batch held {shown}. "
            "Look at these trajectories, or lower the learning rate."
        )


def _checked(batch: Any, expected: int, rows: int) -> Any:
    """The batch, if it has the rows that this process must give, of all that an update takes."""
    got = {len(x) for x in jax.tree.leaves(batch)}
    if got != {expected}:
        raise ValueError(
            f"Every array of a batch should have {expected} rows, the share of process {jax.process_index()} in the "
            f"{rows} of rows_per_batch (see `row_share`), got {sorted(got)}."
        )
    return batch


def _row(index: int, metrics: Metrics) -> Row:
    values = {name: np.asarray(value).item() for name, value in metrics.items() if name != FINITE}
    return {"step": index + 1, **values}


def _farewell(asked: str, done: int, total: int, checkpointer: Checkpointer) -> str:
    return (
        f"Training was stopped by {asked} after update {done} of {total}; the state is saved in "
        f"{checkpointer.directory / str(done)}. Run the same command again to go on from there: the result will be the "
        "one of a run that was never stopped."
    )
