"""Laws of floats as their bits."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agentprm_jax.models.bits import as_bits, as_floats, narrow_as_bits
from tests.models.tiny_models import FAMILIES, language_model, random_tokens, run


@pytest.mark.parametrize(("dtype", "bits"), [("bfloat16", "uint16"), ("float16", "uint16"), ("float32", "uint32")])
def test_bits_are_as_wide_as_the_numbers_and_hold_them_all(dtype, bits):
    numbers = jnp.asarray([0.0, -0.0, 1.5, jnp.inf, jnp.nan, 3e-5], dtype)
    found = as_bits(numbers)
    assert found.dtype == bits
    back = jax.lax.bitcast_convert_type(found, numbers.dtype)
    np.testing.assert_array_equal(back.astype(jnp.float32), numbers.astype(jnp.float32))
    assert jnp.signbit(back[1])


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_modules_take_parameters_as_bits_and_compute_the_same(config):
    half = replace(config, dtype="bfloat16", param_dtype="bfloat16")
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), language_model(config)["decoder"])
    bits = narrow_as_bits(params)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(bits)} == {"uint16"}
    tokens = random_tokens(2, 9)
    expected, found = run(half, params, tokens), run(half, bits, tokens)
    np.testing.assert_array_equal(as_bits(found), as_bits(expected))


def test_wider_parameters_stay_as_they_are():
    params = {"kernel": jnp.ones((2, 2)), "scale": jnp.ones(2, jnp.bfloat16)}
    bits = narrow_as_bits(params)
    assert bits["kernel"] is params["kernel"]
    assert bits["scale"].dtype == jnp.uint16
    assert as_floats(bits["scale"]).dtype == jnp.bfloat16
    assert as_floats(bits["kernel"]) is bits["kernel"]
