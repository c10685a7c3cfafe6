"""Laws of the token loss of imitation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agentprm_jax.numerics.losses import cross_entropy
from tests.numerics.episodes import floats, junk, laws, precisions, unit

TOKENS, VOCABULARY = (2, 5), 7
jitted = jax.jit(cross_entropy)
value_and_gradient = jax.jit(jax.value_and_grad(lambda *inputs: cross_entropy(*inputs).total))
all_logits = hnp.arrays(np.float32, (*TOKENS, VOCABULARY), elements=floats(-20, 20))
all_labels = hnp.arrays(np.int32, TOKENS, elements=st.integers(0, VOCABULARY - 1))
all_weights = hnp.arrays(np.float32, TOKENS, elements=st.one_of(st.sampled_from([0.0, 1.0]), unit))


@laws
@given(all_logits, all_labels, all_weights, precisions)
def test_cross_entropy_is_the_weighted_negative_log_probability_of_the_labels(logits, labels, weights, dtype):
    loss = jitted(jnp.asarray(logits, dtype), labels, weights)
    total = 0.0
    for index in np.ndindex(TOKENS):
        row = np.asarray(jnp.asarray(logits[index], dtype), np.float64)
        total -= weights[index] * np.log(np.exp(row[labels[index]]) / np.exp(row).sum())
    assert loss.total.dtype == loss.weight.dtype == jnp.float32
    np.testing.assert_allclose(loss.total, total, rtol=1e-5, atol=1e-4)  # ten float32 terms of up to 40
    np.testing.assert_allclose(loss.weight, weights.sum(dtype=np.float64), rtol=1e-6)


@laws
@given(all_logits, all_labels, hnp.arrays(bool, TOKENS), junk)
def test_tokens_off_the_mask_reach_neither_the_loss_nor_its_gradient(logits, labels, mask, value):
    clean = value_and_gradient(logits, labels, mask)
    dirty_logits = np.where(mask[..., None], logits, np.float32(value))
    dirty = value_and_gradient(dirty_logits, np.where(mask, labels, -100), mask)
    for one, other in zip(clean, dirty, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.asarray(dirty[1])[~mask].any()


@laws
@given(all_logits, all_labels, all_weights)
def test_the_gradient_is_the_probabilities_minus_the_label(logits, labels, weights):
    _, gradient = value_and_gradient(logits, labels, weights)
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    expected = weights[..., None] * (shifted / shifted.sum(-1, keepdims=True) - np.eye(VOCABULARY)[labels])
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


def test_logits_that_know_nothing_cost_the_logarithm_of_the_vocabulary():
    loss = jitted(jnp.full((3, 84), 5.0), jnp.array([0, 1, 83]), jnp.ones(3, bool))
    np.testing.assert_allclose(loss.mean, np.log(84), rtol=1e-6)


def test_huge_logits_do_not_overflow():
    loss = jitted(jnp.array([[1e30, 0.0], [-1e30, 0.0]]), jnp.array([0, 1]), jnp.ones(2))
    assert loss.total == 0.0


def test_a_label_outside_the_vocabulary_makes_the_total_nan():
    loss = jitted(jnp.zeros((2, 7)), jnp.array([0, 7]), jnp.ones(2))
    assert jnp.isnan(loss.total)


@pytest.mark.parametrize("changed", ["labels", "mask"])
def test_cross_entropy_refuses_shapes_that_would_broadcast(changed):
    inputs = {"logits": jnp.zeros((2, 5, 7)), "labels": jnp.zeros((2, 5), int), "mask": jnp.ones((2, 5), bool)}
    with pytest.raises(ValueError, match=f"`{changed}` must have shape"):
        cross_entropy(**inputs | {changed: inputs[changed][:1]})
