"""Laws of value metrics, findings and bars."""

import dataclasses
import json

import msgspec
import numpy as np
import pytest
from made_pool import make_pool, trajectory

from agentprm_jax.numerics.calibration import fixed_step_auc
from agentprm_jax.reporting.bars import quickstart_bars
from agentprm_jax.reporting.evaluation import (
    Evaluation,
    SearchOutcomes,
    by_method,
    read_evaluation,
    write_evaluation,
)
from agentprm_jax.reporting.findings import Findings, Measurements
from agentprm_jax.reporting.pool import Pool
from agentprm_jax.reporting.results import Cost, PrmTraining
from agentprm_jax.reporting.tables import best_control
from agentprm_jax.reporting.value_metrics import ValueMetrics, reference_errors, same_actions_estimate

TASKS, SAMPLES = 30, 8
RNG = np.random.default_rng(0)
OUTCOMES = (RNG.random((TASKS, SAMPLES)) < 0.4).astype(float)
LENGTHS = RNG.integers(1, 6, (TASKS, SAMPLES))


TRAININGS = {"agentprm": {"progress": "gae", "lam": 0.95, "beta": 1.0}}


def made_pool():
    return make_pool(OUTCOMES.tolist(), LENGTHS.tolist())


def promises(quality, seed):
    """Promises that lean towards the outcome by `quality`."""
    noise = np.random.default_rng(seed)
    return [
        (quality * outcome + 0.3 * noise.random(length)).tolist()
        for outcome, length in zip(OUTCOMES.ravel(), LENGTHS.ravel(), strict=True)
    ]


def search_outcomes(values):
    count = len(values)
    return SearchOutcomes(
        outcomes=list(values),
        terminated=[True] * count,
        sampled_tokens=[10] * count,
        scored_actions=[4] * count,
        environment_steps=[3] * count,
        scored_tokens=50.0,
        kept_tokens=20.0,
    )


def evaluation(method, seed, quality, beam):
    return Evaluation(
        method=method,
        seed=seed,
        promises=promises(quality, seed) if quality is not None else [],
        pool_tokens=1000,
        beams={"2x2": search_outcomes(beam)},
        initial_value=None if quality is None else 0.25,
        training=None if quality is None else PrmTraining(method=method, seed=seed, **TRAININGS.get(method, {})),
    )


def findings(untrained=None):
    ones, zeros = np.ones(TASKS), np.zeros(TASKS)
    evaluations = [evaluation("agentprm", s, 1.0, ones) for s in (0, 1)]
    evaluations += [evaluation("orm", s, 0.0, zeros) for s in (0, 1)]
    evaluations += [evaluation("random_beam", s, None, zeros) for s in (0, 1, 2)]
    reference = list(zip(LENGTHS.ravel().tolist(), OUTCOMES.ravel().tolist(), strict=True))
    return Findings(
        Measurements(
            pool=made_pool(),
            sizes=(1, 4, 8),
            beams=("2x2",),
            beam_temperature=0.7,
            evaluations=tuple(evaluations),
            greedy=zeros,
            expert=ones,
            reference=reference,
            untrained=untrained,
            played={"greedy": Cost(tokens_sampled=5, environment_steps=2)},
        )
    )


def test_step_aucs_are_those_of_the_calibration_room():
    pool, rows = made_pool(), [np.array(row) for row in promises(0.2, 5)]
    tasks = [t.task for t in pool.flat]
    expected = fixed_step_auc(rows, pool.outcomes.ravel(), tasks)
    metrics = ValueMetrics(pool, [rows])
    for step in (0, 1, 2):
        assert metrics.step_auc(step).value == pytest.approx(expected[step].auc)
    pairs = sum(entry.pairs for entry in expected)
    pooled = sum(entry.auc * entry.pairs for entry in expected if entry.pairs) / pairs
    assert metrics.mean_auc().value == pytest.approx(pooled)


def test_metrics_without_finish_ignore_what_is_promised_at_finish():
    pool, rows = made_pool(), [np.array(row) for row in promises(0.2, 5)]
    changed = [np.append(row[:-1], 9.0 * index) for index, row in enumerate(rows)]
    same = [ValueMetrics(pool, [r]).mean_auc(finish=False).value for r in (rows, changed)]
    assert same[0] == same[1]
    assert ValueMetrics(pool, [rows]).mean_auc().value != ValueMetrics(pool, [changed]).mean_auc().value


