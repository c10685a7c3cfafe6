"""Laws of the GAE benchmark."""

import json
from collections import Counter

import pytest
from bench_gae import BenchGaeConfig, main
from gae import check_agreement
from gae_implementations import ADD, GROUPS, IMPLEMENTATIONS, OURS, OURS_BY_STEP, OURS_TOKENS, OWN
from gae_report import Measured, goals, markdown
from gae_tpu import BY_STEP, ONE, TOKENS, Compiled, compile_for_tpu, sequential_steps
from goals import read_goals
from measuring import Timing

LOOPS = """
%condition.1 (arguments: (s32[], f32[8])) -> pred[] {
  %bound = s32[]{:T(128)} constant(64)
  ROOT %less = pred[] compare(%index, %bound), direction=LT
}

%condition.2 (arguments: (s32[], f32[8])) -> pred[] {
  %bound = s32[] constant(512)
  ROOT %less = pred[] compare(%index, %bound), direction=LT
}

ENTRY %main () -> f32[8] {
  %other = s32[] constant(7)
  %first = (s32[], f32[8]) while(%tuple.1), condition=%condition.1, body=%body.1
  %second = (s32[], f32[8]) while(%tuple.2), condition=%condition.2, body=%body.2
}
"""


def test_a_tiny_shape_is_measured_by_the_experiment_and_written_with_its_picture(tmp_path, capsys):
    main(BenchGaeConfig(output=tmp_path, shapes=("8x4",), implementations=(ADD, OURS), repeats=2, seconds=1))
    printed = capsys.readouterr().out
    assert "### [8, 4] float32, JAX" in printed
    assert "[8, 4] float32, of adding two arrays: at most 2 times" in printed
    assert [goal.name for goal in read_goals(tmp_path)] == ["[8, 4] float32, of adding two arrays"]
    assert (tmp_path / "report.md").read_text() in printed
    (measured,) = json.loads((tmp_path / "times.json").read_text())
    assert list(measured["seconds"]) == [ADD, OURS]
    assert (tmp_path / "times.png").stat().st_size > 0


def test_a_missing_package_is_named_in_its_goal_and_the_rest_is_measured(tmp_path, capsys, monkeypatch):
    import gae_implementations

    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(gae_implementations.importlib, "import_module", missing)
    main(BenchGaeConfig(output=tmp_path, shapes=("8x4",), implementations=(OURS, "TRL"), repeats=2, seconds=1))
    printed = capsys.readouterr().out
    assert "| not measured | gae | [8, 4] float32, as fast as TRL: at least 10 times | the package torch is" in printed
    assert f"| {OURS} |" in printed


def test_every_implementation_is_in_a_group_and_only_ours_and_adding_in_several():
    counts = Counter(name for group in GROUPS.values() for name in group)
    assert set(counts) == set(IMPLEMENTATIONS)
    assert {name for name, count in counts.items() if count > 1} == {ADD, *OWN}


def test_each_of_ours_is_held_against_adding_before_torch_and_numba_are_loaded():
    with_adding = [ADD in group for group in GROUPS.values()]
    assert with_adding == sorted(with_adding, reverse=True)
    assert {name for group in GROUPS.values() if ADD in group for name in group} == {ADD, *OWN, "rlax"}


def test_the_token_form_is_held_against_adding_in_every_dtype(tmp_path):
    dtypes, names = ("float32", "bfloat16"), (ADD, OURS_TOKENS)
    main(BenchGaeConfig(tmp_path, shapes=("8x4",), dtypes=dtypes, implementations=names, repeats=2, seconds=1))
    assert [goal.words for goal in read_goals(tmp_path)] == [
        f"[8, 4] {dtype}, tokens, of adding two arrays: at most 2 times" for dtype in dtypes
    ]


def test_a_failure_of_libtpu_costs_no_goal_and_is_reported(tmp_path, capsys, monkeypatch):
    from agentprm_jax.training.planning import programs

    def fail(topology):
        raise RuntimeError("libtpu is in use by another process.")

    monkeypatch.setattr(programs, "tpu_devices", fail)
    main(BenchGaeConfig(tmp_path, shapes=("8x4",), implementations=(ADD, OURS), repeats=2, seconds=1))
    assert "Nothing was compiled: libtpu is in use by another process." in capsys.readouterr().out
    assert [goal.value is None for goal in read_goals(tmp_path)] == [False]


