"""How near promises come to Q: Monte-Carlo estimates from forked states beside the PRMs of an evaluation.

Command:

    uv run experiments/fork_values.py --evaluation runs/quickstart/evaluation --output runs/quickstart/forks

After every step of the pool's samples of some tasks the environment is forked, and the actor plays on in each fork. The
mean outcome is an estimate of Q that knows the whole state, which no PRM reads: its AUC says how well the outcomes of
the samples can be ranked at all. The squared error of promises is taken against it, the noise of the mean taken off.

Ends with a table; results.json and results.md lie in OUTPUT beside forks.jsonl, to which outcomes are written as
episodes end: run the same command again and an interrupted one goes on with what is missing.
"""

from __future__ import annotations

import datetime
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from collect import find_actor
from evaluate import EvaluateConfig, read_measurements

from agentprm_jax.commands.answer import run_command
from agentprm_jax.commands.ranges import check, check_counts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentprm_jax.reporting.findings import Findings
    from agentprm_jax.reporting.pool import Pool
    from agentprm_jax.search import Forked, Prefix

FORKS = "forks.jsonl"


@dataclass(frozen=True)
class ForkValuesConfig:
    """Settings of one comparison."""

    evaluation: Path
    """Folder of a finished evaluation (evaluate.py, or that of a quickstart); the paths in its config are followed."""
    output: Path
    """Folder of the comparison; continued if it holds the same one, refused if it holds another."""
    count: int = 100
    """Tasks of the evaluation that are forked, spread evenly over all of them; all if there are fewer."""
    forks: int = 16
    """Episodes after each step, at least 2."""
    seed: int = 0
    """Of the sampling in forks."""

    def __post_init__(self) -> None:
        """Raises ValueError for a number out of range."""
        check_counts(self, "count")
        check(self, "forks", self.forks >= 2, "a whole number of at least 2")
        check(self, "seed", self.seed >= 0, "a whole number of at least 0")


def main(config: ForkValuesConfig) -> None:
    """Plays the forks that OUTPUT does not hold yet, then reports."""
    from agentprm_jax.reporting.findings import Findings
    from agentprm_jax.reporting.stage import StageFolder

    evaluated = read_config(config.evaluation)
    findings = Findings(read_measurements(evaluated))
    pool = some_tasks(findings.measured.pool, config.count)
    with StageFolder(config.output, "fork values", config, ignore=("output",)).held():
        report(config, findings, pool, play(config, evaluated, pool))


def read_config(folder: Path) -> EvaluateConfig:
    """The settings of an evaluation.

    Raises:
        FileNotFoundError: there is no evaluation in the folder.
        ValueError: its config is not one of this version.
    """
    import msgspec

    from agentprm_jax.reporting.stage import CONFIG_FILE

    path = folder / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(f"There is no evaluation in {folder}: expected a folder that evaluate.py filled.")
    try:
        settings = msgspec.json.decode(path.read_bytes()) | {"output": str(folder)}
        return msgspec.convert(settings, EvaluateConfig, dec_hook=lambda wanted, value: wanted(value))
    except (msgspec.DecodeError, TypeError) as error:
        raise ValueError(f"Cannot read {path} as the settings of an evaluation: {error}.") from error


def some_tasks(pool: Pool, count: int) -> Pool:
    """So many tasks of a pool, spread evenly over it."""
    import numpy as np

    from agentprm_jax.reporting.pool import Pool

    places = np.unique(np.linspace(0, len(pool.tasks) - 1, min(count, len(pool.tasks))).astype(int)).tolist()
    return Pool(tuple(pool.tasks[k] for k in places), tuple(pool.trajectories[k] for k in places))


def play(config: ForkValuesConfig, evaluated: EvaluateConfig, pool: Pool) -> list[Forked]:
    """Outcomes after every step of the pool, those that OUTPUT holds included."""
    from agentprm_jax.data.trajectory import TrajectoryWriter
    from agentprm_jax.reporting.fork_table import prefixes_of
    from agentprm_jax.reporting.progress import progress

    path = config.output / FORKS
    with TrajectoryWriter(path) as writer:  # cuts off what a kill has left of a last line
        known = [read_line(line) for line in path.read_bytes().splitlines()]
        done, wanted = {one.prefix for one in known}, prefixes_of(pool)
        missing = [prefix for prefix in wanted if prefix not in done]
        if missing:
            found = play_missing(config, evaluated, pool, missing)
            for one in progress(found, "forks", total=len(wanted), done=len(known)):
                writer.extend_lines([write_line(one)])
                known.append(one)
    return known


def play_missing(
    config: ForkValuesConfig, evaluated: EvaluateConfig, pool: Pool, missing: list[Prefix]
) -> Iterator[Forked]:
    """Forks that the actor plays on, as the samples of the pool were played."""
    from agentprm_jax.envs import make_env
    from agentprm_jax.search import play_forks

    played = pool.trajectories[0][0].actor
    return play_forks(
        missing,
        make_environment=lambda: make_env(evaluated.environment.name, **evaluated.environment.options),
        actor=find_actor(evaluated.actor, evaluated.sampler, evaluated.remote),
        forks=config.forks,
        temperature=1.0 if played is None or played.temperature is None else played.temperature,
        seed=config.seed,
        max_tokens=evaluated.max_tokens,
    )


def write_line(one: Forked) -> bytes:
    """A line of `FORKS`."""
    import msgspec

    return msgspec.json.encode(one.prefix._asdict() | {"outcomes": one.outcomes}) + b"\n"


def read_line(line: bytes) -> Forked:
    """What `write_line` wrote."""
    import msgspec

    from agentprm_jax.search import Forked, Prefix

    record = msgspec.json.decode(line)
    return Forked(Prefix(record["task"], tuple(record["actions"])), tuple(record["outcomes"]))


def report(config: ForkValuesConfig, findings: Findings, pool: Pool, forked: list[Forked]) -> None:
    """Writes results.json and results.md, and prints the table."""
    from rich.console import Console

    from agentprm_jax.reporting.fork_table import fork_table, values_of_forks
    from agentprm_jax.reporting.provenance import describe_machine, git_commit, package_versions
    from agentprm_jax.reporting.results import Results, write_results
    from agentprm_jax.reporting.stage import plain_config
    from agentprm_jax.reporting.tables import markdown_results, print_results

    everything = findings.measured.pool
    kept = [k for k, trajectory in enumerate(everything.flat) if trajectory.task in pool.tasks]
    rows = {method: [one.promise_rows for one in findings.groups[method]] for method in findings.scorers}
    promises = {method: [[row[k] for k in kept] for row in seeds] for method, seeds in rows.items()}
    results = Results(
        title="Promises beside Monte-Carlo estimates of Q",
        created=datetime.datetime.now(datetime.UTC),
        command="uv run " + shlex.join(sys.argv),
        machine=describe_machine(),
        git_commit=git_commit(Path(__file__).parent),
        versions=package_versions(),
        config=plain_config(config),
        tables=(fork_table(pool, promises, values_of_forks(pool, forked)),),
    )
    write_results(config.output / "results.json", results)
    (config.output / "results.md").write_text(markdown_results(results), encoding="utf-8")
    print_results(results, Console() if sys.stdout.isatty() else Console(width=200))


if __name__ == "__main__":
    run_command(main, tyro.cli(ForkValuesConfig, description=__doc__))
