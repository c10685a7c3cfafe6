"""Laws of means, standard errors and the paired bootstrap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from agentprm_jax.reporting.statistics import estimate, paired_bootstrap, pooled_estimate

tables = arrays(np.float64, st.tuples(st.integers(2, 5), st.integers(2, 9)), elements=st.floats(0, 1, width=32))


@given(tables)
def test_estimate_equals_the_textbook_formulas(values):
    found = estimate(values)
    seeds, tasks = values.shape
    per_task = [sum(values[:, t]) / seeds for t in range(tasks)]
    per_seed = [sum(values[s, :]) / tasks for s in range(seeds)]
    mean = sum(per_task) / tasks
    variance_tasks = sum((x - mean) ** 2 for x in per_task) / (tasks - 1) / tasks
    variance_seeds = sum((x - mean) ** 2 for x in per_seed) / (seeds - 1) / seeds
    assert found.value == pytest.approx(mean, abs=1e-12)
    assert found.stderr_tasks == pytest.approx(variance_tasks**0.5, abs=1e-12)
    assert found.stderr_seeds == pytest.approx(variance_seeds**0.5, abs=1e-12)
    assert (found.n_seeds, found.n_tasks) == (seeds, tasks)
    assert found.stderr == pytest.approx((variance_tasks + variance_seeds) ** 0.5, abs=1e-12)


def test_one_seed_has_no_error_over_seeds_and_one_task_none_over_tasks():
    assert estimate(np.array([0.0, 1.0])).stderr_seeds is None
    assert estimate(np.array([[0.0], [1.0]])).stderr_tasks is None
    lone = estimate(np.array([0.5]))
    assert (lone.value, lone.stderr) == (0.5, None)


def test_stderr_over_tasks_predicts_the_spread_of_repeated_evaluations():
    rng = np.random.default_rng(0)
    repeats = [estimate(rng.uniform(size=50)) for _ in range(2_000)]
    spread = np.std([repeat.value for repeat in repeats])
    claimed = np.sqrt(np.mean([(repeat.stderr_tasks or 0) ** 2 for repeat in repeats]))
    assert claimed == pytest.approx(spread, rel=0.06)  # 2,000 repeats know the spread to 1.6 %


@pytest.mark.parametrize("values", [np.zeros((2, 2, 2)), np.zeros(0), np.float64(1)])
def test_values_without_task_axis_or_without_values_are_refused(values):
    with pytest.raises(ValueError, match="got shape"):
        estimate(values)


def test_a_missing_outcome_is_refused_with_its_place():
    with pytest.raises(ValueError, match="seed index 1, task index 2"):
        estimate(np.array([[0, 1, 1], [0, 1, np.nan]]))


def test_the_same_method_differs_from_itself_by_exactly_zero():
    values = np.random.default_rng(0).uniform(size=(3, 40))
    difference = paired_bootstrap(values, values, seed=0, resamples=200)
    assert (difference.value, difference.low, difference.high, difference.probability) == (0, 0, 0, 0.5)
    assert difference.verdict == "undecided"


def test_a_constant_advantage_on_every_task_has_no_uncertainty_however_hard_the_tasks():
    tasks = np.random.default_rng(0).uniform(size=(3, 40))
    difference = paired_bootstrap(tasks + 0.1, tasks, seed=0, resamples=200)
    assert difference.low == pytest.approx(0.1)
    assert difference.high == pytest.approx(0.1)
    assert (difference.probability, difference.verdict) == (1.0, "above")


def test_swapping_the_methods_mirrors_the_interval():
    rng = np.random.default_rng(1)
    a, b = rng.uniform(size=(2, 4, 30))
    forth, back = paired_bootstrap(a, b, seed=3), paired_bootstrap(b, a, seed=3)
    assert forth.low == pytest.approx(-back.high)
    assert forth.high == pytest.approx(-back.low)
    assert forth.probability == pytest.approx(1 - back.probability)


def test_bootstrap_stderr_over_tasks_agrees_with_the_formula():
    rng = np.random.default_rng(2)
    a, b = rng.uniform(size=(2, 200))
    difference = paired_bootstrap(a, b, seed=0)
    assert difference.stderr == pytest.approx(estimate(a - b).stderr_tasks, rel=0.03)


def test_seeds_that_disagree_widen_the_interval():
    tasks = np.random.default_rng(0).uniform(size=(1, 200))
    shifts = np.array([[-0.1], [0.0], [0.1], [0.2]])
    together = paired_bootstrap(tasks + shifts, tasks, seed=0)
    assert together.n_seeds == 4
    assert together.low < 0 < together.high
    assert paired_bootstrap((tasks + shifts).mean(axis=0), tasks, seed=0).verdict == "above"


def test_a_method_without_seeds_is_held_against_every_seed():
    rng = np.random.default_rng(3)
    a, b = rng.uniform(size=(3, 20)), rng.uniform(size=20)
    assert paired_bootstrap(a, b, seed=0) == paired_bootstrap(a, np.tile(b, (3, 1)), seed=0)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(4)
    samples = rng.normal(0.05, 0.3, (400, 60))
    found = [paired_bootstrap(sample, np.zeros(60), seed=i, resamples=300) for i, sample in enumerate(samples)]
    covered = np.mean([difference.low <= 0.05 <= difference.high for difference in found])
    assert 0.90 <= covered <= 0.98  # 400 samples know .95 to .011; percentile intervals cover slightly less


def test_the_bootstrap_is_a_function_of_its_seed():
    a, b = np.random.default_rng(5).uniform(size=(2, 25))
    assert paired_bootstrap(a, b, seed=1) == paired_bootstrap(a, b, seed=1)
    assert paired_bootstrap(a, b, seed=1) != paired_bootstrap(a, b, seed=2)


def test_a_comparison_of_different_tasks_or_seeds_is_refused():
    with pytest.raises(ValueError, match="same tasks, got 3 and 4"):
        paired_bootstrap(np.zeros(3), np.zeros(4), seed=0)
    with pytest.raises(ValueError, match="same seeds or none, got 2 and 3"):
        paired_bootstrap(np.zeros((2, 4)), np.zeros((3, 4)), seed=0)
    with pytest.raises(ValueError, match=r"0 < confidence < 1, got 10000 and 1\.5"):
        paired_bootstrap(np.zeros(3), np.zeros(3), seed=0, confidence=1.5)


def test_pooled_estimate_of_a_mean_agrees_with_estimate():
    values = np.random.default_rng(6).uniform(size=(4, 150))
    pooled = pooled_estimate(lambda s, t: float(values[s, t].mean()), tasks=150, seeds=4, seed=0, resamples=3_000)
    direct = estimate(values)
    assert pooled.value == pytest.approx(direct.value)
    assert pooled.stderr_seeds == pytest.approx(direct.stderr_seeds)
    assert pooled.stderr_tasks == pytest.approx(direct.stderr_tasks, rel=0.06)  # 3,000 draws know it to 1.3 %


def test_pooled_estimate_leaves_out_undefined_draws_and_refuses_undefined_figures():
    def single_class(_, tasks):
        return float(len(set(tasks.tolist()))) if len(set(tasks.tolist())) > 1 else float("nan")

    assert pooled_estimate(single_class, tasks=3, seed=0).stderr_tasks is not None
    with pytest.raises(ValueError, match="must be finite on all 3 tasks"):
        pooled_estimate(lambda _s, _t: float("nan"), tasks=3, seed=0)
    with pytest.raises(ValueError, match="undefined on"):
        pooled_estimate(lambda _, t: 1.0 if len(set(t.tolist())) == 5 else float("nan"), tasks=5, seed=0)
