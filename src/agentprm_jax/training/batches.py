"""What the loop trains on: batches by update, with the names of what is in them and a digest of the whole."""

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol, cast

from agentprm_jax.data.batch import Batch
from agentprm_jax.data.loader import batches
from agentprm_jax.data.packing import PackedRows
from agentprm_jax.data.share import WHOLE, Share


class BatchSource(Protocol):
    """Batches as a function of the number of the update."""

    @property
    def digest(self) -> str:
        """Identifies the data and their order, so that a run is not continued on others."""
        ...

    def __getitem__(self, index: int) -> Any:
        """Returns this process' rows of the batch of an update, counted from 0: a tree of numpy arrays `[b, ...]`."""
        ...

    def names(self, index: int) -> Sequence[str]:
        """Returns the ids of the trajectories in that batch."""
        ...


class PackedBatches:
    """Batches of packed trajectories, reshuffled every epoch, as a function of (seed, index)."""

    def __init__(self, rows: PackedRows, *, rows_per_batch: int, seed: int, share: Share = WHOLE) -> None:
        """Prepares the loader of this process.

        Args:
            rows: the packed data set.
            rows_per_batch: rows of a batch over all processes.
            seed: of the order, 0 or more.
            share: the parts of every batch that this process must give, as `row_share` says.
        """
        names = cast(PackedRows, _RowNames(rows))
        self._batches = batches(rows, rows_per_batch=rows_per_batch, seed=seed, share=share)
        self._names = batches(names, rows_per_batch=rows_per_batch, seed=seed, share=share)
        self.digest = f"{_digest(rows)}-{seed}"

    def __getitem__(self, index: int) -> Batch:
        """Returns the batch of an update."""
        return cast(Batch, self._batches[index])

    def names(self, index: int) -> Sequence[str]:
        """Returns the ids of the trajectories in that batch."""
        return cast(Sequence[str], self._names[index])


class _RowNames:
    """Stands in for packed rows so that the loader, whose order it is, yields the ids of a batch's trajectories."""

    def __init__(self, rows: PackedRows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, numbers: Sequence[int]) -> list[str]:
        members = [place for number in numbers if number >= 0 for place in self._rows.members(number)]
        return [example.encoded.id for example in self._rows.examples.read(members)]


def _digest(rows: PackedRows) -> str:
    digest = hashlib.sha256(repr((rows.examples.digest, rows.length, rows.max_segments, rows.max_steps)).encode())
    for array in (rows.order, rows.bounds):
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]
