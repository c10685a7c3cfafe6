import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from any_mesh import run

SCRIPT = pathlib.Path(__file__).parent / "any_mesh.py"
ONE = (1, 1, 1)
QUICK_COMPILATION = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def train_on(kind, *meshes, rule="adamw"):
    command = [sys.executable, str(SCRIPT), json.dumps([kind, rule, *meshes])]
    devices = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8", "XLA_FLAGS": QUICK_COMPILATION}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=devices)
    assert result.returncode == 0, result.stderr
    return dict(zip(meshes, json.loads(result.stdout), strict=True))


def assert_same_training(one, other):
    np.testing.assert_allclose(other["losses"], one["losses"], atol=1e-5)
    for a, b in zip(one["params"], other["params"], strict=True):
        np.testing.assert_allclose(b, a, atol=1e-5)
    assert one["losses"][-1] != one["losses"][0]


def assert_cut(result, mesh):
    """The query kernel [l, d, h, e] is cut along d by fsdp and h by tensor, its moments as well; rows by data, fsdp."""
    data, fsdp, tensor = mesh
    whole, part = result["query_shapes"]
    assert result["devices"] == data * fsdp * tensor
    assert part == [whole[0], whole[1] // fsdp, whole[2] // tensor, whole[3]]
    assert result["query_shards"] == result["moment_shards"] == fsdp * tensor
    assert result["batch_shards"] == data * fsdp


def test_eight_devices_with_all_axes_in_use_train_as_one_does(prm_program):
    mesh = (2, 2, 2)
    result = train_on("prm", mesh)[mesh]
    assert_same_training(run(prm_program), result)
    assert_cut(result, mesh)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "rule"), [("prm", "adamw"), ("sft", "adamw"), ("sft", "muon")])
def test_every_shape_of_eight_devices_trains_as_one_does(kind, rule):
    meshes = [(8, 1, 1), (1, 8, 1), (2, 2, 2), (1, 2, 4)]
    results = train_on(kind, ONE, *meshes, rule=rule)
    for mesh in meshes:
        assert_same_training(results[ONE], results[mesh])
        assert_cut(results[mesh], mesh)
