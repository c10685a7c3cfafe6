"""Laws of advantages of sharded arrays: those of one device, and what the compiled program communicates for them."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from agentprm_jax.numerics.decayed_sums import BLOCK, PRODUCT

SCRIPT = pathlib.Path(__file__).parent / "sharded_gae.py"
SHARDS = {"batch": [8, 32], "batch of long rows": [2, 2048], "time": [4, 1024]}
FORMS = ("discounts of steps", "one discount", "tokens", "tokens of packed rows")


@pytest.fixture(scope="module")
def printed():
    devices = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}
    result = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False, env=devices)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def cases(printed):
    return printed["jit"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SHARDS)
def test_advantages_of_eight_devices_are_those_of_one(cases, name, form):
    assert cases[f"{name}, {form}"]["difference"] <= 1e-5


def test_every_device_holds_an_eighth_of_the_advantages(cases):
    assert {name: case["shard"] for name, case in cases.items()} == {
        f"{name}, {form}": shard for name, shard in SHARDS.items() for form in FORMS
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["batch", "batch of long rows"])
def test_rows_on_different_devices_have_nothing_to_say_to_each_other(cases, name, form):
    assert cases[f"{name}, {form}"]["collectives"] == []


@pytest.mark.parametrize("form", FORMS)
def test_blocks_of_time_on_different_devices_exchange_one_number_of_each_kind_a_block(cases, form):
    blocks = 4 * 8192 // (PRODUCT if form == "one discount" else BLOCK)
    sizes = [size for _, size in cases[f"time, {form}"]["collectives"]]
    assert 0 < max(sizes) <= blocks
    assert sum(sizes) <= 4 * blocks


@pytest.mark.parametrize("case", [*FORMS, "rewards", "values", "discounts", "lambda"])
@pytest.mark.parametrize("steps", [32, 2048])
def test_advantages_inside_shard_map_are_those_outside_whatever_the_devices_share(printed, steps, case):
    assert printed["shard_map"][f"{steps}, {case}"] <= 1e-5
