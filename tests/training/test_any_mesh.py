import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from any_mesh import run
from tiny_training import tiny_program

SCRIPT = pathlib.Path(__file__).parent / "any_mesh.py"
ONE = (1, 1, 1)
EIGHT = [(8, 1, 1), (1, 8, 1), (2, 2, 2), (1, 2, 4)]
CASES = {
    "prm-adamw": {"kind": "prm", "rule": "adamw"},
    "prm-muon": {"kind": "prm", "rule": "muon", "extra_blocks": 1},
    "sft-adamw": {"kind": "sft", "rule": "adamw"},
    "sft-muon": {"kind": "sft", "rule": "muon"},
    "prm-adamw-adapters": {"kind": "prm", "rule": "adamw", "adapters": True},
    "sft-muon-adapters": {"kind": "sft", "rule": "muon", "adapters": True},
}
"""What is trained: options of `tiny_program`; all of it packed, and cut into microbatches."""
LONG = {"steps": 20, "rows_per_batch": 16, "microbatches": 2}


def train_on_eight(*runs):
    """Results of runs, each given by the options of `tiny_program`, in a process of eight devices."""
    command = [sys.executable, str(SCRIPT), json.dumps(runs)]
    # What is read from the cache was not compiled here, and so would not be warned of.
    devices = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=devices)
    assert result.returncode == 0, result.stderr
    assert "full rematerialization" not in result.stderr
    return json.loads(result.stdout)


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
    (result,) = train_on_eight({"kind": "prm", "mesh": mesh})
    assert_same_training(run(prm_program), result)
    assert_cut(result, mesh)
    assert {*result["query"]} == {*result["query_moments"]} == {"kernel"}


@pytest.mark.slow
def test_another_mesh_changes_training_in_bfloat16_by_less_than_bfloat16_does(prm_program):
    bfloat16 = {"kind": "prm", "dtype": "bfloat16"}
    exact, one = run(prm_program), run(tiny_program(**bfloat16))
    (result,) = train_on_eight({**bfloat16, "mesh": (2, 2, 2)})
    assert_cut(result, (2, 2, 2))
    for name in ("losses", "params"):
        rounded, moved = (distance(one[name], other[name]) for other in (exact, result))
        assert 0 < moved < rounded


def distance(one, other):
    return np.linalg.norm(np.subtract(*(np.concatenate([*map(np.atleast_1d, run)]) for run in (one, other))))


@pytest.mark.slow
def test_a_run_that_goes_on_on_the_same_eight_devices_ends_with_the_same_bits():
    mesh = (2, 2, 2)
    stayed, resumed = train_on_eight({"mesh": mesh, **LONG}, {"mesh": mesh, "then": mesh, **LONG})
    assert resumed["losses"] == stayed["losses"]
    assert resumed["params"] == stayed["params"]
    assert_cut(resumed, mesh)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_shape_of_eight_devices_trains_as_one_does(case):
    one, *results = train_on_eight(*(CASES[case] | LONG | {"mesh": mesh} for mesh in (ONE, *EIGHT)))
    assert len(one["losses"]) == 20
    for mesh, result in zip(EIGHT, results, strict=True):
        assert_same_training(one, result)
        assert_cut(result, mesh)
        trained = {"lora_a", "lora_b"} if CASES[case].get("adapters") else {"kernel"}
        assert {*result["query_moments"]} == trained
        assert {*result["query"]} == trained | {"kernel"}


@pytest.mark.slow
@pytest.mark.parametrize("case", ["prm-adamw", "sft-muon"])
def test_a_run_that_goes_on_on_another_mesh_ends_as_one_that_stayed(case):
    moves = [(ONE, (2, 2, 2)), ((8, 1, 1), (1, 2, 4)), ((1, 8, 1), ONE)]
    stayed, *moved = train_on_eight(
        CASES[case] | LONG | {"mesh": ONE},
        *(CASES[case] | LONG | {"mesh": first, "then": then} for first, then in moves),
    )
    for (_, then), result in zip(moves, moved, strict=True):
        assert_same_training(stayed, result)
        assert_cut(result, then)
