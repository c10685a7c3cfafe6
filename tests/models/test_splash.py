"""Splash attention, run step by step on this machine, against attention in blocks; and who chooses it."""

import os
import pathlib
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from agentprm_jax.models import attention
from agentprm_jax.models.attention import Context, Past, attend
from agentprm_jax.models.blockwise import blockwise_attention
from agentprm_jax.models.placement import compiled_for, unconstrained
from agentprm_jax.models.splash import splash_attention

ROOT = pathlib.Path(__file__).parents[2]


@dataclass(frozen=True)
class RowsAndHeads:
    """A `Constrain` that cuts rows over `data` and heads over `tensor`."""

    mesh: object

    def spec(self, axes):
        return PartitionSpec(*({"batch": "data", "heads": "tensor", "kv_heads": "tensor"}.get(axis) for axis in axes))

    def __call__(self, x, axes):
        del axes
        return x


def inputs_of(length, heads=4, kv_heads=2, width=16, dtype=jnp.float32, rows=2):
    rng = np.random.default_rng(length)
    arrays = [jnp.asarray(rng.standard_normal((rows, n, length, width)), dtype) for n in (heads, kv_heads, kv_heads)]
    return arrays, jnp.asarray(np.sort(rng.integers(0, 4, (rows, length)), axis=1), jnp.int32)


def in_blocks(queries, keys, values, segments):
    groups = queries.reshape(keys.shape[0], keys.shape[1], -1, *queries.shape[2:])
    return blockwise_attention(groups, keys, values, segments).reshape(queries.shape)


def value_and_gradients(attention, arrays, segments):
    weights = jnp.asarray(np.random.default_rng(1).standard_normal(arrays[0].shape), arrays[0].dtype)

    def both(*arguments):
        value, back = jax.vjp(lambda *a: attention(*a, segments), *arguments)
        return value, *back(weights)

    return [np.asarray(x, np.float32) for x in jax.jit(both)(*arrays)]


splash_here = partial(splash_attention, constrain=unconstrained, interpret=True)


@pytest.mark.parametrize(
    ("length", "heads", "kv_heads", "width"),
    [
        (130, 6, 2, 16),
        pytest.param(256, 2, 2, 128, marks=pytest.mark.slow),
        pytest.param(600, 2, 1, 64, marks=pytest.mark.slow),
    ],
)
def test_value_and_gradient_are_those_of_attention_in_blocks(length, heads, kv_heads, width):
    arrays, segments = inputs_of(length, heads, kv_heads, width)
    ours = value_and_gradients(splash_here, arrays, segments)
    for got, expected in zip(ours, value_and_gradients(in_blocks, arrays, segments), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_rounds_a_little_but_keeps_its_type():
    arrays, segments = inputs_of(130, dtype=jnp.bfloat16)
    assert jax.eval_shape(splash_here, *arrays, segments).dtype == jnp.bfloat16
    wide = value_and_gradients(in_blocks, [array.astype(jnp.float32) for array in arrays], segments)
    for got, expected in zip(value_and_gradients(splash_here, arrays, segments), wide, strict=True):
        # bfloat16 keeps 8 bits: queries, weights and results are each rounded once, gradients are sums of such terms.
        np.testing.assert_allclose(got, expected, atol=0.03 * np.abs(expected).max())


def compare_on_mesh():
    """Run by the test below in a process with four devices."""
    mesh = jax.make_mesh((2, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    arrays, segments = inputs_of(130, rows=4)
    there = partial(splash_attention, constrain=RowsAndHeads(mesh), interpret=True)
    here = value_and_gradients(splash_here, arrays, segments)
    for got, expected in zip(value_and_gradients(there, arrays, segments), here, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_rows_and_heads_on_a_mesh_attend_for_themselves():
    devices = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "4"}
    code = "from tests.models.test_splash import compare_on_mesh; compare_on_mesh()"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=devices)
    assert result.returncode == 0, result.stderr


class Chosen(Exception):
    """Raised in the place of splash attention."""


def choose(platform, monkeypatch, past=None, branches=None):
    def chosen(*_, **__):
        raise Chosen

    # test_shapes.py has other copies of the modules while it runs: take the one that is imported now
    monkeypatch.setattr(sys.modules["agentprm_jax.models.splash"], "splash_attention", chosen)
    (queries, keys, values), segments = inputs_of(4, width=2)
    device = SimpleNamespace(platform=platform)
    constrain = RowsAndHeads(SimpleNamespace(devices=np.array([device])))
    assert compiled_for(constrain) == platform
    lengths = None if past is None else jnp.full((2,), 1)
    return attend(queries, keys, values, past, Context(None, None, segments, lengths, branches), constrain)


def test_the_devices_of_the_mesh_choose_and_not_this_machine(monkeypatch):
    assert jax.default_backend() == "cpu"
    with pytest.raises(Chosen):
        choose("tpu", monkeypatch)
    for platform in ("cpu", "gpu"):
        choose(platform, monkeypatch)


def test_branches_and_a_past_keep_their_own_attention_on_tpu(monkeypatch):
    (_, keys, values), segments = inputs_of(4, width=2)
    choose("tpu", monkeypatch, branches=jnp.zeros_like(segments))
    choose("tpu", monkeypatch, past=Past(keys, values))


def test_without_devices_no_platform_is_assumed():
    assert compiled_for(unconstrained) is None
    assert compiled_for(RowsAndHeads(AbstractMesh((2,), ("data",)))) is None
    assert attention.attend.__defaults__ == (unconstrained,)