def test_goals_are_written_before_libtpu_can_end_the_process(tmp_path, monkeypatch):
    import gae

    def end(shapes):
        raise SystemExit(1)

    monkeypatch.setattr(gae, "compile_for_tpu", end)
    with pytest.raises(SystemExit):
        main(BenchGaeConfig(tmp_path, shapes=("8x4",), implementations=(ADD, OURS), repeats=2, seconds=1))
    assert len(read_goals(tmp_path)) == 1


def test_every_form_has_a_row_in_the_table_of_compiled_programs():
    rows = [Compiled((8, 4), form, 1e6, 2e6, 3_000_000, 4, 5_000_000) for form in (ONE, BY_STEP, TOKENS)]
    lines = markdown([], [], rows).splitlines()[-3:]
    assert lines == [f"| [8, 4] | {form} | 4 | 1 M | 2 MB | 3 MB | 5 MB |" for form in (ONE, BY_STEP, TOKENS)]


@pytest.mark.slow
def test_every_form_moves_at_least_its_inputs_and_its_advantages():
    pytest.importorskip("libtpu", reason="libtpu comes with the dependency group tpu")
    compiled = {one.form: one for one in compile_for_tpu([(64, 32)])}
    numbers = 4 * 64 * 32
    assert {form: one.least_bytes for form, one in compiled.items()} == {
        ONE: 3 * numbers + 4 * 64,
        BY_STEP: 4 * numbers + 4 * 64,
        TOKENS: 3 * numbers + 64 * 32,
    }
    assert {form: one.steps for form, one in compiled.items()} == {ONE: 0, BY_STEP: 32, TOKENS: 32}


def test_other_advantages_are_not_compared():
    with pytest.raises(ValueError, match=r"wrong must compute the same advantages as ours, but differs by 1"):
        check_agreement({OURS: lambda: [1.0], "wrong": lambda: [2.0]}, "float32")


def test_goals_are_met_or_missed_by_the_whole_interval_of_the_ratio_to_ours():
    steady = {
        ADD: (1.0,) * 5,
        OURS: (3.0,) * 5,
        "rlax": (6.0,) * 5,
        "TRL": (29.0,) * 5,
        "numba": (1.0, 9.0, 1.0, 9.0, 4.0),
    }
    timings = {name: Timing(0, turns) for name, turns in steady.items()}
    found = goals(Measured("JAX", (8, 4), "float32", timings), {})
    assert [goal.verdict for goal in found] == ["**miss**", "pass", "**miss**", "**miss** (undecided)"]


def test_a_shape_that_is_not_written_as_rows_and_steps_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must be written like 4096x32, got 4096"):
        _ = BenchGaeConfig(output=tmp_path, shapes=("4096",)).sizes


def test_the_sequential_steps_of_a_program_are_the_bounds_of_its_loops():
    assert sequential_steps(LOOPS) == 64 + 512


def test_a_loop_within_a_loop_is_refused():
    nested = (
        LOOPS + "\n%body.1 (a: s32[]) -> s32[] {\n  %x = s32[] while(%a), condition=%condition.2, body=%body.2\n}\n"
    )
    with pytest.raises(ValueError, match=r"%body\.1 must hold no other loop"):
        sequential_steps(nested)


def test_both_of_ours_are_held_against_the_same_goals():
    timings = {name: Timing(0, (1.0,) * 5) for name in (ADD, OURS, OURS_BY_STEP, "rlax")}
    found = [goal.name for goal in goals(Measured("JAX", (8, 4), "float32", timings), {})]
    ours, by_step = found[:2], found[2:]
    assert by_step == [name.replace("float32", "float32, a discount a step") for name in ours]


def test_a_loop_without_a_constant_bound_is_refused():
    with pytest.raises(ValueError, match=r"%condition\.1 must have one constant bound"):
        sequential_steps(LOOPS.replace("constant(64)", "parameter(1)"))
