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


def train_on(kind, *meshes, rule="adamw", adapters=False):
    command = [sys.executable, str(SCRIPT), json.dumps([kind, rule, adapters, *meshes])]
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
    """The query kernel [l, d, h, e] is cut along d by fsdp and h by tensor, its moments as well; rows by data, fsdp.

    So are the factors of its adapter, [l, d, r] and [l, r, h, e].
    """
    data, fsdp, tensor = mesh
    assert result["devices"] == data * fsdp * tensor
    assert result["batch_shards"] == data * fsdp
    divisors = {"kernel": [1, fsdp, tensor, 1], "lora_a": [1, fsdp, 1], "lora_b": [1, 1, tensor, 1]}
    for name, (whole, part, number) in result["query"].items():
        assert part == [size // divisor for size, divisor in zip(whole, divisors[name], strict=True)]
        assert number == np.prod(divisors[name])
        assert result["query_moments"].get(name, [whole, part, number]) == [whole, part, number]


def test_eight_devices_with_all_axes_in_use_train_as_one_does(prm_program):
    mesh = (2, 2, 2)
    result = train_on("prm", mesh)[mesh]
    assert_same_training(run(prm_program), result)
    assert_cut(result, mesh)
    assert {*result["query"]} == {*result["query_moments"]} == {"kernel"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "rule", "adapters"),
    [
        ("prm", "adamw", False),
        ("sft", "adamw", False),
        ("sft", "muon", False),
        ("prm", "adamw", True),
        ("sft", "adamw", True),
        ("sft", "muon", True),
    ],
)
def test_every_shape_of_eight_devices_trains_as_one_does(kind, rule, adapters):
    meshes = [(8, 1, 1), (1, 8, 1), (2, 2, 2), (1, 2, 4)]
    results = train_on(kind, ONE, *meshes, rule=rule, adapters=adapters)
    trained = {"lora_a", "lora_b"} if adapters else {"kernel"}
    for mesh in meshes:
        assert_same_training(results[ONE], results[mesh])
        assert_cut(results[mesh], mesh)
        assert {*results[mesh]["query_moments"]} == trained
        assert {*results[mesh]["query"]} == trained | {"kernel"}