def test_squared_errors_weigh_every_step_equally_and_the_last_step_only_itself():
    pool = make_pool([[1.0, 0.0], [0.0, 1.0]], [[2, 1], [1, 2]])
    rows = [np.array(row) for row in ([0.5, 1.0], [0.5], [1.5], [0.0, 0.0])]
    metrics = ValueMetrics(pool, [rows])
    assert metrics.mse().value == pytest.approx((0.25 + 0 + 0.25 + 2.25 + 1 + 1) / 6)
    assert metrics.brier().value == pytest.approx((0.25 + 0 + 0.25 + 1 + 1 + 1) / 6)
    assert metrics.last_step_brier().value == pytest.approx((0 + 0.25 + 1 + 1) / 4)


def test_the_constant_predictor_errs_by_the_variance_on_its_own_data():
    pool = made_pool()
    reference = list(zip(LENGTHS.ravel().tolist(), OUTCOMES.ravel().tolist(), strict=True))
    weights = LENGTHS.ravel()
    mean = np.average(OUTCOMES.ravel(), weights=weights)
    errors = reference_errors(pool, reference)
    assert errors["constant"].value == pytest.approx(np.average((OUTCOMES.ravel() - mean) ** 2, weights=weights))
    assert errors["step_index"].value <= errors["constant"].value + 1e-12


def test_errors_of_reference_predictors_vary_over_tasks_and_not_over_samples():
    pool = made_pool()
    doubled = Pool.of([msgspec.structs.replace(t, id=f"{t.id}{copy}") for t in pool.flat for copy in "01"], pool.tasks)
    reference = [(1, 0.3), (2, 0.5)]
    for name, error in reference_errors(pool, reference).items():
        assert error.n_tasks == TASKS
        assert error.stderr_tasks == pytest.approx(reference_errors(doubled, reference)[name].stderr_tasks)
        assert error.stderr_tasks > 0


def test_one_sample_is_worth_the_mean_for_every_method_and_control():
    found = findings()
    for name in ("agentprm", "orm", "shortest", "oracle", "random"):
        assert found.outcomes(name, "bon_1").mean() == pytest.approx(OUTCOMES.mean())


def test_scores_that_are_the_outcome_reach_the_oracle():
    found = findings()
    assert found.outcomes("agentprm", "bon_8").mean() == found.outcomes("oracle", "bon_8").mean()


def test_every_figure_of_the_table_has_its_tasks_seeds_and_both_errors():
    table = findings().search_table()
    rows = {row.method: row for row in table.rows}
    cell = rows["agentprm"].estimates["bon_4"]
    assert (cell.n_tasks, cell.n_seeds) == (TASKS, 2)
    assert cell.stderr_tasks is not None
    assert cell.stderr_seeds is not None
    assert rows["greedy"].estimates["beam_2x2"].value == 0.0
    assert rows["agentprm"].costs["beam_2x2"].tokens_sampled == 10
    assert rows["agentprm"].costs["beam_2x2"].tokens_kept == 20
    assert {"random_beam", "shortest", "most_frequent_final_state", "oracle", "expert"} <= rows.keys()


def test_the_value_table_holds_references_beside_every_method():
    names = [row.method for row in findings().value_table().rows]
    bound = "other samples, same actions"
    means = ["agentprm_mean_of_2", "orm_mean_of_2"]
    assert names == ["agentprm", "orm", *means, "constant predictor", "step-index predictor", bound]


def test_what_other_samples_tell_is_their_mean_after_the_same_actions_shrunk_towards_the_step_before():
    actions = [["a", "x"], ["a", "y"], ["a", "x"], ["b", "x"], ["a", "x"]]
    outcomes = [1.0, 0.0, 1.0, 0.0, 0.0]
    made = [trajectory("made_0", k, acts, o) for k, (acts, o) in enumerate(zip(actions, outcomes, strict=True))]
    rows = same_actions_estimate(Pool.of(made, ["made_0"]))
    # Of four folds, 0 and 4 are one: sample 0 is estimated from 1, 2 and 3, and never from itself.
    start = (0.0 + 1.0 + 0.0) / 3
    first = (0.0 + 1.0 + start) / 3  # samples 1 and 2 begin with "a"
    np.testing.assert_allclose(rows[0], [first, (1.0 + first) / 2])  # sample 2 goes on with "x"
    start = (1.0 + 0.0 + 1.0 + 0.0) / 4  # nobody else begins with "b"
    np.testing.assert_allclose(rows[3], [start, start])


def test_what_other_samples_tell_does_not_depend_on_the_outcome_that_is_estimated():
    pool = made_pool()
    turned = make_pool((1 - OUTCOMES[:, :1]).tolist(), LENGTHS[:, :1].tolist()).flat
    for task, changed in enumerate(turned):
        others = Pool.of([changed, *pool.trajectories[task][1:]], [changed.task])
        np.testing.assert_array_equal(same_actions_estimate(others)[0], same_actions_estimate(pool)[task * SAMPLES])


