"""Laws of the run of all benchmarks."""

import ast
import pathlib
import sys
import tomllib

import all as benchmarks
import pytest
from all import (
    BENCHMARKS,
    FOLDER,
    MODULES,
    RESTARTED,
    AllConfig,
    Benchmark,
    collect,
    finished,
    main,
    needed_groups,
    restart,
    run,
    summary,
)
from goals import Goal, write_goals

MET, MISSED = Goal("b", "n", "at least", 1.0, value=2.0), Goal("b", "n", "at least", 1.0, value=0.5)


def test_every_benchmark_is_a_file_that_writes_goals():
    for benchmark in BENCHMARKS:
        tree = ast.parse((FOLDER / f"{benchmark.name}.py").read_text())
        called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert "write_goals" in called, benchmark.name


def writer(folder: pathlib.Path, goals: list[Goal], code: int = 0):
    """A run of a benchmark that writes these goals below a folder."""

    def run(benchmark: Benchmark, log: pathlib.Path) -> int:
        write_goals(folder / benchmark.name, goals)
        return code

    return run


def test_goals_are_those_of_this_run(tmp_path):
    assert collect(Benchmark("b"), tmp_path, writer(tmp_path, [MET]), "c") == [MET]
    (stale,) = collect(Benchmark("b"), tmp_path, lambda benchmark, log: 0, "c")
    assert stale.verdict == "not measured"
    assert "exit code 0 and no goals" in stale.measured


def test_goals_that_were_written_before_a_failure_stay_beside_it(tmp_path):
    found = collect(Benchmark("b"), tmp_path, writer(tmp_path, [MET, MISSED], code=3), "c")
    assert found[:2] == [MET, MISSED]
    assert found[2].measured == f"it ended with exit code 3; see {tmp_path / 'b.log'}"


def test_what_a_commit_measured_whole_is_finished_for_that_commit_alone(tmp_path):
    unmeasured = Goal("b", "n", "at least", 1.0, note="torch is not installed")
    for name, goals, code in (("whole", [MET], 0), ("part", [MET, unmeasured], 0), ("failed", [MET], 1)):
        collect(Benchmark(name), tmp_path, writer(tmp_path, goals, code), "c")
    taken = {name: finished(Benchmark(name), tmp_path, "c") for name in ("whole", "part", "failed", "never")}
    assert taken == {"whole": [MET], "part": [], "failed": [], "never": []}
    assert finished(Benchmark("whole"), tmp_path, "d") == []


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Names of the benchmarks that were started by a run that is interrupted in the second, and by later ones."""
    names = []

    def run(benchmark, log):
        names.append(benchmark.name)
        if names == [BENCHMARKS[0].name, BENCHMARKS[1].name]:
            raise KeyboardInterrupt
        return writer(tmp_path, [MET])(benchmark, log)

    for name, value in {"RUNS": tmp_path, "run": run, "git_commit": lambda folder: "c"}.items():
        monkeypatch.setattr(benchmarks, name, value)
    with pytest.raises(KeyboardInterrupt):
        main(AllConfig())
    return names


def test_an_interrupted_run_leaves_a_table_of_what_is_finished_and_what_is_not(tmp_path, started):
    lines = (tmp_path / "goals.md").read_text().splitlines()
    assert lines[2] == "| pass | b | n: at least 1 times | 2 times |"
    waiting = [line for line in lines if line.endswith("| all goals | it has not run yet |")]
    assert len(waiting) == len(BENCHMARKS) - 1


def test_a_part_that_is_run_leaves_the_table_of_all_as_it_was(tmp_path, started):
    before = (tmp_path / "goals.md").read_text()
    main(AllConfig(only=("gae", "pods")))
    assert (tmp_path / "goals.md").read_text() == before
    assert (tmp_path / "goals-gae-pods.md").read_text().endswith("\n2 pass.\n")


def test_a_resumed_run_takes_over_what_is_finished_and_runs_the_rest(tmp_path, started, capsys):
    main(AllConfig(resume=True))
    names = [benchmark.name for benchmark in BENCHMARKS]
    assert started == [*names[:2], *names[1:]]
    assert f"{names[0]}: taken over" in capsys.readouterr().out
    assert (tmp_path / "goals.md").read_text().endswith(f"\n{len(BENCHMARKS)} pass.\n")


def test_a_run_that_is_not_resumed_takes_over_nothing(started):
    main(AllConfig())
    assert started[2:] == [benchmark.name for benchmark in BENCHMARKS]


@pytest.mark.parametrize("commit", [None, "c+changes"])
def test_code_that_no_commit_holds_is_not_resumed(monkeypatch, commit):
    monkeypatch.setattr(benchmarks, "git_commit", lambda folder: commit)
    with pytest.raises(ValueError, match="--resume must run a commit without changes"):
        main(AllConfig(resume=True))


def test_needed_groups_are_dependency_groups_of_the_project():
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())
    assert set(needed_groups(BENCHMARKS)) == set(MODULES)
    assert set(MODULES) <= set(project["dependency-groups"])
    assert needed_groups([Benchmark("b", groups=("tpu", "bench")), Benchmark("c")]) == ["bench", "tpu"]


def test_what_uv_started_is_started_again_once_with_the_groups_and_this_python():
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    command = ["/bin/uv", "run", "--python", python, "--group", "bench", "--group", "tpu"]
    assert restart(["bench", "tpu"], {"UV": "/bin/uv"}) == command
    assert restart(["bench", "tpu"], {"UV": "/bin/uv", RESTARTED: "yes"}) is None
    assert restart(["bench", "tpu"], {}) is None


def test_a_benchmark_that_fails_is_a_row_that_names_its_log(tmp_path):
    (goal,) = collect(Benchmark("no such file"), tmp_path, run, "c")
    assert goal.verdict == "not measured"
    assert goal.measured == f"it ended with exit code 2; see {tmp_path / 'no such file.log'}"
    assert "No such file" in (tmp_path / "no such file.log").read_text()


def test_verdicts_are_counted():
    assert summary([MET, MISSED, MET]) == "2 pass, 1 miss."


def test_an_unknown_benchmark_is_refused():
    with pytest.raises(ValueError, match=r"must name some of gae, .*, got gea"):
        AllConfig(only=("gae", "gea"))
