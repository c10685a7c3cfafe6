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


@jax.jit
def token_gae_gradients(rewards, values, mask):
    return jax.grad(lambda *given: token_gae(*given, mask, gamma=0.9, lam=0.8).sum(), argnums=(0, 1))(rewards, values)


@laws
@given(conversations())
def test_observation_tokens_get_no_gradient_of_token_gae_and_action_tokens_a_finite_one(inputs):
    for gradient in token_gae_gradients(*inputs[:3]):
        assert not np.asarray(gradient)[~inputs[2]].any()
        assert np.isfinite(gradient).all()


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


@pytest.mark.parametrize("changed", ["values", "action_mask"])
def test_token_gae_refuses_shapes_that_would_broadcast(changed):
    arguments = {"rewards": jnp.zeros((4, 5)), "values": jnp.zeros((4, 5)), "action_mask": jnp.ones((4, 5), bool)}
    with pytest.raises(ValueError, match=f"`{changed}` must have shape"):
        token_gae(**arguments | {changed: arguments[changed][:1]}, gamma=1.0, lam=1.0)