def test_a_single_sample_of_each_task_has_no_others():
    pool = make_pool([[1.0], [0.0]], [[1], [2]])
    with pytest.raises(ValueError, match="at least two samples"):
        same_actions_estimate(pool)
    alone = Measurements(pool, (1,), (), 0.7, (), np.ones(2), np.ones(2), reference=[(1, 1.0), (2, 0.0)])
    assert [row.kind for row in Findings(alone).value_table().rows] == ["control", "control"]


def test_seeds_together_promise_their_mean_and_search_nothing():
    found = findings()
    (together,) = found.groups["agentprm_mean_of_2"]
    for row, *singles in zip(together.promises, promises(1.0, 0), promises(1.0, 1), strict=True):
        np.testing.assert_allclose(row, np.mean(singles, axis=0), rtol=1e-12)
    table = found.search_table()
    row = next(row for row in table.rows if row.method == "agentprm_mean_of_2")
    assert row.estimates["bon_8"].n_seeds == 1
    assert "beam_2x2" not in row.estimates
    assert "mean over a method's PRMs" in table.caption
    single, both = (next(r for r in table.rows if r.method == name).costs for name in ("agentprm", row.method))
    assert both["bon_4"].tokens_scored == 2 * single["bon_4"].tokens_scored
    held = [c for c in found.comparisons() if c.a == row.method]
    assert [(c.b, c.metric) for c in held] == [
        (other, metric) for other in ("agentprm", "orm_mean_of_2") for metric in ("BoN@4", "BoN@8")
    ]
    assert {c.difference.n_seeds for c in held} == {1}
    assert found.stage().tokens_scored == sum(
        one.pool_tokens + sum(round(s.scored_tokens * len(s.outcomes)) for s in one.beams.values())
        for one in found.measured.evaluations
    )


def test_a_bar_is_about_one_prm_and_says_what_its_seeds_reach_together():
    noisy = [promises(0.05, seed) for seed in range(12)]
    one = findings().measured.evaluations[0]
    evaluations = tuple(
        msgspec.structs.replace(one, seed=seed, promises=rows, beams={}, training=None)
        for seed, rows in enumerate(noisy)
    )
    found = Findings(dataclasses.replace(findings().measured, evaluations=evaluations))
    alone, together = (found.metrics(name).step_auc(2).value for name in ("agentprm", "agentprm_mean_of_12"))
    assert alone < 0.75 <= together
    bar = quickstart_bars(found)[1]
    assert not bar.passed
    assert bar.detail.startswith(f"{alone:.3f}")
    assert f"(AgentPRM); together {together:.3f}" in bar.detail


def test_the_bars_on_ranking_say_what_can_be_reached():
    bar = next(bar for bar in quickstart_bars(findings()) if "step 3" in bar.name)
    estimate = findings().same_actions.step_auc(2)
    assert f"same actions give {estimate.value:.3f} ± {estimate.stderr_tasks:.3f}" in bar.detail


def test_bars_whose_searches_were_not_measured_are_missed_and_not_left_out():
    found = findings()
    alone = Findings(dataclasses.replace(found.measured, sizes=(1, 4), beams=()))
    bars = {bar.name: bar for bar in quickstart_bars(alone) if "standard errors" in bar.name}
    assert [name.split(" by")[0] for name in bars] == [
        "AgentPRM above every control at BoN@8",
        "AgentPRM above ORM at the mean over beams",
    ]
    assert not any(bar.passed for bar in bars.values())


def test_bars_pass_where_the_figures_pass_and_only_there():
    bars = {bar.name: bar.passed for bar in quickstart_bars(findings())}
    assert bars["AgentPRM above ORM at the mean over beams by more than 2 standard errors"]
    assert bars["AgentPRM above greedy at BoN@8 by more than 2 standard errors"]
    assert bars["AUC within a task at step 3: the best PRM has at least 0.75"]


def test_progress_of_a_scored_pool_adds_up_from_the_initial_value_to_the_last_promise():
    for scored in (one.scores["agentprm"] for one in findings().scored_pool()):
        assert scored.progress[0] == pytest.approx(scored.promise[0] - 0.25)
        assert 0.25 + sum(scored.progress) == pytest.approx(scored.promise[-1])


