"""Laws of trajectory scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentprm_jax.numerics.aggregate import AGGREGATIONS, aggregate
from tests.numerics.episodes import Episodes, episodes, junk, laws, precisions

jitted = jax.jit(aggregate, static_argnames="how")
ways = st.sampled_from(AGGREGATIONS)
ORACLE = {
    "last": lambda promises, progress: promises[-1],
    "min": lambda promises, progress: min(promises),
    "mean": lambda promises, progress: sum(promises) / len(promises),
    "product": lambda promises, progress: np.prod([max(promise, 0.0) for promise in promises]),
    "sum_progress": lambda promises, progress: sum(progress),
}


def progress_of(batch: Episodes) -> np.ndarray:
    """Differences of consecutive promises, the first from the initial value."""
    return np.diff(batch.promises, axis=1, prepend=batch.initial_values[:, None])


def test_the_aggregations_are_the_ones_the_oracle_knows():
    assert set(AGGREGATIONS) == set(ORACLE)


@laws
@given(episodes(), ways, precisions)
def test_a_score_is_the_plain_reduction_of_the_steps_that_exist(batch, how, dtype):
    promises, progress = (jnp.asarray(array, dtype) for array in (batch.promises, progress_of(batch)))
    scores = jitted(promises, progress, batch.mask, how=how)
    assert scores.dtype == jnp.float32
    for index, length in enumerate(batch.lengths):
        steps = [np.asarray(array, np.float64)[index, :length].tolist() for array in (promises, progress)]
        expected = ORACLE[how](*steps) if length else -np.inf
        np.testing.assert_allclose(scores[index], expected, rtol=1e-5, atol=1e-5)


@laws
@given(episodes(), ways, junk)
def test_padding_changes_no_score(batch, how, value):
    progress = progress_of(batch)
    dirty = np.where(batch.mask, progress, np.float32(value))
    clean = jitted(batch.promises, progress, batch.mask, how=how)
    np.testing.assert_array_equal(clean, jitted(batch.padded_with(value).promises, dirty, batch.mask, how=how))


@laws
@given(episodes(shortest=1))
def test_summed_progress_is_the_last_promise_minus_the_initial_value(batch):
    progress = progress_of(batch)
    summed = jitted(batch.promises, progress, batch.mask, how="sum_progress")
    last = jitted(batch.promises, progress, batch.mask, how="last")
    np.testing.assert_allclose(summed, last - batch.initial_values, rtol=1e-5, atol=1e-5)


@laws
@given(episodes(shortest=1))
def test_a_second_negative_promise_does_not_make_a_product_good(batch):
    negative = batch._replace(promises=np.where(batch.mask, -np.abs(batch.promises), np.float32(0)))
    assert not jitted(negative.promises, negative.promises, batch.mask, how="product").any()


@pytest.mark.parametrize("how", AGGREGATIONS)
def test_scores_of_any_leading_shape_are_the_scores_of_each_trajectory(how):
    rng = np.random.default_rng(0)
    promises, progress = rng.random((2, 2, 3, 5), np.float32)
    mask = np.arange(5) < rng.integers(0, 6, (2, 3, 1))
    scores = jitted(promises, progress, mask, how=how)
    assert scores.shape == (2, 3)
    for index in np.ndindex(2, 3):
        alone = jitted(promises[index], progress[index], mask[index], how=how)
        np.testing.assert_allclose(scores[index], alone, rtol=1e-6)


def test_a_batch_without_step_columns_scores_below_everything():
    for how in AGGREGATIONS:
        nothing = jnp.zeros((2, 0))
        np.testing.assert_array_equal(jitted(nothing, nothing, nothing, how=how), [-np.inf, -np.inf])


def test_an_unknown_aggregation_is_refused_and_the_known_ones_are_named():
    with pytest.raises(ValueError, match=r"'last', 'min', 'mean', 'product', 'sum_progress'.*but is 'median'"):
        aggregate(jnp.zeros((1, 2)), jnp.zeros((1, 2)), jnp.ones((1, 2), bool), "median")


@pytest.mark.parametrize("changed", ["progress", "mask"])
def test_scores_refuse_shapes_that_would_broadcast(changed):
    arrays = {name: jnp.ones((4, 5)) for name in ("promises", "progress", "mask")}
    with pytest.raises(ValueError, match=f"`{changed}` must have shape"):
        aggregate(**arrays | {changed: arrays[changed][:1]}, how="last")
