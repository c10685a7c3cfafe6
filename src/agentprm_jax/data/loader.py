"""Feeds packed rows to training: which rows make up a step is a function of (seed, step) and nothing else."""

import functools
import sys

import grain
import numpy as np
from jaxtyping import Int64

from agentprm_jax.data.batch import Batch
from agentprm_jax.data.packing import PackedRows

_EPOCHS_KEPT = 2  # a step may be asked for again after the first of the next epoch
_PADDING = -1


def batches(
    rows: PackedRows, *, rows_per_batch: int, seed: int, process_index: int = 0, process_count: int = 1
) -> grain.MapDataset[Batch]:
    """An endless data set whose element at ``step`` is the batch of that step.

    An epoch is ceil(len(rows) / rows_per_batch) steps and shows every row once, in an order drawn from (seed, epoch).
    The last batch of an epoch is filled up with rows of padding, which weigh nothing in a loss.

    Args:
        rows: The data.
        rows_per_batch: Rows of the batch of all processes together.
        seed: Any integer, 0 or more.
        process_index: Which process asks, from 0.
        process_count: Number of processes; each gets an equal, contiguous part of the rows of the same batch.

    Returns:
        The data set: ``dataset[step]`` is a Batch of numpy arrays.

    Raises:
        ValueError: If there are no rows, the seed is negative, or the processes cannot share the rows equally.
    """
    order = row_order(
        len(rows),
        rows_per_batch=rows_per_batch,
        seed=seed,
        process_index=process_index,
        process_count=process_count,
    )
    return order.map(rows.batch)


def row_order(
    count: int, *, rows_per_batch: int, seed: int, process_index: int = 0, process_count: int = 1
) -> grain.MapDataset[list[int]]:
    """An endless data set whose element at ``step`` is the numbers of the rows that ``batches`` shows at that step.

    Args:
        count: Number of rows of the data.
        rows_per_batch: As for ``batches``.
        seed: As for ``batches``.
        process_index: As for ``batches``.
        process_count: As for ``batches``.

    Returns:
        The data set: ``dataset[step]`` is a list of row numbers; -1 is a row of padding.

    Raises:
        ValueError: As for ``batches``.
    """
    if count < 1:
        raise ValueError(f"A loader needs at least one row of packed trajectories, got {count}.")
    if rows_per_batch < 1 or process_count < 1 or rows_per_batch % process_count:
        raise ValueError(
            f"rows_per_batch should be a positive multiple of the number of processes, got {rows_per_batch} rows for "
            f"{process_count} processes."
        )
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index should be in [0, {process_count}), got {process_index}.")
    if seed < 0:
        raise ValueError(f"seed should be at least 0, got {seed}.")
    share = rows_per_batch // process_count
    steps = -(-count // rows_per_batch)
    order_of = functools.lru_cache(_EPOCHS_KEPT)(functools.partial(_epoch_order, count, seed))

    def rows_at(step: int) -> list[int]:
        epoch, step_of_epoch = divmod(step, steps)
        start = step_of_epoch * rows_per_batch + process_index * share
        shown = order_of(epoch)[start : start + share].tolist()
        return shown + [_PADDING] * (share - len(shown))

    return grain.MapDataset.range(sys.maxsize).map(rows_at)


def steps_per_epoch(rows: PackedRows, rows_per_batch: int) -> int:
    """Number of batches that show every row once."""
    return -(-len(rows) // rows_per_batch)


def _epoch_order(count: int, seed: int, epoch: int) -> Int64[np.ndarray, " rows"]:
    """A uniformly random order of the rows.

    Sorts raw bits, whose stream NumPy keeps from version to version, which it does not promise for its permutations.
    Grain's own shuffle draws the same order for (seed, epoch + 1) and (seed + 1, epoch), and is slow for few rows.
    """
    bits = np.random.Philox(np.random.SeedSequence((seed, epoch))).random_raw(count)
    return np.argsort(bits, kind="stable")