def test_promises_without_an_initial_value_are_refused_with_the_file_and_what_to_do(tmp_path):
    record = json.loads(msgspec.json.encode(evaluation("orm", 0, 0.4, [1.0])))
    del record["initial_value"]
    (tmp_path / "old.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"old\.json.*initial_value.*Remove the file to measure it again"):
        read_evaluation(tmp_path / "old.json")


def test_controls_and_bounds_cost_what_they_sample_and_nothing_is_scored_for_them():
    rows = {row.method: row for row in findings().search_table().rows}
    pool = made_pool()
    for name in ("shortest", "oracle", "most_frequent_final_state"):
        cost = rows[name].costs["bon_4"]
        assert cost.tokens_sampled == pytest.approx(4 * pool.sampled_tokens.mean())
        assert cost.environment_steps == pytest.approx(4 * LENGTHS.mean())
        assert cost.tokens_scored == 0
    assert rows["random"].costs["bon_4"].environment_steps == pytest.approx(LENGTHS.mean())
    assert rows["greedy"].costs["beam_2x2"] == Cost(tokens_sampled=5, environment_steps=2)
    assert rows["expert"].costs == {}


def test_agentprm_is_held_against_the_best_control_of_every_column_whatever_seeds_that_has():
    found = {(c.metric, c.b): c.difference for c in findings().comparisons()}
    search = findings().search_table()
    for column in search.columns[1:]:
        best = best_control(search, column)
        difference = found[column.title, best.method]
        agentprm = next(row for row in search.rows if row.method == "agentprm").estimates[column.key]
        assert difference.value == pytest.approx(agentprm.value - best.estimates[column.key].value)


def test_rows_say_the_form_of_the_progress_loss_where_there_is_one():
    notes = {row.method: row.note for row in findings().search_table().rows}
    assert "gae form" in notes["agentprm"]
    assert "lambda 0.95, beta 1" in notes["agentprm"]
    assert notes["orm"] == ""
    assert [(t.method, t.seed) for t in findings().trainings()] == [
        ("agentprm", 0), ("agentprm", 1), ("orm", 0), ("orm", 1),
    ]  # fmt: skip


def test_evaluations_are_read_back_as_they_were_written(tmp_path):
    written = evaluation("orm", 3, 0.4, np.linspace(0, 1, TASKS).tolist())
    write_evaluation(tmp_path / "orm.json", written)
    assert read_evaluation(tmp_path / "orm.json") == written


def test_a_damaged_evaluation_is_refused_with_its_file(tmp_path):
    (tmp_path / "x.json").write_text('{"method": 3}')
    with pytest.raises(ValueError, match=r"x\.json.*method"):
        read_evaluation(tmp_path / "x.json")


def test_two_evaluations_of_one_method_and_seed_are_refused():
    with pytest.raises(ValueError, match="seed 1"):
        by_method([evaluation("orm", 1, 0.1, []), evaluation("orm", 1, 0.1, [])])


def test_the_table_says_how_its_figures_were_sampled():
    caption = findings().search_table().caption
    assert f"{TASKS} held-out tasks" in caption
    assert "N nodes, M candidates each at temperature 0.7" in caption


def test_greedy_decoding_before_sft_stands_beside_that_after_it_where_it_was_measured():
    rows = {row.method: row for row in findings(untrained=np.ones(TASKS)).search_table().rows}
    assert rows["greedy_before_sft"].kind == "control"
    assert {estimate.value for estimate in rows["greedy_before_sft"].estimates.values()} == {1.0}
    assert {estimate.value for estimate in rows["greedy"].estimates.values()} == {0.0}
    assert "greedy_before_sft" not in {row.method for row in findings().search_table().rows}


def test_where_no_task_has_samples_that_differ_there_is_no_auc_and_the_bars_say_so():
    pool = make_pool([[0.0] * 4] * 3, [[1, 2, 2, 1]] * 3)
    rows = [[0.1] * len(t.rewards) for t in pool.flat]
    scored = Evaluation(method="agentprm", seed=0, promises=rows, pool_tokens=1, beams={}, initial_value=0.0)
    none, nothing = np.zeros(3), [(1, 0.0), (2, 0.0)]
    found = Findings(Measurements(pool, (1, 4), (), 0.7, (scored,), none, none, reference=nothing))
    estimates = next(row for row in found.value_table().rows if row.method == "agentprm").estimates
    assert set(estimates) == {"mse", "brier", "brier_last"}
    ranking = [bar for bar in quickstart_bars(found) if bar.name.startswith("AUC")]
    assert [bar.passed for bar in ranking] == [False, False]
    assert {bar.detail for bar in ranking} == {"too few tasks have samples that differ in outcome"}
