"""Real tokens a second of training a reward model and of scoring with it, beside torch and transformers.

Command:

    uv run --group torch benchmarks/training.py
    uv run --group torch benchmarks/training.py --workloads quickstart

The first takes more than an hour, nearly all of it for the larger workload, the second ten minutes.

Both sides get the same trajectories, in the same words, and the same weights; before anything is timed, their scores
in float32 must agree. Tokens of padding are not counted. Ours packs trajectories into rows and reads all steps in one
forward pass, in bfloat16 over weights in float32; theirs is `Qwen2ForTokenClassification` with scaled dot-product
attention on padded batches, as TRL trains process reward models. Theirs is tried in float32 and bfloat16 and in several
batches, and the quickest is measured against ours. Sorting by length, which neither TRL nor its trainer does unless
asked, is measured beside it and has no goal.

What differs: ours minimises the loss of AgentPRM (promise and progress), theirs the squared error to the outcome, which
is less work; an update has the same number of trajectories on both sides, in ours only on average. Neither recomputes
activations that it could keep, beyond the norms and gates that ours always computes again.

Figures are fair only on an idle machine: threads of torch wait for each other by spinning, and lose much where other
programs want the same cores. On a busy one give both sides one core (`taskset -c 0`).

Without torch only our own speed is measured. Prints the tables, and writes report.md and goals.json into
runs/benchmarks/training.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tyro
from goals import Goal, goals_table, write_goals
from measuring import spend, take_turns
from training_report import OURS, Comparison, Parts, comparison_table, describe, goal_of, introduction, parts_table
from workloads import WORKLOADS, Workload, make_workload

from agentprm_jax.reporting.progress import progress

if TYPE_CHECKING:
    from throughput_ours import Training

    from agentprm_jax.data import Trajectory

AGREEMENT = 1e-3
"""Largest difference between scores of both sides in float32 that counts as the same model."""
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class TrainingBenchmarkConfig:
    """Settings of the measurement."""

    workloads: tuple[str, ...] = tuple(WORKLOADS)
    """Which of the trajectories and models."""
    turns: int = 12
    """How often each side is measured."""
    seconds: float = 60.0
    """Of one comparison, after which no further turn begins."""
    output: Path = Path("runs/benchmarks/training")
    """Folder of report.md and goals.json."""


Score = Callable[[Sequence["Trajectory"]], list[np.ndarray]]


class Way(NamedTuple):
    """One way to do the work.

    Attributes:
        run: does all of it.
        sorted: whether trajectories of similar length share a batch.
        padding: share of the tokens that is padding; None where it is not known.
    """

    run: Callable[[], object]
    sorted: bool = False
    padding: float | None = None


def main(config: TrainingBenchmarkConfig) -> None:
    """Measures and prints."""
    torch = importlib.util.find_spec("torch") is not None
    sections, goals = [describe()], []
    for name in config.workloads:
        with tempfile.TemporaryDirectory(prefix="agentprm-throughput-") as folder:
            section, found = measure(config, make_workload(name, Path(folder)), torch)
        sections.append(section)
        goals += found
    sections.append(f"### Goals\n\n{goals_table(goals)}")
    write_goals(config.output, goals)
    report = "\n\n".join(sections) + "\n"
    (config.output / "report.md").write_text(report, encoding="utf-8")
    print(report)


def measure(config: TrainingBenchmarkConfig, workload: Workload, torch: bool) -> tuple[str, list[Goal]]:
    """Everything about one workload: its section of the report and its goals."""
    from compiling import counting_programs
    from throughput_ours import Scoring, Training

    if torch:
        check_agreement(workload)
    with counting_programs() as for_training:
        training = Training(workload)
        training.epoch()
    score = Scoring(workload, "bfloat16").score
    with counting_programs() as for_scoring:
        score(workload.trajectories)
        score(workload.long)
    every, long = (workload.real_tokens(part) for part in (workload.trajectories, workload.long))
    ways = {
        "training": (every, training_ways(workload, training, torch)),
        "scoring": (every, scoring_ways(workload, score, torch)),
        "prefixes": (long, prefix_ways(workload, score, torch)),
    }
    comparisons = [
        compare(config, kind, *ways[kind]) for kind in progress(ways, f"{workload.name}, comparisons", total=len(ways))
    ]
    texts = [
        introduction(workload, training.rows, for_training, for_scoring),
        *map(comparison_table, comparisons),
        parts_table(measure_parts(config, workload, training, torch)),
    ]
    return "\n\n".join(texts), [goal_of(workload, one) for one in comparisons]


def compare(config: TrainingBenchmarkConfig, kind: str, tokens: int, ways: Mapping[str, Way]) -> Comparison:
    """Ours against the quickest of theirs, and against the quickest that sorts by length."""
    screened = {name: min(spend(way.run)[0].clock for _ in range(2)) for name, way in ways.items() if name != OURS}
    groups = [[name for name in screened if ways[name].sorted == by_length] for by_length in (False, True)]
    names = [min(group, key=screened.__getitem__) for group in groups if group]
    timings = take_turns({name: ways[name].run for name in (OURS, *names)}, config.turns, config.seconds)
    left = {name: seconds for name, seconds in screened.items() if name not in names}
    padding = {name: way.padding for name, way in ways.items() if way.padding is not None}
    return Comparison(kind, tokens, timings, left, padding)


def training_ways(workload: Workload, training: Training, torch: bool) -> dict[str, Way]:
    """An epoch."""
    ways = {OURS: Way(training.epoch, padding=training.rows.padding)}
    for name, one in their_trainings(workload).items() if torch else ():
        ways[name] = Way(one.epoch, "sorted" in name, one.padding)
    return ways


def their_trainings(workload: Workload) -> dict[str, Any]:
    """Theirs in both types, in the trainer's batches and in those of a whole update, and sorted."""
    from throughput_torch import PER_DEVICE
    from throughput_torch import Training as Theirs

    found = {}
    for dtype in DTYPES:
        for size in sorted({PER_DEVICE, workload.config.together}):
            found[f"{dtype}, batches of {size}"] = Theirs(workload, dtype, size, by_length=False)
        found[f"{dtype}, batches of {PER_DEVICE}, sorted"] = Theirs(workload, dtype, PER_DEVICE, by_length=True)
    return found


