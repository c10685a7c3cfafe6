"""Several processes as one run: how they find each other, who goes first, and how whole arrays come back."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.experimental import multihost_utils

from agentprm_jax.training.config import DistributedConfig

PyTree = Any


def join_processes(config: DistributedConfig) -> None:
    """Joins the processes of a run, before anything else asks jax for its devices; does nothing for a run of one.

    Raises:
        RuntimeError: the others cannot be found, or jax has its devices already.
    """
    if config.coordinator is not None:
        jax.distributed.initialize(config.coordinator, config.count, config.index)
    elif config.cluster:
        try:
            jax.distributed.initialize()
        except ValueError as error:
            raise RuntimeError(
                "distributed.cluster was given, but neither a TPU slice nor a cluster manager (SLURM, GKE, Open MPI) "
                f"says which processes there are: {error} Give distributed.coordinator, count and index instead."
            ) from error


def is_first() -> bool:
    """Whether this process is the one that writes what all share."""
    return jax.process_index() == 0


@contextmanager
def first_goes_first(what: str) -> Iterator[None]:
    """Lets the first process through this block before all others, which find what it has written.

    Args:
        what: name of the block, the same on all processes.
    """
    if not is_first():
        multihost_utils.sync_global_devices(what)
    yield
    if is_first():
        multihost_utils.sync_global_devices(what)


def whole(tree: PyTree) -> PyTree:
    """Arrays that lie over the devices of all processes, as NumPy arrays on every process; all must call this."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)
