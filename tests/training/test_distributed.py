import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from agentprm_jax.data.share import WHOLE, Share
from agentprm_jax.training import distributed
from agentprm_jax.training.config import DistributedConfig, MeshConfig
from agentprm_jax.training.distributed import (
    OtherProcessFailed,
    all_or_none,
    first_process_first,
    initialise_distributed,
    whole_on_host,
)
from agentprm_jax.training.mesh import MESH_AXES, make_mesh, row_share

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[01-02]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}


@pytest.fixture
def joined(monkeypatch):
    """The calls of `jax.distributed.initialize`, which does nothing."""
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *given, **more: calls.append((given, more)))
    yield calls
    jax.config.update("jax_enable_preemption_service", True)


def in_slurm(monkeypatch, **changes):
    for name, value in (SLURM | changes).items():
        monkeypatch.setenv(name, value)


def test_a_process_that_nobody_started_beside_others_joins_nothing(joined):
    initialise_distributed(DistributedConfig())
    assert joined == []


def test_given_processes_are_joined_as_given_and_jax_takes_no_signals(joined):
    initialise_distributed(DistributedConfig("10.0.0.1:1234", processes=2, process=1, heartbeat_seconds=7))
    assert joined == [
        (("10.0.0.1:1234", 2, 1), {"cluster_detection_method": "deactivate", "heartbeat_timeout_seconds": 7})
    ]
    assert not jax.config.jax_enable_preemption_service


def test_a_cluster_that_started_several_processes_is_asked_for_them(joined, monkeypatch):
    in_slurm(monkeypatch)
    initialise_distributed(DistributedConfig())
    assert joined == [((None, None, None), {"cluster_detection_method": "slurm", "heartbeat_timeout_seconds": 100})]


@pytest.mark.parametrize(
    ("changes", "config"),
    [({"SLURM_NTASKS": "1"}, DistributedConfig()), ({}, DistributedConfig(cluster="none"))],
)
def test_one_process_of_a_cluster_and_one_that_shall_stay_alone_join_nothing(joined, monkeypatch, changes, config):
    in_slurm(monkeypatch, **changes)
    initialise_distributed(config)
    assert joined == []


def test_kubernetes_is_asked_only_when_it_is_named(joined, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    initialise_distributed(DistributedConfig())
    assert joined == []
    initialise_distributed(DistributedConfig(cluster="k8s"))
    assert joined == [((None, None, None), {"cluster_detection_method": None, "heartbeat_timeout_seconds": 100})]


def test_one_process_is_the_first_and_waits_for_nobody():
    with first_process_first():
        pass
    with pytest.raises(ZeroDivisionError), first_process_first():
        _ = 1 / 0


@dataclasses.dataclass(frozen=True)
class Chip:
    id: int
    process_index: int


def mesh_of(processes, shape):
    """A mesh whose devices, in order, belong to these processes."""
    chips = np.array([Chip(*chip) for chip in enumerate(processes)])
    return Mesh(chips.reshape(shape), MESH_AXES)


def test_one_process_gives_all_rows():
    assert row_share(make_mesh(MeshConfig())) == WHOLE


@pytest.mark.parametrize(
    ("processes", "shape", "expected"),
    [
        ([0, 0, 0, 0, 1, 1, 1, 1], (2, 4, 1), [(0, 1, 2, 3), (4, 5, 6, 7)]),
        ([0, 1, 0, 1, 0, 1, 0, 1], (2, 4, 1), [(0, 2, 4, 6), (1, 3, 5, 7)]),
        ([0, 1, 0, 1, 0, 1, 0, 1], (2, 2, 2), [(0, 1, 2, 3), (0, 1, 2, 3)]),
        ([0, 0, 0, 1, 1, 0, 1, 1], (1, 4, 2), [(0, 1, 2), (1, 2, 3)]),
    ],
)
def test_a_process_gives_the_parts_that_its_devices_hold(processes, shape, expected):
    mesh = mesh_of(processes, shape)
    shares = [row_share(mesh, process) for process in (0, 1)]
    assert shares == [Share(parts, shape[0] * shape[1]) for parts in expected]


def test_arrays_come_to_the_host_as_they_are():
    tree = {"a": jax.numpy.arange(3.0), "b": jax.numpy.zeros((2, 2), "bfloat16")}
    found = whole_on_host(tree)
    assert all(isinstance(leaf, np.ndarray) for leaf in found.values())
    assert found["b"].dtype == tree["b"].dtype
    np.testing.assert_array_equal(found["a"], [0, 1, 2])


@pytest.mark.parametrize("rows", [1, 5, 64])
def test_a_large_array_is_cut_into_pieces_of_which_each_is_small_enough(monkeypatch, rows):
    monkeypatch.setattr(distributed, "GATHERED_BYTES", 100)
    array = np.arange(rows * 12, dtype=np.float32).reshape(rows, 12)
    found = [array[piece] for piece in distributed.pieces(array.shape, array.nbytes)]
    np.testing.assert_array_equal(np.concatenate(found), array)
    assert all(piece.nbytes <= 100 for piece in found)
    assert len(found) == -(-rows // 2)


def test_what_is_small_or_cannot_be_cut_is_one_piece(monkeypatch):
    assert distributed.pieces((4, 4), 64) == [()]
    monkeypatch.setattr(distributed, "GATHERED_BYTES", 1)
    assert distributed.pieces((), 4) == [()]
    assert distributed.pieces((2, 3), 24) == [slice(0, 1), slice(1, 2)]


def test_an_error_in_what_all_do_together_is_that_of_the_process_that_met_it():
    with pytest.raises(KeyError, match="mine"), all_or_none("encoding"):
        raise KeyError("mine")
    with all_or_none("encoding"):
        pass


def test_where_another_process_fails_this_one_fails_too_and_names_it(monkeypatch):
    monkeypatch.setattr(distributed.multihost_utils, "process_allgather", lambda mine: np.array([mine, [True]]))
    said = "Process 1 failed while encoding: its output says why"
    with pytest.raises(OtherProcessFailed, match=said), all_or_none("encoding"):
        pass
