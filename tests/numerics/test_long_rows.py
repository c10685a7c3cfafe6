"""Laws of advantages of rows that are cut into blocks, against a loop in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agentprm_jax.numerics.decayed_sums import BLOCK, LONGEST_WALK, PRODUCT
from agentprm_jax.numerics.targets import gae, token_gae

LENGTHS = (LONGEST_WALK, LONGEST_WALK + 1, 17 * BLOCK, 5000)
SCALED = {"rtol": 1e-4, "atol": 1e-4}  # sums over about 1 / (1 - 0.999 * 0.98) = 50 steps, in another order
jitted_gae = jax.jit(gae)


def packed(length, rows=3, seed=0):
    """Rewards, values and discounts of rows in which short and long episodes follow each other."""
    rng = np.random.default_rng(seed)
    rewards, values = (rng.normal(size=(rows, n)).astype(np.float32) for n in (length, length + 1))
    discounts = rng.uniform(0.9, 0.999, (rows, length)).astype(np.float32)
    discounts[rng.random((rows, length)) < [[0.2], [0.003], [0.0]][:rows]] = 0
    return rewards, values, discounts


def loop(rewards, values, discounts, lam) -> np.ndarray:
    rewards, values, discounts = (np.asarray(array, np.float64) for array in (rewards, values, discounts))
    advantages, later = np.empty_like(rewards), 0.0
    for t in reversed(range(rewards.shape[-1])):
        later = rewards[:, t] + discounts[:, t] * (values[:, t + 1] + lam * later) - values[:, t]
        advantages[:, t] = later
    return advantages


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("length", LENGTHS)
def test_advantages_of_a_long_packed_row_are_those_of_a_loop(length, dtype):
    arrays = [jnp.asarray(array, dtype) for array in packed(length)]
    advantages = jitted_gae(*arrays, 0.98)
    assert advantages.dtype == jnp.float32
    np.testing.assert_allclose(advantages, loop(*(np.asarray(a, np.float32) for a in arrays), 0.98), **SCALED)


@pytest.mark.parametrize("length", [PRODUCT, PRODUCT + 1, 2 * PRODUCT, PRODUCT**2 + 3, 5000])
@pytest.mark.parametrize("discount", [0.999, 1.0, 0.0])
def test_advantages_of_a_long_row_with_one_discount_are_those_of_a_loop(length, discount):
    rewards, values, discounts = packed(length)
    advantages = jitted_gae(rewards, values, np.float32(discount), 0.98)
    expected = loop(rewards, values, np.full_like(discounts, discount), 0.98)
    np.testing.assert_allclose(advantages, expected, **SCALED)


@pytest.mark.parametrize("value", [1e30, np.nan, np.inf])
@pytest.mark.parametrize("name", ["rewards", "values", "discounts"])
def test_nothing_behind_the_end_of_an_episode_reaches_it_in_a_long_row(name, value):
    end, (rewards, values, discounts) = 2000, packed(5000)
    discounts[:, end] = 0
    others = {"rewards": -1000 * rewards, "values": -1000 * values, "discounts": discounts / 2}
    others[name][:, end + 1 + np.array([0, 30, 300])] = value
    inputs = {"rewards": rewards, "values": values, "discounts": discounts}
    changed = {key: np.concatenate([inputs[key][:, : end + 1], others[key][:, end + 1 :]], 1) for key in inputs}
    before, after = jitted_gae(**inputs, lam=0.98), jitted_gae(**changed, lam=0.98)
    np.testing.assert_array_equal(before[:, : end + 1], after[:, : end + 1])
    assert not np.array_equal(before[:, end + 1 :], after[:, end + 1 :])


def test_a_long_row_without_discounting_adds_up_all_rewards_behind_a_step():
    rewards = np.random.default_rng(0).integers(-3, 4, (2, 5000)).astype(np.float32)
    advantages = jitted_gae(rewards, np.zeros((2, 5001)), np.ones((2, 5000)), 1.0)
    np.testing.assert_array_equal(advantages, np.cumsum(rewards[:, ::-1], 1)[:, ::-1])


def test_the_gradient_of_a_long_row_is_its_transpose():
    rewards, values, discounts = packed(3000)
    cotangent = np.random.default_rng(1).normal(size=rewards.shape).astype(np.float32)

    def paired(rewards, values, discounts):
        return jnp.vdot(gae(rewards, values, discounts, 0.98), cotangent)

    value, (by_rewards, by_values, by_discounts) = jax.jit(jax.value_and_grad(paired, argnums=(0, 1, 2)))(
        rewards, values, discounts
    )
    terms = np.concatenate([(by_rewards * rewards).ravel(), (by_values * values).ravel()]).astype(np.float64)
    np.testing.assert_allclose(terms.sum(), value, rtol=1e-3)
    # A_t depends on its own discount through V_{t+1} + lam * A_{t+1} alone.
    following = values[:, 1:] + 0.98 * np.pad(loop(rewards, values, discounts, 0.98)[:, 1:], [(0, 0), (0, 1)])
    np.testing.assert_allclose(by_discounts, by_rewards * following, rtol=1e-3, atol=1e-3)


def test_a_long_row_under_vmap_is_the_row_of_the_whole():
    arrays = packed(3000)
    whole = jitted_gae(*arrays, 0.98)
    mapped = jax.jit(jax.vmap(gae, in_axes=(0, 0, 0, None)))(*arrays, 0.98)
    np.testing.assert_allclose(mapped, whole, rtol=1e-5, atol=1e-5)


def test_token_gae_of_a_long_packed_row_is_gae_of_its_action_tokens_also_under_vmap_and_its_gradient_too():
    rng = np.random.default_rng(1)
    mask = rng.random((2, 3000)) < 0.3
    rewards, values = rng.normal(size=(2, 2, 3000)).astype(np.float32)
    discounts = np.where(rng.random((2, 3000)) < 0.02, 0, 0.99).astype(np.float32)
    of_row = jax.jit(jax.vmap(lambda *row: token_gae(*row[:3], gamma=row[3], lam=0.95)))
    advantages = np.asarray(of_row(rewards, values, mask, discounts))
    weights = rng.normal(size=mask.shape).astype(np.float32)
    by_rewards = jax.jit(jax.grad(lambda given: jnp.sum(weights * of_row(given, values, mask, discounts))))(rewards)
    for row, acts in enumerate(mask):
        parts = (rewards[row, acts][None], np.append(values[row, acts], 0)[None], discounts[row, acts][None])
        np.testing.assert_allclose(advantages[row, acts], loop(*parts, 0.95)[0], **SCALED)
        # The transposed recursion runs forwards: g_t = w_t + lam * gamma_{t-1} * g_{t-1}.
        gradient, expected = 0.0, []
        for weight, decay in zip(weights[row, acts], np.append(0, discounts[row, acts][:-1]), strict=True):
            expected.append(gradient := weight + 0.95 * decay * gradient)
        np.testing.assert_allclose(by_rewards[row, acts], expected, **SCALED)
        assert not np.asarray(by_rewards)[row, ~acts].any()


def test_token_gae_of_a_long_conversation_is_gae_of_its_action_tokens():
    rng = np.random.default_rng(0)
    mask = rng.random(4000) < 0.3
    rewards, values = rng.normal(size=(2, 4000)).astype(np.float32)
    advantages = np.asarray(jax.jit(lambda *given: token_gae(*given, gamma=0.99, lam=0.95))(rewards, values, mask))
    known, acts = np.append(values[mask], 0), int(mask.sum())
    expected = loop(rewards[mask][None], known[None], np.full((1, acts), 0.99), 0.95)[0]
    np.testing.assert_allclose(advantages[mask], expected, **SCALED)
    assert not advantages[~mask].any()
