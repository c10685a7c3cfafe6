"""Laws of advantages of sharded arrays: those of one device, and what the compiled program communicates for them."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from agentprm_jax.numerics.targets import BLOCK

SCRIPT = pathlib.Path(__file__).parent / "sharded_gae.py"
SHARDS = {"batch": [8, 32], "batch of long rows": [2, 2048], "time": [4, 1024]}


@pytest.fixture(scope="module")
def cases():
    devices = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}
    result = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False, env=devices)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", SHARDS)
def test_advantages_of_eight_devices_are_those_of_one(cases, name):
    assert cases[name]["difference"] <= 1e-5


def test_every_device_holds_an_eighth_of_the_advantages(cases):
    assert {name: case["shard"] for name, case in cases.items()} == SHARDS


@pytest.mark.parametrize("name", ["batch", "batch of long rows"])
def test_rows_on_different_devices_have_nothing_to_say_to_each_other(cases, name):
    assert cases[name]["collectives"] == []


def test_blocks_of_time_on_different_devices_exchange_one_number_of_each_kind_a_block(cases):
    blocks = 4 * 8192 // BLOCK
    sizes = [size for _, size in cases["time"]["collectives"]]
    assert 0 < max(sizes) <= blocks
    assert sum(sizes) <= 4 * blocks
