"""Runs of several processes: how they find each other, wait for each other, and bring arrays to the host."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax._src.clusters import ClusterEnv  # jax has no public way to ask for a cluster without joining it
from jax.experimental import multihost_utils

from agentprm_jax.training.config import DistributedConfig

PyTree = Any
_NEVER_BY_ITSELF = ("k8s",)
"""Environments that say nothing about whether the processes in them belong together."""


def initialise_distributed(config: DistributedConfig) -> None:
    """Joins the processes of a run; must come before the first use of a device. One process alone joins nothing.

    jax's own handler of SIGTERM stays out: `stop_on_signal` notes signals, and `fit` agrees with the other processes.

    Args:
        config: the other processes, or who knows them.

    Raises:
        RuntimeError: a device has been used already, or the others do not answer.
    """
    alone = config.cluster == "none" or (config.cluster == "auto" and not _in_cluster())
    if config.coordinator is None and alone:
        return
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        config.coordinator,
        config.processes,
        config.process,
        cluster_detection_method=_detection(config),
    )


@contextlib.contextmanager
def first_process_first() -> Iterator[None]:
    """The first process goes through the block before any other does, so that these find what it has made.

    If the block fails there, the others enter it too and see for themselves what is wrong.
    """
    if jax.process_index() != 0:
        wait_for_all("first_process_first")
        yield
        return
    try:
        yield
    finally:
        wait_for_all("first_process_first")


def wait_for_all(what: str) -> None:
    """Returns when every process of the run has called it with the same `what`; at once where there is only one."""
    multihost_utils.sync_global_devices(what)


def whole_on_host(tree: PyTree) -> PyTree:
    """Brings arrays to every host as NumPy arrays, one after the other; all processes must call it.

    Args:
        tree: arrays that may lie in parts on the devices of several processes.
    """
    return jax.tree.map(lambda leaf: np.asarray(multihost_utils.process_allgather(leaf, tiled=True)), tree)


def _in_cluster() -> bool:
    """Whether the environment that jax would ask knows of several processes."""
    present = (
        env for env in ClusterEnv._cluster_types if not env.opt_in_only_method and env.name not in _NEVER_BY_ITSELF
    )
    return any(env.is_env_present() and env.get_process_count() > 1 for env in present)


def _detection(config: DistributedConfig) -> str | None:
    if config.coordinator is not None:
        return "deactivate"
    return None if config.cluster == "auto" else config.cluster
