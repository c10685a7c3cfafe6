"""How long the default quickstart takes from nothing, and where its minutes go.

Command:

    uv run benchmarks/quickstart_time.py

Runs `experiments/quickstart.py` into a new folder and prints the minutes of every stage, each on one core, of which two
run at once. The goal is half of the time that the same settings took on two cores before they were profiled; what was
done since stands in `docs/quickstart.md`. Writes report.md, goals.json and what the run has found
into runs/benchmarks/quickstart_time.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import tyro
from goals import RUNS, Goal, goals_table, grid, write_goals

from agentprm_jax.reporting.results import Results, Stage

NAME = "quickstart_time"
SCRIPT = Path(__file__).resolve().parent.parent / "experiments" / "quickstart.py"
BEFORE, BEFORE_MINUTES = "29cb526", 14.2
"""The commit before the quickstart was profiled, and what the default preset took there on two cores."""


@dataclass(frozen=True)
class QuickstartBenchmarkConfig:
    """Settings of the measurement."""

    preset: str = "default"
    """Which preset runs; the goal is about the default."""
    output: Path = RUNS / NAME
    """Folder of report.md, goals.json and the run's evaluation."""


def main(config: QuickstartBenchmarkConfig) -> None:
    """Runs, prints and writes."""
    with tempfile.TemporaryDirectory(prefix="agentprm-quickstart-") as folder:
        start = time.perf_counter()
        run = Path(folder) / "run"
        subprocess.run([sys.executable, str(SCRIPT), "--preset", config.preset, "--output", str(run)], check=True)
        minutes = (time.perf_counter() - start) / 60
        results = msgspec.json.decode((run / "evaluation" / "results.json").read_bytes(), type=Results)
        shutil.copytree(run / "evaluation", config.output / "evaluation", dirs_exist_ok=True)
    found = goals(config.preset, minutes)
    report = f"{stages_table(results.stages, minutes)}\n\n{goals_table(found)}\n"
    write_goals(config.output, found)
    (config.output / "report.md").write_text(report, encoding="utf-8")
    print(report)


def goals(preset: str, minutes: float) -> list[Goal]:
    """Half of the time that it took before."""
    if preset != "default":
        return []
    note = f"Half of the {BEFORE_MINUTES:g} minutes of commit {BEFORE}, which were not measured in this run."
    return [
        Goal(NAME, "the default preset from nothing", "at most", BEFORE_MINUTES / 2, " minutes", minutes, note=note)
    ]


def stages_table(stages: Sequence[Stage], minutes: float) -> str:
    """Minutes of every stage on one core, and of the whole on the clock."""
    total = sum(stage.minutes for stage in stages)
    rows = [(stage.name, f"{stage.minutes:.2f}", f"{stage.minutes / total:.0%}") for stage in stages]
    rows += [("all stages, a core each", f"{total:.2f}", "100%"), ("on the clock", f"{minutes:.2f}", "")]
    return grid(("stage", "minutes", "share"), rows)


if __name__ == "__main__":
    main(tyro.cli(QuickstartBenchmarkConfig, description=__doc__))
