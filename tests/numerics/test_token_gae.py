"""Laws of the advantages of tokens, where observations stand between the actions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agentprm_jax.numerics.targets import token_gae
from tests.numerics import oracle
from tests.numerics.episodes import ROWS, STEPS, floats, junk, laws, precisions, unit

CLOSE = {"rtol": 1e-5, "atol": 1e-5}  # six float32 additions of numbers up to 3
numbers = floats(-2, 2)


@st.composite
def conversations(draw):
    """Rewards and values, junk at observation tokens; the mask of action tokens, gamma and lambda."""
    mask = draw(hnp.arrays(np.bool_, (ROWS, STEPS)))
    rewards, values = (
        np.where(mask, draw(hnp.arrays(np.float32, (ROWS, STEPS), elements=numbers)), draw(junk)) for _ in range(2)
    )
    return rewards.astype(np.float32), values.astype(np.float32), mask, np.float32(draw(unit)), np.float32(draw(unit))


@jax.jit
def jitted_token_gae(rewards, values, mask, gamma, lam):
    return token_gae(rewards, values, mask, gamma=gamma, lam=lam)


@laws
@given(conversations(), precisions)
def test_token_gae_is_gae_of_the_action_tokens_alone_and_zero_elsewhere(inputs, dtype):
    rewards, values, mask, gamma, lam = inputs
    rewards, values = (jnp.asarray(array, dtype) for array in (rewards, values))
    advantages = np.asarray(jitted_token_gae(rewards, values, mask, gamma, lam))
    assert advantages.dtype == np.float32
    assert not advantages[~mask].any()
    for row in range(ROWS):
        acts = mask[row]
        given, known = (np.asarray(array, np.float32)[row, acts].tolist() for array in (rewards, values))
        expected = oracle.gae(given, [*known, 0.0], [float(gamma)] * len(given), float(lam))
        np.testing.assert_allclose(advantages[row, acts], expected, **CLOSE)


@laws
@given(conversations(), st.integers(0, STEPS - 1), junk)
def test_a_token_reaches_no_other_if_nothing_is_handed_on(inputs, token, value):
    """A reward is handed on by gamma times lambda, a value by gamma."""
    rewards, values, mask, gamma, lam = inputs
    others = np.arange(STEPS) != token
    reward, known = (np.where(others, array, np.float32(value)) for array in (rewards, values))
    for changed, decays in (((reward, values), (gamma, 0)), ((reward, known), (0, lam))):
        before, after = (jitted_token_gae(*arrays, mask, *decays) for arrays in ((rewards, values), changed))
        np.testing.assert_array_equal(before[:, others], after[:, others])


@laws
@given(conversations(), hnp.arrays(np.float32, (ROWS, STEPS), elements=unit), junk)
def test_token_gae_with_a_discount_a_token_is_gae_of_the_action_tokens_with_theirs(inputs, discounts, anything):
    rewards, values, mask, _, lam = inputs
    discounts = np.where(mask, np.where(discounts < 0.3, 0, discounts), np.broadcast_to(anything, mask.shape))
    advantages = np.asarray(jitted_token_gae(rewards, values, mask, discounts.astype(np.float32), lam))
    assert not advantages[~mask].any()
    for row in range(ROWS):
        given, known, decays = (array[row, mask[row]].tolist() for array in (rewards, values, discounts))
        expected = oracle.gae(given, [*known, 0.0], decays, float(lam))
        np.testing.assert_allclose(advantages[row, mask[row]], expected, **CLOSE)


def test_conversations_packed_into_a_row_keep_the_advantages_that_they_have_alone():
    rng = np.random.default_rng(3)
    rewards, values = rng.normal(size=(2, 24)).astype(np.float32)
    mask, discounts = rng.random(24) < 0.6, np.full(24, 0.9, np.float32)
    parts = [slice(0, 9), slice(9, 10), slice(10, 24)]
    mask[9] = True
    for part in parts:
        discounts[part.start + np.flatnonzero(mask[part])[-1]] = 0
    packed = jitted_token_gae(rewards, values, mask, discounts, 0.8)
    alone = [jitted_token_gae(rewards[part], values[part], mask[part], 0.9, 0.8) for part in parts]
    np.testing.assert_allclose(packed, np.concatenate(alone), rtol=1e-6, atol=1e-6)
    values[10:] = np.nan  # the last conversation, which the others must not feel
    np.testing.assert_array_equal(jitted_token_gae(rewards, values, mask, discounts, 0.8)[:10], packed[:10])


@jax.jit
def token_gae_gradients(rewards, values, mask, weights, gamma):
    def total(*given):
        return jnp.sum(weights * token_gae(*given, mask, gamma=gamma, lam=0.8))

    return jax.grad(total, argnums=(0, 1))(rewards, values)


def matrix_gradients(mask, weights, decays):
    """Of sum_t weights_t A_t, from A = D r + (D (N - 1)) V with the sums written as matrices."""
    acts = np.flatnonzero(mask)
    count = len(acts)
    following = np.diag(decays[acts][:-1], 1) if count > 1 else np.zeros((count, count))
    sums = np.linalg.inv(np.eye(count) - 0.8 * following)
    by_rewards, by_values = np.zeros(len(mask)), np.zeros(len(mask))
    by_rewards[acts] = sums.T @ weights[acts]
    by_values[acts] = (sums @ (following - np.eye(count))).T @ weights[acts]
    return by_rewards, by_values


@laws
@given(conversations(), st.sampled_from([np.float32(0.9), "each"]))
def test_gradients_of_token_gae_are_those_of_the_sums_that_it_stands_for(inputs, kind):
    rewards, values, mask = inputs[:3]
    rng = np.random.default_rng(1)
    weights, each = rng.normal(size=mask.shape), (rng.random(mask.shape) * (rng.random(mask.shape) < 0.8))
    gamma = each.astype(np.float32) if isinstance(kind, str) else kind
    found = token_gae_gradients(rewards, values, mask, weights.astype(np.float32), gamma)
    for row in range(ROWS):
        decays = np.broadcast_to(gamma, mask.shape)[row]
        for gradient, expected in zip(found, matrix_gradients(mask[row], weights[row], decays), strict=True):
            np.testing.assert_allclose(gradient[row], expected, rtol=1e-4, atol=1e-5)


def test_token_gae_is_the_same_for_any_leading_shape_and_under_vmap():
    rng = np.random.default_rng(0)
    rewards, values = (rng.random((2, 3, 7), np.float32) for _ in range(2))
    mask = rng.random((2, 3, 7)) < 0.6
    whole = jitted_token_gae(rewards, values, mask, 0.9, 0.8)
    mapped = jax.vmap(jitted_token_gae, in_axes=(1, 1, 1, None, None), out_axes=1)(rewards, values, mask, 0.9, 0.8)
    np.testing.assert_allclose(mapped, whole, rtol=1e-6)
    np.testing.assert_allclose(
        jitted_token_gae(rewards[1, 2], values[1, 2], mask[1, 2], 0.9, 0.8), whole[1, 2], rtol=1e-6
    )


@pytest.mark.parametrize("changed", ["values", "action_mask", "gamma"])
def test_token_gae_refuses_shapes_that_would_broadcast(changed):
    arguments = {name: jnp.zeros((4, 5)) for name in ("rewards", "values", "gamma")}
    arguments["action_mask"] = jnp.ones((4, 5), bool)
    with pytest.raises(ValueError, match=f"`{changed}` must have shape"):
        token_gae(**arguments | {changed: arguments[changed][:1]}, lam=1.0)