def scoring_ways(workload: Workload, score: Score, torch: bool) -> dict[str, Way]:
    """All steps of all trajectories."""
    ways = {OURS: Way(partial(score, workload.trajectories))}
    for dtype, theirs in their_scorings(workload).items() if torch else ():
        for by_length in (False, True):
            name = f"{dtype}, batches of {theirs.per_device}" + (", sorted" if by_length else "")
            ways[name] = Way(partial(theirs.score, workload.trajectories, by_length=by_length), by_length)
    return ways


def prefix_ways(workload: Workload, score: Score, torch: bool) -> dict[str, Way]:
    """All steps of the long trajectories; theirs reads every prefix, one at a time and in sorted batches."""
    ways = {OURS: Way(partial(score, workload.long))}
    for dtype, theirs in their_scorings(workload).items() if torch else ():
        for size in (1, theirs.per_device):
            ways[f"{dtype}, prefixes by {size}"] = Way(partial(theirs.score_prefixes, workload.long, size))
    return ways


def their_scorings(workload: Workload) -> dict[str, Any]:
    """Theirs in both types."""
    from throughput_torch import Scoring as Theirs

    return {dtype: Theirs(workload, dtype) for dtype in DTYPES}


def measure_parts(config: TrainingBenchmarkConfig, workload: Workload, training: Training, torch: bool) -> Parts:
    """The forward pass, with the backward pass, and the whole update, of both sides."""
    sides = {OURS: training}
    if torch:
        from throughput_torch import PER_DEVICE
        from throughput_torch import Training as Theirs

        sides |= {f"{dtype}, batches of {PER_DEVICE}": Theirs(workload, dtype, PER_DEVICE, False) for dtype in DTYPES}
    return {
        name: take_turns({**sides[name].parts(), "update": sides[name].epoch}, config.turns, config.seconds / 4)
        for name in progress(sides, f"{workload.name}, parts", total=len(sides))
    }


def check_agreement(workload: Workload) -> None:
    """Refuses to compare what is not the same model.

    Raises:
        ValueError: scores in float32 differ.
    """
    from throughput_ours import Scoring
    from throughput_torch import Scoring as Theirs

    theirs = Theirs(workload, "float32")
    ours = np.concatenate(Scoring(workload, "float32").score(workload.long))
    for values in (theirs.score(workload.long), theirs.score_prefixes(workload.long, theirs.per_device)):
        difference = float(np.max(np.abs(np.concatenate(values) - ours)))
        if not difference <= AGREEMENT:
            raise ValueError(f"Both sides must give the same scores in float32, but they differ by {difference:.3g}.")


if __name__ == "__main__":
    main(tyro.cli(TrainingBenchmarkConfig, description=__doc__))
