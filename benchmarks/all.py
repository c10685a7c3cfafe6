"""Runs the benchmarks one after the other and prints every goal with what was measured beside it.

Commands:

    uv run benchmarks/all.py
    uv run benchmarks/all.py --only gae training
    uv run benchmarks/all.py --resume

Each runs in a process of its own, alone, with all it prints in runs/benchmarks/NAME.log. The table is written into
runs/benchmarks/goals.md as well (that of a part into goals-NAMES.md), anew after every benchmark. `--resume` goes on
after an interruption: it takes over what the same commit measured, and runs what is left. So that all end within an
hour and a half, search and training have the small model alone here, and sampling the batch of its goal; NAME.py by
itself measures the rest.

Many goals compare with packages of the dependency groups `bench`, `torch` and `tpu`. Where they are missing and uv
started this file, it starts itself again with them. Goals that need a package that cannot be had stay in the table and
say so, as do those of a benchmark that failed. Where uv does not find torch, install it by pip and run the file with
that Python.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import tyro
from goals import FILE, RUNS, Goal, goals_table, read_goals

from agentprm_jax.commands.answer import run_command
from agentprm_jax.reporting.progress import progress
from agentprm_jax.reporting.provenance import git_commit

FOLDER = Path(__file__).parent
FINISHED = "finished.json"
MODULES: Mapping[str, tuple[str, ...]] = {
    "bench": ("rlax", "numba", "torchrl"),
    "torch": ("torch", "accelerate", "peft"),
    "tpu": ("libtpu",),
}
"""Dependency groups that goals need, and modules by which they are known to be there."""
RESTARTED = "AGENTPRM_BENCHMARKS_RESTARTED"
"""Variable of the environment that is set where the groups were asked for already."""


class Benchmark(NamedTuple):
    """One file of this folder, which ends with `write_goals(NAME, ...)`."""

    name: str
    """The file without `.py`."""
    arguments: tuple[str, ...] = ()
    """Beside the defaults."""
    groups: tuple[str, ...] = ()
    """Dependency groups without which goals are not measured."""


class Finished(msgspec.Struct, frozen=True):
    """What a benchmark measured when it last ran to its end."""

    commit: str | None
    goals: list[Goal]


BENCHMARKS = (
    Benchmark("gae", groups=("bench", "tpu")),
    Benchmark("sampling", ("--models", "random", "smollm2", "--batches", "32"), groups=("torch",)),
    Benchmark("search", ("--models", "small")),
    Benchmark("training", ("--workloads", "quickstart"), groups=("torch",)),
    Benchmark("quickstart_time"),
    Benchmark("environments"),
    Benchmark("pods", groups=("tpu",)),
    Benchmark("loading"),
    Benchmark("loading_data"),
)
"""All that have goals, in the order in which they run."""


@dataclass(frozen=True)
class AllConfig:
    """Settings of the run."""

    only: tuple[str, ...] = tuple(benchmark.name for benchmark in BENCHMARKS)
    """Names of the benchmarks to run."""
    resume: bool = False
    """Take over what this commit measured before, and run the others."""

    @property
    def benchmarks(self) -> list[Benchmark]:
        """Those to run, in their order."""
        return [benchmark for benchmark in BENCHMARKS if benchmark.name in self.only]

    @property
    def report(self) -> Path:
        """Where the table is written: that of a part is not written over that of all."""
        names = [benchmark.name for benchmark in self.benchmarks]
        return RUNS / ("goals.md" if len(names) == len(BENCHMARKS) else f"goals-{'-'.join(names)}.md")

    def __post_init__(self) -> None:
        """Raises ValueError when a name is unknown."""
        known = [benchmark.name for benchmark in BENCHMARKS]
        if unknown := [name for name in self.only if name not in known]:
            raise ValueError(f"AllConfig.only must name some of {', '.join(known)}, got {', '.join(unknown)}.")


def main(config: AllConfig) -> None:
    """Runs and prints.

    Raises:
        ValueError: it should resume, but no commit says what the code is.
    """
    commit = git_commit(FOLDER)
    if config.resume and (commit is None or commit.endswith("+changes")):
        raise ValueError(f"--resume must run a commit without changes, got {commit or 'no checkout'}: run all anew.")
    goals = {one.name: [Goal(one.name, "all goals", note="it has not run yet")] for one in config.benchmarks}
    report = write_report(config.report, goals)
    for benchmark in progress(config.benchmarks, "benchmarks", total=len(config.benchmarks)):
        known = finished(benchmark, RUNS, commit) if config.resume else []
        if known:
            print(f"{benchmark.name}: taken over, since {commit} measured it before.", flush=True)
        goals[benchmark.name] = known or collect(benchmark, RUNS, run, commit)
        report = write_report(config.report, goals)
    print(report)


def write_report(path: Path, goals: Mapping[str, Sequence[Goal]]) -> str:
    """Writes the table of the goals of all benchmarks, and returns it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    every = [goal for some in goals.values() for goal in some]
    report = f"{goals_table(every)}\n\n{summary(every)}\n"
    path.write_text(report, encoding="utf-8")
    return report


