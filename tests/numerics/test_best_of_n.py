"""The Best-of-N estimator against every subset there is."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentprm_jax.numerics.best_of_n import best_of_n, best_of_n_curve, pass_at_n
from tests.numerics.episodes import laws, unit

# Few distinct scores, so that most draws have ties; infinities mark what must win or lose.
tied = st.sampled_from([-np.inf, -1.5, 0.0, 0.25, 3.0, np.inf])


@st.composite
def candidates(draw):
    pairs = draw(st.lists(st.tuples(st.one_of(tied, unit), unit), min_size=1, max_size=7))
    scores, outcomes = map(np.array, zip(*pairs, strict=True))
    return scores, outcomes, draw(st.integers(1, len(pairs)))


def enumerated(scores, outcomes, size) -> float:
    """Mean over all subsets of the outcome of the best, several best sharing equally."""
    values = []
    for subset in combinations(range(len(scores)), size):
        top = max(scores[index] for index in subset)
        best = [outcomes[index] for index in subset if scores[index] == top]
        values.append(sum(best) / len(best))
    return sum(values) / len(values)


@laws
@given(candidates())
def test_best_of_n_is_the_mean_over_every_subset(drawn):
    np.testing.assert_allclose(best_of_n(*drawn), enumerated(*drawn), rtol=1e-12, atol=1e-12)


@laws
@given(candidates())
def test_pass_at_n_is_the_mean_best_outcome_of_every_subset(drawn):
    _, outcomes, size = drawn
    best = np.mean([max(outcomes[list(subset)]) for subset in combinations(range(len(outcomes)), size)])
    np.testing.assert_allclose(pass_at_n(outcomes, size), best, rtol=1e-12, atol=1e-12)


@laws
@given(candidates())
def test_best_of_one_is_the_mean_outcome_whatever_the_scores(drawn):
    scores, outcomes, _ = drawn
    np.testing.assert_allclose(best_of_n(scores, outcomes, 1), outcomes.mean(), rtol=1e-12, atol=1e-12)


@laws
@given(candidates())
def test_equal_scores_choose_at_random(drawn):
    _, outcomes, size = drawn
    np.testing.assert_allclose(best_of_n(np.zeros(len(outcomes)), outcomes, size), outcomes.mean(), rtol=1e-12)


@laws
@given(candidates())
def test_no_score_beats_the_outcomes_themselves_and_none_does_worse_than_their_opposite(drawn):
    scores, outcomes, size = drawn
    assert best_of_n(-outcomes, outcomes, size) - 1e-12 <= best_of_n(scores, outcomes, size)
    assert best_of_n(scores, outcomes, size) <= pass_at_n(outcomes, size) + 1e-12


@laws
@given(candidates(), st.randoms())
def test_only_the_order_of_scores_matters_not_their_scale_nor_their_place(drawn, random):
    scores, outcomes, size = drawn
    order = list(range(len(scores)))
    random.shuffle(order)
    ranks = np.searchsorted(np.unique(scores), scores).astype(float)
    moved = best_of_n(ranks[order], outcomes[order], size)
    np.testing.assert_allclose(moved, best_of_n(scores, outcomes, size), rtol=1e-12, atol=1e-12)


@laws
@given(candidates())
def test_the_oracle_never_falls_as_n_grows(drawn):
    outcomes = drawn[1]
    curve = [pass_at_n(outcomes, size) for size in range(1, len(outcomes) + 1)]
    assert all(later >= earlier - 1e-12 for earlier, later in pairwise(curve))


@laws
@given(st.lists(st.lists(st.tuples(tied, unit), min_size=5, max_size=5), min_size=1, max_size=3))
def test_the_curve_is_best_of_n_of_each_task_at_each_size(tasks):
    table = np.array(tasks)
    curve = best_of_n_curve(table[..., 0], table[..., 1], [4, 1, 5])
    expected = [[enumerated(*task.T, size) for size in (4, 1, 5)] for task in table]
    np.testing.assert_allclose(curve, expected, rtol=1e-12, atol=1e-12)


def test_subsets_too_many_for_floating_point_are_counted_exactly():
    scores = np.arange(2000.0)
    # Only the best succeeds: it is in the subset with probability N / n.
    np.testing.assert_allclose(best_of_n(scores, scores == 1999, 1000), 0.5, rtol=1e-12)
    np.testing.assert_allclose(best_of_n(scores, np.ones(2000), 1000), 1.0, rtol=1e-12)


@pytest.mark.parametrize("size", [0, 4])
def test_a_subset_size_out_of_range_is_refused(size):
    with pytest.raises(ValueError, match=f"between 1 and the number of trajectories, 3, but is {size}"):
        best_of_n(np.zeros(3), np.zeros(3), size)


def test_nan_and_mismatched_arrays_are_refused():
    with pytest.raises(ValueError, match=r"`scores` must not hold NaN"):
        best_of_n(np.array([0.0, np.nan]), np.zeros(2), 1)
    with pytest.raises(ValueError, match=r"outcomes have shape"):
        best_of_n(np.zeros(3), np.zeros(2), 1)
    with pytest.raises(ValueError, match="must have 2 axes"):
        best_of_n_curve(np.zeros(3), np.zeros(3), [1])
