"""What every benchmark hands to the others: goals with what was measured, as a table and as a file.

A benchmark ends with `write_goals(FOLDER, goals)`, where FOLDER is runs/benchmarks/NAME unless the user says otherwise;
`benchmarks/all.py` runs it as a process of its own and reads them there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from measuring import Ratio

from agentprm_jax.reporting.formatting import MISSING

RUNS = Path("runs/benchmarks")
"""Folder of the folders that benchmarks write into, by default."""
FILE = "goals.json"
Verdict = Literal["pass", "**miss**", "**miss** (undecided)", "not measured"]
Side = Literal["at least", "at most", "more than"]
HEADER = ("", "benchmark", "goal", "measured")


class Goal(msgspec.Struct, frozen=True):
    """A number that should lie on one side of a limit, and what was measured."""

    benchmark: str
    """Name of the benchmark."""
    name: str
    """What is measured, in words that go before `at least 3 times`."""
    side: Side = "at least"
    """On which side of the limit it should lie."""
    limit: float | None = None
    """The limit; None where the benchmark failed before it could say so."""
    unit: str = " times"
    """What follows the number, with a space where there is one."""
    value: float | None = None
    """What was measured; None where nothing was."""
    low: float | None = None
    """Lower end of its 95 % interval; None where the number has none."""
    high: float | None = None
    """Upper end."""
    note: str = ""
    """Why nothing was measured, or what must be known about it; a sentence."""

    @property
    def verdict(self) -> Verdict:
        """Whether the whole interval lies on the right side; an undecided miss has an end there."""
        if self.value is None:
            return "not measured"
        ends = [self.value if end is None else end for end in (self.low, self.high)]
        met = [self._met(end) for end in ends]
        return "pass" if all(met) else "**miss** (undecided)" if any(met) else "**miss**"

    @property
    def words(self) -> str:
        """`training: at least 3 times`."""
        if self.limit is None:
            return self.name
        return f"{self.name}: {self.side} {self.limit:g}{self.unit}"

    @property
    def measured(self) -> str:
        """`3.21 [3.1, 3.3] times`, or why there is nothing."""
        if self.value is None:
            return self.note or MISSING
        interval = "" if self.low is None or self.high is None else f" [{self.low:.3g}, {self.high:.3g}]"
        return f"{self.value:.3g}{interval}{self.unit}" + (f". {self.note}" if self.note else "")

    def _met(self, number: float) -> bool:
        assert self.limit is not None, "What is measured has a limit."
        sides = {
            "at least": number >= self.limit,
            "at most": number <= self.limit,
            "more than": number > self.limit,
        }
        return sides[self.side]


def ratio_goal(benchmark: str, name: str, side: Side, limit: float, ratio: Ratio | str) -> Goal:
    """A goal that a ratio decides; or a sentence that says why there is none."""
    if isinstance(ratio, str):
        return Goal(benchmark, name, side, limit, note=ratio)
    return Goal(benchmark, name, side, limit, value=ratio.value, low=ratio.low, high=ratio.high)


def show_ratio(ratio: Ratio) -> str:
    """`6.12 [5.80, 6.40]`: the median and its interval."""
    return f"{ratio.value:.3g} [{ratio.low:.3g}, {ratio.high:.3g}]"


def grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; all columns but the first hold numbers."""
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *rows))


def goals_table(goals: Iterable[Goal]) -> str:
    """The goals in Markdown, one a line, each with its verdict."""
    lines = [(goal.verdict, goal.benchmark, goal.words, goal.measured) for goal in goals]
    return grid(HEADER, lines)


def write_goals(folder: Path, goals: Sequence[Goal]) -> None:
    """Writes the goals of a benchmark where `benchmarks/all.py` looks for them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(goals), indent=1) + b"\n")


def read_goals(folder: Path) -> list[Goal]:
    """Reads what `write_goals` wrote.

    Raises:
        FileNotFoundError: there are none.
        msgspec.ValidationError: the file holds something else.
    """
    return msgspec.json.decode((folder / FILE).read_bytes(), type=list[Goal])
