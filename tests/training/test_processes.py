"""Several processes are one run."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from agentprm_jax.training.config import DistributedConfig
from agentprm_jax.training.processes import first_goes_first, is_first, join_processes, whole

SCRIPT = pathlib.Path(__file__).parent / "one_of_two.py"
QUICK_COMPILATION = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def run(output, count):
    """Parameters and metrics of a run of `count` processes with eight devices in all."""
    devices = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(8 // count), "XLA_FLAGS": QUICK_COMPILATION}
    address = free_address()
    started = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(output), address, str(count), str(index)],
            env=os.environ | devices,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]
    said = [process.communicate(timeout=500) for process in started]
    assert all(process.returncode == 0 for process in started), "\n".join(errors for _, errors in said)
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return json.loads(said[0][0].splitlines()[-1]), rows, ["".join(parts) for parts in said]


@pytest.mark.slow
def test_two_processes_train_as_one_does_and_the_first_alone_writes(tmp_path):
    one, one_rows, _ = run(tmp_path / "one", 1)
    two, two_rows, said = run(tmp_path / "two", 2)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-5)
    assert [row["step"] for row in two_rows] == [row["step"] for row in one_rows]  # each once
    np.testing.assert_allclose([row["loss"] for row in two_rows], [row["loss"] for row in one_rows], atol=1e-5)
    assert "training: step 6/6" in said[0]
    assert "training" not in said[1]
    assert len(list((tmp_path / "two" / "tensorboard").iterdir())) == 1


def test_a_run_of_one_process_joins_nobody_and_does_not_wait():
    join_processes(DistributedConfig())
    with first_goes_first("anything"):
        assert is_first()
    assert whole({"x": np.ones(2)})["x"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"coordinator": "10.0.0.1:1234"}, "coordinator, count and index together"),
        ({"count": 2, "index": 0}, "coordinator, count and index together"),
        ({"cluster": True, "coordinator": "10.0.0.1:1", "count": 2, "index": 0}, "either cluster or a coordinator"),
        ({"coordinator": "10.0.0.1:1", "count": 2, "index": 2}, r"index must be in \[0, count=2\)"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        DistributedConfig(**fields)


def test_a_cluster_that_is_not_there_is_missed_in_a_sentence(monkeypatch):
    def nobody():
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr("jax.distributed.initialize", nobody)
    with pytest.raises(RuntimeError, match=r"Give distributed\.coordinator, count and index instead"):
        join_processes(DistributedConfig(cluster=True))
