"""Runs the benchmarks one after the other and prints every goal with what was measured beside it.

Commands:

    uv run benchmarks/all.py
    uv run --group bench --group torch --group tpu benchmarks/all.py
    uv run benchmarks/all.py --only gae training

Each runs in a process of its own, alone, with all it prints in runs/benchmarks/NAME.log. Goals that need a package that
is not installed stay in the table and say so, as do those of a benchmark that failed. The table is written into
runs/benchmarks/goals.md as well. Where uv does not find torch, install it by pip and run the file with that Python.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import tyro
from goals import FILE, RUNS, Goal, goals_table, read_goals

from agentprm_jax.reporting.progress import progress

FOLDER = Path(__file__).parent


class Benchmark(NamedTuple):
    """One file of this folder, which ends with `write_goals(NAME, ...)`."""

    name: str
    """The file without `.py`."""
    arguments: tuple[str, ...] = ()
    """Beside the defaults."""


BENCHMARKS = (
    Benchmark("gae"),
    Benchmark("sampling", ("--models", "random", "smollm2")),
    Benchmark("search"),
    Benchmark("training"),
    Benchmark("quickstart_time"),
    Benchmark("environments"),
    Benchmark("pods"),
    Benchmark("loading"),
    Benchmark("loading_data"),
)
"""All that have goals, in the order in which they run."""


@dataclass(frozen=True)
class AllConfig:
    """Settings of the run."""

    only: tuple[str, ...] = tuple(benchmark.name for benchmark in BENCHMARKS)
    """Names of the benchmarks to run."""

    def __post_init__(self) -> None:
        """Raises ValueError when a name is unknown."""
        known = [benchmark.name for benchmark in BENCHMARKS]
        if unknown := [name for name in self.only if name not in known]:
            raise ValueError(f"AllConfig.only must name some of {', '.join(known)}, got {', '.join(unknown)}.")


def main(config: AllConfig) -> None:
    """Runs and prints."""
    chosen = [benchmark for benchmark in BENCHMARKS if benchmark.name in config.only]
    goals: list[Goal] = []
    for benchmark in progress(chosen, "benchmarks", total=len(chosen)):
        goals += collect(benchmark, RUNS, run)
    report = f"{goals_table(goals)}\n\n{summary(goals)}\n"
    (RUNS / "goals.md").write_text(report, encoding="utf-8")
    print(report)


def collect(benchmark: Benchmark, runs: Path, run: Callable[[Benchmark, Path], int]) -> list[Goal]:
    """The goals of one benchmark, from this run and no earlier one.

    Args:
        benchmark: which.
        runs: folder of the folders of all benchmarks.
        run: runs it with its output in a file, and returns its exit code.
    """
    folder, log = runs / benchmark.name, runs / f"{benchmark.name}.log"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).unlink(missing_ok=True)
    code = run(benchmark, log)
    goals = read_goals(folder) if (folder / FILE).exists() else []
    if code or not goals:
        note = f"it ended with exit code {code}{'' if code else ' and no goals'}; see {log}"
        return [*goals, Goal(benchmark.name, "the rest" if goals else "all goals", note=note)]
    return goals


def run(benchmark: Benchmark, log: Path) -> int:
    """Runs a benchmark alone, with this Python."""
    command = [sys.executable, str(FOLDER / f"{benchmark.name}.py"), *benchmark.arguments]
    with log.open("w") as file:
        return subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode


def summary(goals: Sequence[Goal]) -> str:
    """`5 pass, 2 miss, 1 undecided, 1 not measured.`"""
    counts = Counter(goal.verdict for goal in goals)
    return ", ".join(f"{count} {verdict.strip('*')}" for verdict, count in counts.items()) + "."


if __name__ == "__main__":
    main(tyro.cli(AllConfig, description=__doc__))
