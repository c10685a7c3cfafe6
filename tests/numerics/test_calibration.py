"""Laws of the measures of a value function, against loops over pairs."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentprm_jax.numerics.calibration import (
    auc,
    brier,
    constant_mse,
    fixed_step_auc,
    fixed_step_pairs,
    flatten_steps,
    mse,
    reliability,
    step_index_mse,
)
from tests.numerics.episodes import laws

# Few distinct values, so that draws have ties in score and both binary and graded outcomes.
scores = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 0.5, 2.0])
outcomes = st.one_of(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 0.5, 0.75, 1.0]))
scored = st.lists(st.tuples(scores, outcomes), min_size=1, max_size=12).map(lambda pairs: np.array(pairs).T)
trajectories = st.lists(
    st.tuples(st.lists(st.tuples(scores, st.booleans()), max_size=4), outcomes, st.sampled_from("abc")), max_size=12
)
finite = st.floats(-3, 3)
predictions = st.lists(st.tuples(finite, outcomes), min_size=1, max_size=12).map(lambda pairs: np.array(pairs).T)


def pairs_loop(ranked, observed) -> tuple[float, int]:
    """How many pairs are in order and how many there are, looking at every pair."""
    ordered, pairs = 0.0, 0
    for i in range(len(ranked)):
        for j in range(len(ranked)):
            if observed[i] > observed[j]:
                pairs += 1
                ordered += 1.0 if ranked[i] > ranked[j] else 0.5 if ranked[i] == ranked[j] else 0.0
    return ordered, pairs


@laws
@given(scored)
def test_auc_is_the_share_of_pairs_in_order(drawn):
    ordered, pairs = pairs_loop(*drawn)
    if pairs:
        np.testing.assert_allclose(auc(*drawn), ordered / pairs, rtol=1e-12)
    else:
        assert auc(*drawn) is None


@laws
@given(scored)
def test_reversed_scores_have_the_complementary_auc(drawn):
    forward, backward = auc(*drawn), auc(-drawn[0], drawn[1])
    assert (forward is None) == (backward is None)
    if forward is not None and backward is not None:
        np.testing.assert_allclose(forward + backward, 1.0, rtol=1e-12)


@laws
@given(scored)
def test_outcomes_as_scores_rank_perfectly_and_one_score_for_all_not_at_all(drawn):
    assert auc(drawn[1], drawn[1]) in (1.0, None)
    assert auc(np.zeros(len(drawn[1])), drawn[1]) in (0.5, None)


def unzipped(drawn) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray, list[str]]:
    """Scores, included steps, outcomes and tasks of drawn trajectories."""
    rows = [np.array([score for score, _ in steps]) for steps, _, _ in drawn]
    include = [np.array([kept for _, kept in steps], bool) for steps, _, _ in drawn]
    return rows, include, np.array([outcome for _, outcome, _ in drawn]), [task for _, _, task in drawn]


def pairs_at(drawn, step: int, task: str, masked: bool) -> tuple[float, int]:
    """The pairs of one task at one step, looking at every pair."""
    alive = [
        (steps[step][0], outcome)
        for steps, outcome, name in drawn
        if name == task and step < len(steps) and (steps[step][1] or not masked)
    ]
    return pairs_loop(*zip(*alive, strict=True)) if alive else (0.0, 0)


@laws
@given(trajectories, st.booleans())
def test_fixed_step_pairs_are_those_within_a_task_that_both_have_the_step(drawn, masked):
    rows, include, observed, tasks = unzipped(drawn)
    table = fixed_step_pairs(rows, observed, tasks, include=include if masked else None)
    assert table.tasks == list(dict.fromkeys(tasks))
    assert table.ordered.shape == table.pairs.shape == (len(table.tasks), max(map(len, rows), default=0))
    for (place, step), pairs in np.ndenumerate(table.pairs):
        assert (table.ordered[place, step], pairs) == pairs_at(drawn, step, table.tasks[place], masked)


@laws
@given(trajectories, st.booleans())
def test_fixed_step_auc_pools_the_pairs_of_all_tasks(drawn, masked):
    rows, include, observed, tasks = unzipped(drawn)
    table = fixed_step_auc(rows, observed, tasks, include=include if masked else None)
    assert [entry.step for entry in table] == list(range(max(map(len, rows), default=0)))
    for step, value, pairs, contributing in table:
        expected = [pairs_at(drawn, step, task, masked) for task in set(tasks)]
        ordered, total = (sum(column) for column in zip(*expected, strict=True))
        assert (pairs, contributing) == (total, sum(count > 0 for _, count in expected))
        assert value == (ordered / total if total else None)


def test_difficulty_of_tasks_does_not_help_the_fixed_step_auc():
    # Scores tell the easy task from the hard one, and nothing else.
    rows, observed = [np.array([value]) for value in (0.9, 0.9, 0.1, 0.1)], np.array([1.0, 0.0, 1.0, 0.0])
    assert auc(np.concatenate(rows), np.array([1.0, 1.0, 0.0, 0.0])) == 1.0
    assert fixed_step_auc(rows, observed, ["easy", "easy", "hard", "hard"])[0].auc == 0.5


@laws
@given(predictions)
def test_mse_and_brier_are_mean_squared_errors_and_brier_clips(drawn):
    predicted, observed = drawn
    raw = [(p - o) ** 2 for p, o in zip(predicted, observed, strict=True)]
    clipped = [(min(max(p, 0.0), 1.0) - o) ** 2 for p, o in zip(predicted, observed, strict=True)]
    np.testing.assert_allclose(mse(predicted, observed), sum(raw) / len(raw), rtol=1e-12)
    np.testing.assert_allclose(brier(predicted, observed), sum(clipped) / len(clipped), rtol=1e-12)


@laws
@given(predictions)
def test_the_constant_predictor_of_its_own_set_leaves_the_variance(drawn):
    observed = drawn[1]
    np.testing.assert_allclose(constant_mse(observed, reference_outcomes=observed), np.var(observed), atol=1e-12)


@laws
@given(st.lists(st.tuples(st.integers(0, 4), outcomes), min_size=1, max_size=12))
def test_on_its_own_set_knowing_the_step_index_never_hurts_and_leaves_the_variance_within_steps(pairs):
    steps, observed = np.array([step for step, _ in pairs]), np.array([outcome for _, outcome in pairs])
    within = sum(observed[steps == step].var() * (steps == step).sum() for step in set(steps.tolist())) / len(steps)
    value = step_index_mse(steps, observed, reference_steps=steps, reference_outcomes=observed)
    np.testing.assert_allclose(value, within, atol=1e-12)
    assert value <= constant_mse(observed, reference_outcomes=observed) + 1e-12


def test_references_predict_from_the_reference_set_alone():
    assert constant_mse(np.array([1.0, 1.0]), reference_outcomes=np.array([0.0, 0.5, 1.0, 0.5])) == 0.25
    reference = {"reference_steps": np.array([1, 1, 3]), "reference_outcomes": np.array([0.0, 1.0, 0.25])}
    assert step_index_mse(np.array([1, 3]), np.array([1.0, 0.25]), **reference) == 0.125


def test_a_step_the_reference_lacks_takes_the_nearest_lower_one_or_the_first():
    reference = {"reference_steps": np.array([1, 3]), "reference_outcomes": np.array([0.25, 0.75])}
    for step, predicted in [(0, 0.25), (2, 0.25), (4, 0.75), (99, 0.75)]:
        assert step_index_mse(np.array([step]), np.array([predicted]), **reference) == 0.0


@laws
@given(trajectories)
def test_flattened_steps_keep_order_index_and_outcome(drawn):
    rows = [np.array([score for score, _ in steps]) for steps, _, _ in drawn]
    flat = flatten_steps(rows, np.array([outcome for _, outcome, _ in drawn]))
    expected = [
        (step, row[step], outcome) for row, (_, outcome, _) in zip(rows, drawn, strict=True) for step in range(len(row))
    ]
    assert list(zip(*(array.tolist() for array in flat), strict=True)) == expected


@laws
@given(predictions, st.integers(1, 6))
def test_every_prediction_falls_into_exactly_one_bin_whose_means_add_up(drawn, bins):
    predicted, observed = drawn
    table = reliability(predicted, observed, bins)
    assert len(table) == bins
    assert sum(entry.number for entry in table) == len(predicted)
    filled = [entry for entry in table if entry.number]
    np.testing.assert_allclose(sum(entry.number * entry.prediction for entry in filled), predicted.sum(), atol=1e-9)
    np.testing.assert_allclose(sum(entry.number * entry.outcome for entry in filled), observed.sum(), atol=1e-9)
    assert all(entry.prediction is entry.outcome is None for entry in table if not entry.number)


@laws
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(1, 6))
def test_the_mean_prediction_of_a_bin_lies_in_it(predicted, bins):
    for lower, upper, number, mean, _ in reliability(np.array(predicted), np.zeros(len(predicted)), bins):
        if number:
            assert lower - 1e-12 <= mean <= upper + 1e-12


def test_predictions_on_edges_count_above_and_those_outside_at_the_ends():
    table = reliability(np.array([-3.0, 0.0, 0.5, 1.0, 7.0]), np.zeros(5), bins=2)
    assert [entry.number for entry in table] == [2, 3]


@pytest.mark.parametrize("measure", [mse, brier, auc, reliability])
def test_nan_and_mismatched_arrays_are_refused(measure):
    with pytest.raises(ValueError, match="must not hold NaN, but does at index 1"):
        measure(np.array([0.0, np.nan]), np.zeros(2))
    with pytest.raises(ValueError, match="one axis of the same length"):
        measure(np.zeros(3), np.zeros(2))


@pytest.mark.parametrize("measure", [mse, brier])
def test_an_error_over_no_prediction_is_refused(measure):
    with pytest.raises(ValueError, match="at least one prediction"):
        measure(np.zeros(0), np.zeros(0))


def test_an_empty_reference_set_is_refused():
    with pytest.raises(ValueError, match="at least one reference outcome"):
        constant_mse(np.zeros(2), reference_outcomes=np.zeros(0))
    empty = {"reference_steps": np.zeros(0, int), "reference_outcomes": np.zeros(0)}
    with pytest.raises(ValueError, match="at least one reference step"):
        step_index_mse(np.zeros(2, int), np.zeros(2), **empty)


def test_trajectories_that_do_not_fit_their_outcomes_tasks_or_masks_are_refused():
    rows = [np.zeros(2), np.zeros(1)]
    with pytest.raises(ValueError, match="expected 2 outcomes"):
        flatten_steps(rows, np.zeros(3))
    with pytest.raises(ValueError, match="2 outcomes and 1 tasks"):
        fixed_step_auc(rows, np.zeros(2), ["a"])
    with pytest.raises(ValueError, match="one boolean for each step"):
        fixed_step_auc(rows, np.zeros(2), ["a", "a"], include=[np.ones(2, bool), np.ones(2, bool)])
    with pytest.raises(ValueError, match="NaN, but do at step 1"):
        fixed_step_auc([np.array([0.0, np.nan])], np.zeros(1), ["a"])


def test_the_host_side_modules_import_no_jax():
    script = (
        "import sys, agentprm_jax.numerics.best_of_n, agentprm_jax.numerics.calibration; sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
