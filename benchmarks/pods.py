"""Whether the goals for pods are met by programs compiled for them: the paper's 7B model on slices of TPU v5e and v5p.

Command:

    uv run --group tpu benchmarks/pods.py

Compiles the training step for the meshes of `experiments/plan.py --table` that the goals are about, ahead of time and
without a TPU; what is known of a compiled program is kept in runs/plans. Figures are those of the compiler and of a
roofline, not measurements, so they are the same on any machine. Without libtpu the goals say so. Prints the goals, and
writes goals.json into runs/benchmarks/pods.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from goals import RUNS, Goal, Side, goals_table, write_goals

from agentprm_jax.reporting.plans import GIB, cost_ratios

if TYPE_CHECKING:
    from agentprm_jax.training.planning.plan import Plan

NAME = "pods"
EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"
NO_LIBTPU = "libtpu is not installed (dependency group `tpu`, Python 3.12 or newer)"
"""Why nothing was compiled."""


SMALL, UNIT, LARGE = ("v5e", 32), ("v5p", 32), ("v5p", 1024)
SLICES = (SMALL, UNIT, LARGE)
"""Kind and number of the chips that goals are about."""


@dataclass(frozen=True)
class PodsConfig:
    """Settings of the measurement."""

    cache: Path = Path("runs/plans")
    """Folder that keeps what was learnt of compiled programs."""
    output: Path = RUNS / NAME
    """Folder of goals.json."""


def main(config: PodsConfig) -> None:
    """Compiles, prints and writes."""
    found = goals(plans(config.cache)) if importlib.util.find_spec("libtpu") else goals(None)
    write_goals(config.output, found)
    print(goals_table(found))


def plans(cache: Path) -> dict[tuple[str, int], Plan]:
    """The best plan of each slice that a goal is about, by kind and number of chips."""
    sys.path.append(str(EXPERIMENTS))
    from plan import GOAL_MODEL, compare, table_configs

    from agentprm_jax.reporting.progress import progress
    from agentprm_jax.training.planning.plan import best_first

    configs = [one for one in table_configs(GOAL_MODEL, cache) if (one.chip, one.chips) in SLICES]
    compiled = [compare(one)[0] for one in progress(configs, "programs", total=len(configs))]
    return {place: best_first([p for p in compiled if (p.chip.name, p.chips) == place])[0] for place in SLICES}


def goals(best: Mapping[tuple[str, int], Plan] | None) -> list[Goal]:
    """Memory and utilisation on the small slice, and what a token costs on the large one."""
    return [
        _goal("7B training on 32 chips of v5e, memory on a chip", "at most", 16.0, " GiB", best, _memory),
        _goal("the same, bound on utilisation", "more than", 50.0, " %", best, _utilisation),
        _goal("7B training, cost of a token on 1,024 chips of v5p against 32", "at most", 1.1, " times", best, _cost),
        _goal("the same if no exchange is hidden", "at most", 1.1, " times", best, _unhidden_cost),
    ]


def _goal(
    name: str,
    side: Side,
    limit: float,
    unit: str,
    best: Mapping[tuple[str, int], Plan] | None,
    figure: Callable[[Mapping[tuple[str, int], Plan]], float],
) -> Goal:
    if best is None:
        return Goal(NAME, name, side, limit, unit, note=NO_LIBTPU)
    return Goal(NAME, name, side, limit, unit, figure(best))


def _memory(best: Mapping[tuple[str, int], Plan]) -> float:
    return best[SMALL].memory.total / GIB


def _utilisation(best: Mapping[tuple[str, int], Plan]) -> float:
    return 100 * best[SMALL].utilisation


def _cost(best: Mapping[tuple[str, int], Plan]) -> float:
    return cost_ratios(best[LARGE], best[UNIT])[0]


def _unhidden_cost(best: Mapping[tuple[str, int], Plan]) -> float:
    return cost_ratios(best[LARGE], best[UNIT])[1]


if __name__ == "__main__":
    main(tyro.cli(PodsConfig, description=__doc__))
