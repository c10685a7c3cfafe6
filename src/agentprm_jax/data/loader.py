"""Feeds packed rows to training: which rows make up a step is a function of (seed, step) and nothing else."""

import functools
import sys

import grain
import numpy as np
from jaxtyping import Int64

from agentprm_jax.data.batch import Batch
from agentprm_jax.data.packing import PackedRows
from agentprm_jax.data.share import WHOLE, Share

_EPOCHS_KEPT = 2  # a step may be asked for again after the first of the next epoch
_PADDING = -1


def batches(rows: PackedRows, *, rows_per_batch: int, seed: int, share: Share = WHOLE) -> grain.MapDataset[Batch]:
    """An endless data set whose element at ``step`` is the batch of that step.

    An epoch is ceil(len(rows) / rows_per_batch) steps and shows every row once, in an order drawn from (seed, epoch).
    The last batch of an epoch is filled up with rows of padding, which weigh nothing in a loss.

    Args:
        rows: The data.
        rows_per_batch: Rows of the batch of all processes together.
        seed: Any integer, 0 or more.
        share: Parts of the batch that are wanted.

    Returns:
        The data set: ``dataset[step]`` is a Batch of numpy arrays.

    Raises:
        ValueError: If there are no rows, the seed is negative, or the batch cannot be cut into the parts of the share.
    """
    return row_order(len(rows), rows_per_batch=rows_per_batch, seed=seed, share=share).map(rows.batch)


def row_order(count: int, *, rows_per_batch: int, seed: int, share: Share = WHOLE) -> grain.MapDataset[list[int]]:
    """An endless data set whose element at ``step`` is the numbers of the rows that ``batches`` shows at that step.

    Args:
        count: Number of rows of the data.
        rows_per_batch: As for ``batches``.
        seed: As for ``batches``.
        share: As for ``batches``.

    Returns:
        The data set: ``dataset[step]`` is a list of row numbers; -1 is a row of padding.

    Raises:
        ValueError: As for ``batches``.
    """
    if count < 1:
        raise ValueError(f"A loader needs at least one row of packed trajectories, got {count}.")
    if rows_per_batch < 1 or rows_per_batch % share.of:
        raise ValueError(
            f"rows_per_batch should be a positive multiple of the parts of a batch, got {rows_per_batch} rows for "
            f"{share.of} parts."
        )
    if not set(share.parts) <= set(range(share.of)):
        raise ValueError(f"The parts of a share should be in [0, {share.of}), got {share.parts}.")
    if seed < 0:
        raise ValueError(f"seed should be at least 0, got {seed}.")
    steps = -(-count // rows_per_batch)
    order_of = functools.lru_cache(_EPOCHS_KEPT)(functools.partial(_epoch_order, count, seed))

    def rows_at(step: int) -> list[int]:
        epoch, step_of_epoch = divmod(step, steps)
        start = step_of_epoch * rows_per_batch
        shown = order_of(epoch)[start : start + rows_per_batch]
        batch = np.pad(shown, (0, rows_per_batch - len(shown)), constant_values=_PADDING)
        return batch.reshape(share.of, -1)[list(share.parts)].ravel().tolist()

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