def finished(benchmark: Benchmark, runs: Path, commit: str | None) -> list[Goal]:
    """The goals that this commit measured before; none where one of them was not measured."""
    path = runs / benchmark.name / FINISHED
    if not path.exists():
        return []
    before = msgspec.json.decode(path.read_bytes(), type=Finished)
    complete = before.commit == commit and all(goal.value is not None for goal in before.goals)
    return before.goals if complete else []


def collect(benchmark: Benchmark, runs: Path, run: Callable[[Benchmark, Path], int], commit: str | None) -> list[Goal]:
    """The goals of one benchmark, from this run and no earlier one.

    Args:
        benchmark: which.
        runs: folder of the folders of all benchmarks.
        run: runs it with its output in a file, and returns its exit code.
        commit: of the code, for whoever resumes.
    """
    folder, log = runs / benchmark.name, runs / f"{benchmark.name}.log"
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (FILE, FINISHED):
        (folder / stale).unlink(missing_ok=True)
    code = run(benchmark, log)
    goals = read_goals(folder) if (folder / FILE).exists() else []
    if code or not goals:
        note = f"it ended with exit code {code}{'' if code else ' and no goals'}; see {log}"
        return [*goals, Goal(benchmark.name, "the rest" if goals else "all goals", note=note)]
    (folder / FINISHED).write_bytes(msgspec.json.encode(Finished(commit, goals)))
    return goals


def run(benchmark: Benchmark, log: Path) -> int:
    """Runs a benchmark alone, with this Python."""
    command = [sys.executable, str(FOLDER / f"{benchmark.name}.py"), *benchmark.arguments]
    with log.open("w") as file:
        return subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode


def summary(goals: Sequence[Goal]) -> str:
    """`5 pass, 2 miss, 1 miss (undecided), 1 not measured.`"""
    counts = Counter(goal.verdict for goal in goals)
    return ", ".join(f"{count} {verdict.replace('*', '')}" for verdict, count in counts.items()) + "."


def needed_groups(benchmarks: Sequence[Benchmark]) -> list[str]:
    """Dependency groups without which some goals of these benchmarks are not measured."""
    return [group for group in MODULES if any(group in benchmark.groups for benchmark in benchmarks)]


def is_here(group: str) -> bool:
    """Whether all modules of a dependency group can be imported."""
    return all(importlib.util.find_spec(module) for module in MODULES[group])


def command_with(groups: Sequence[str], uv: str = "uv") -> list[str]:
    """The start of a command that uv runs with this version of Python and these dependency groups."""
    version = ".".join(map(str, sys.version_info[:2]))
    return [uv, "run", "--python", version, *(word for group in groups for word in ("--group", group))]


def restart(groups: Sequence[str], environment: Mapping[str, str]) -> list[str] | None:
    """What to start this with again, so that it has the groups; None where uv did not start it, or was asked before."""
    if "UV" not in environment or RESTARTED in environment:
        return None
    return command_with(groups, environment["UV"])


def get_groups(groups: Sequence[str]) -> None:
    """Becomes a process that has the groups; returns if all are here, or if they cannot be had, which it says."""
    missing = [group for group in groups if not is_here(group)]
    if not missing:
        return
    print(f"Missing: modules of the dependency groups {', '.join(missing)}.", flush=True)
    command = restart(groups, os.environ)
    if command:
        print(f"Starting again with `{' '.join(command)}`.", flush=True)
        if not subprocess.run([*command, "python", "-c", ""], check=False).returncode:
            os.execve(command[0], [*command, *sys.argv], {**os.environ, RESTARTED: "yes"})
    words = " ".join([*command_with(groups), *sys.argv])
    print(f"Goals that need them will not be measured; where uv finds them, they are by `{words}`.", flush=True)


if __name__ == "__main__":
    settings = tyro.cli(AllConfig, description=__doc__)
    get_groups(needed_groups(settings.benchmarks))
    run_command(main, settings, f"What was measured stands in {settings.report}; the same with --resume goes on.")
