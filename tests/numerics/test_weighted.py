"""Laws of sums that remember their weight."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agentprm_jax.numerics.losses import agentprm_loss, cross_entropy, orm_loss, value_loss
from agentprm_jax.numerics.targets import promise_targets
from agentprm_jax.numerics.weighted import Weighted, merge
from tests.numerics.episodes import ROWS, episodes, floats, laws, unit


@jax.jit
def every_loss(promises, outcomes, mask, initial_values, gamma, lam) -> dict:
    """All losses of some trajectories, in one pytree."""
    targets = promise_targets(promises, outcomes, mask, initial_values=initial_values, gamma=gamma, lam=lam)
    logits = jnp.stack([promises, -promises], axis=-1)
    return {
        "agentprm": agentprm_loss(promises, targets, mask, initial_values=initial_values, beta=0.5),
        "value": value_loss(promises, targets.promise, mask),
        "orm": orm_loss(promises, outcomes, mask),
        "tokens": cross_entropy(logits, jnp.zeros(mask.shape, int), mask),
    }


@laws
@given(episodes())
def test_merging_the_parts_of_a_batch_gives_the_loss_of_the_whole(batch):
    arrays = (batch.promises, batch.outcomes, batch.mask, batch.initial_values)
    half = ROWS // 2
    parts = [every_loss(*(array[rows] for array in arrays), batch.gamma, batch.lam) for rows in np.s_[:half, half:]]
    whole = every_loss(*arrays, batch.gamma, batch.lam)
    merged = merge(*parts)
    assert jax.tree.structure(merged) == jax.tree.structure(whole)
    for name, loss in whole.items():
        np.testing.assert_allclose(merged[name].total, loss.total, rtol=1e-5, atol=1e-6)
        assert merged[name].weight == loss.weight
        np.testing.assert_allclose(merged[name].mean, loss.mean, rtol=1e-5, atol=1e-6)


@laws
@given(st.lists(st.tuples(floats(-100, 100), unit), min_size=1, max_size=6), st.randoms())
def test_the_merged_mean_is_the_pooled_mean_in_any_order_and_grouping(pairs, random):
    values, weights = np.array(pairs, np.float64).T
    parts = [Weighted(jnp.float32(value * weight), jnp.float32(weight)) for value, weight in pairs]
    random.shuffle(parts)
    cut = random.randint(1, len(parts))
    grouped = merge(merge(*parts[:cut]), *parts[cut:])
    np.testing.assert_allclose(grouped.total, values @ weights, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(grouped.weight, weights.sum(), rtol=1e-5)
    if weights.sum() > 0.1:
        np.testing.assert_allclose(grouped.mean, values @ weights / weights.sum(), rtol=1e-4, atol=1e-3)


@laws
@given(hnp.arrays(np.float32, 5, elements=floats(-100, 100)))
def test_an_empty_part_changes_nothing_and_has_mean_zero(totals):
    full = Weighted(jnp.asarray(totals), jnp.ones(5))
    empty = Weighted(jnp.zeros(5), jnp.zeros(5))
    np.testing.assert_array_equal(merge(full, empty).mean, full.mean)
    np.testing.assert_array_equal(empty.mean, np.zeros(5))


def test_merging_one_part_gives_it_back():
    assert merge(Weighted(jnp.float32(3), jnp.float32(2))) == Weighted(jnp.float32(3), jnp.float32(2))


def test_unequal_parts_do_not_average_their_means():
    merged = merge(Weighted(jnp.float32(1), jnp.float32(1)), Weighted(jnp.float32(0), jnp.float32(3)))
    assert merged.mean == 0.25


def test_a_weight_below_one_is_divided_by_as_it_is():
    assert Weighted(jnp.float32(0.125), jnp.float32(0.25)).mean == 0.5
