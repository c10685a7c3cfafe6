"""Laws of rotary positions."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from agentprm_jax.models.rope import rope_frequencies, rotate, rotation
from tests.models.tiny_models import PLAIN, STRETCHED


def rotated(config, x, position):
    return np.asarray(rotate(jnp.asarray(x), *rotation(config, jnp.full((1, 1), position))))


def vectors():
    return np.random.default_rng(0).standard_normal((2, 1, 1, 1, 6)).astype(np.float32)


@pytest.mark.parametrize("config", [PLAIN, STRETCHED])
def test_the_product_of_rotated_vectors_depends_on_the_distance_only(config):
    query, key = vectors()
    near = np.sum(rotated(config, query, 7) * rotated(config, key, 3))
    far = np.sum(rotated(config, query, 47) * rotated(config, key, 43))
    other = np.sum(rotated(config, query, 7) * rotated(config, key, 4))
    np.testing.assert_allclose(far, near, atol=1e-5)
    assert abs(other - near) > 1e-3


def test_rotation_keeps_lengths_and_position_zero_turns_nothing():
    x = vectors()[0]
    np.testing.assert_allclose(np.linalg.norm(rotated(PLAIN, x, 100)), np.linalg.norm(x), rtol=1e-6)
    np.testing.assert_array_equal(rotated(PLAIN, x, 0), x)


def test_element_i_turns_together_with_element_i_plus_half():
    x = np.zeros((1, 1, 1, 6), np.float32)
    x[..., 1] = 1.0
    turned = rotated(PLAIN, x, 1)
    angle = rope_frequencies(PLAIN)[1]
    assert set(np.flatnonzero(turned)) == {1, 4}
    np.testing.assert_allclose(turned[..., [1, 4]].ravel(), [np.cos(angle), np.sin(angle)], rtol=1e-6)


def test_scaling_keeps_short_wavelengths_and_stretches_long_ones_by_the_factor():
    wide = replace(STRETCHED, head_dim=64)
    ratio = rope_frequencies(replace(wide, rope_scaling=None)) / rope_frequencies(wide)
    turns = 16 * rope_frequencies(replace(wide, rope_scaling=None)) / (2 * np.pi)
    np.testing.assert_allclose(ratio[turns > 4.0], 1.0)
    np.testing.assert_allclose(ratio[turns < 1.0], 8.0)
    assert np.all(np.diff(ratio) >= -1e-12)


def test_angles_are_float32_even_in_bfloat16():
    cos, sin = rotation(replace(PLAIN, dtype="bfloat16"), jnp.asarray([[1001]]))
    expected = 1001 * rope_frequencies(PLAIN)
    np.testing.assert_allclose(np.squeeze(cos), np.cos(expected), atol=1e-4)
    np.testing.assert_allclose(np.squeeze(sin), np.sin(expected), atol=1e-4)
