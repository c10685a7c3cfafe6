"""Laws of the run of all benchmarks."""

import ast
import pathlib

import pytest
from all import BENCHMARKS, FOLDER, AllConfig, Benchmark, collect, run, summary
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
    assert collect(Benchmark("b"), tmp_path, writer(tmp_path, [MET])) == [MET]
    (stale,) = collect(Benchmark("b"), tmp_path, lambda benchmark, log: 0)
    assert stale.verdict == "not measured"
    assert "exit code 0 and no goals" in stale.measured


def test_goals_that_were_written_before_a_failure_stay_beside_it(tmp_path):
    found = collect(Benchmark("b"), tmp_path, writer(tmp_path, [MET, MISSED], code=3))
    assert found[:2] == [MET, MISSED]
    assert found[2].measured == f"it ended with exit code 3; see {tmp_path / 'b.log'}"


def test_a_benchmark_that_fails_is_a_row_that_names_its_log(tmp_path):
    (goal,) = collect(Benchmark("no such file"), tmp_path, run)
    assert goal.verdict == "not measured"
    assert goal.measured == f"it ended with exit code 2; see {tmp_path / 'no such file.log'}"
    assert "No such file" in (tmp_path / "no such file.log").read_text()


def test_verdicts_are_counted():
    assert summary([MET, MISSED, MET]) == "2 pass, 1 miss."


def test_an_unknown_benchmark_is_refused():
    with pytest.raises(ValueError, match=r"must name some of gae, .*, got gea"):
        AllConfig(only=("gae", "gea"))
