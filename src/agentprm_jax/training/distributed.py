"""Runs of several processes: how they find each other, wait for each other, and bring arrays to the host."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax._src.clusters import ClusterEnv  # jax has no public way to ask for a cluster without joining it
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from agentprm_jax.training.config import DistributedConfig

PyTree = Any
_SURE = ("slurm", "ompi", "gcetpu", "gketpu")
"""Environments, by jax's names, in which processes that were started together belong together."""
_JAX_NAMES = {"k8s": None}
"""Kubernetes has no name in jax; it is the last that jax asks when it is told none."""
GATHERED_BYTES = 2**30
"""Of an array that comes to the hosts about so much is whole on every device at a time: the stacked layers of a large
model do not fit on one."""
_LONGEST_WAIT = 7 * 24 * 3600 * 1000
"""Milliseconds that a process waits for the others; of one that has died it hears earlier."""


def initialise_distributed(config: DistributedConfig) -> None:
    """Joins the processes of a run; must come before the first use of a device. One process alone joins nothing.

    jax's own handler of SIGTERM stays out: `stop_on_signal` notes signals, and `fit` agrees with the other processes.

    Args:
        config: the other processes, or who knows them.

    Raises:
        ValueError: the cluster that was named knows nothing of this process.
        RuntimeError: a device has been used already, or the others do not answer.
    """
    asked = _cluster_around() if config.cluster == "auto" else config.cluster
    if config.coordinator is None and asked == "none":
        return
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        config.coordinator,
        config.processes,
        config.process,
        cluster_detection_method="deactivate" if config.coordinator is not None else _JAX_NAMES.get(asked, asked),
        heartbeat_timeout_seconds=config.heartbeat_seconds,
    )


@contextlib.contextmanager
def first_process_first() -> Iterator[None]:
    """The first process goes through the block before any other does, so that these find what it has made.

    If the block fails there, the others enter it too and see for themselves what is wrong.
    """
    if jax.process_index() != 0:
        _wait_for_all()
        yield
        return
    try:
        yield
    finally:
        _wait_for_all()


class OtherProcessFailed(RuntimeError):
    """Another process of the run has failed in what all do together; its own output says why."""


@contextlib.contextmanager
def all_or_none(what: str) -> Iterator[None]:
    """Ends when every process has come through the block; where one fails in it all do, so that none waits in vain.

    Args:
        what: what the block does, for the message.

    Raises:
        OtherProcessFailed: another process has failed and this one has not.
    """
    try:
        yield
    except Exception:
        _who_failed(True)
        raise
    failed = _who_failed(False)
    if failed:
        raise OtherProcessFailed(f"Process {failed[0]} failed while {what}: its output says why. All processes stop.")


def _who_failed(here: bool) -> list[int]:
    _wait_for_all()
    return np.flatnonzero(multihost_utils.process_allgather(np.array([here])).ravel()).tolist()


def _wait_for_all() -> None:
    """Waits without a collective, since on some platforms a device gives up when another comes to one minutes later."""
    multihost.get_barrier_sync_fn()(key="wait_for_all", timeout_ms=_LONGEST_WAIT)


def whole_on_host(tree: PyTree) -> PyTree:
    """Brings arrays to every host as NumPy arrays, piece after piece; all processes must call it.

    Args:
        tree: arrays that may lie in parts on the devices of several processes, or whole on every host.
    """
    return jax.tree.map(_whole, tree)


def _whole(leaf: Any) -> np.ndarray:
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
        return np.asarray(leaf)
    whole = np.empty(leaf.shape, leaf.dtype)
    for piece in pieces(leaf.shape, leaf.nbytes):
        whole[piece] = multihost_utils.process_allgather(leaf[piece], tiled=True)
    return whole


def pieces(shape: tuple[int, ...], size: int) -> list[slice] | list[tuple[()]]:
    """Where an array of `size` bytes is cut along its first axis, so that no piece has more than `GATHERED_BYTES`.

    What one index of that axis holds is not cut.
    """
    if not shape or size <= GATHERED_BYTES:
        return [()]
    length = max(1, shape[0] * GATHERED_BYTES // size)
    return [slice(start, min(start + length, shape[0])) for start in range(0, shape[0], length)]


def _cluster_around() -> str:
    """Name of the cluster that has started this process beside others, or "none"."""
    clusters = (cluster for cluster in ClusterEnv._cluster_types if cluster.name in _SURE)
    found = (cluster for cluster in clusters if cluster.is_env_present() and cluster.get_process_count() > 1)
    return next((cluster.name for cluster in found), "none")
