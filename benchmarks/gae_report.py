"""The figures of the GAE benchmark as text, as a picture, and held against the goals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from gae_implementations import ADD, OURS
from gae_tpu import MISSING, Compiled
from measuring import Ratio, Timing, paired_ratio

from agentprm_jax.reporting.canvas import new_figure, plot_style
from agentprm_jax.reporting.formatting import MISSING as MISSING_NUMBER
from agentprm_jax.reporting.methods import FAILURE, MUTED, SUCCESS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_OF_ADD = 2.0
"""Times that adding two arrays may take, at most."""
FASTER_THAN: Mapping[str, float] = {
    "rlax": 2.0,
    "TRL": 10.0,
    "OpenRLHF": 10.0,
    "verl": 10.0,
    "torchrl": 1.0,
    "numba": 1.0,
    "numba, all cores": 1.0,
}
"""Times as long as ours that every other implementation should take, at least."""
Verdict = Literal["pass", "**miss**", "undecided"]
HEADER = ("", "time", "quickest", "bandwidth", "first call", "of adding", "of ours")


class Measured(NamedTuple):
    """The timings by implementation of one group, shape and dtype."""

    group: str
    shape: tuple[int, int]
    dtype: str
    timings: Mapping[str, Timing]

    @property
    def title(self) -> str:
        """`[4096, 32] float32`, which is what a goal is about."""
        return f"[{self.shape[0]}, {self.shape[1]}] {self.dtype}"


class Goal(NamedTuple):
    """A goal in words, and the ratio that decides it."""

    name: str
    verdict: Verdict
    ratio: Ratio


def goals(measured: Measured) -> list[Goal]:
    """Which goals are met; those of implementations that are not there are left out."""
    timings = measured.timings
    if OURS not in timings:
        return []
    found = []
    if ADD in timings:
        ratio = paired_ratio(timings[OURS], timings[ADD])
        name = f"{measured.title}: at most {MOST_OF_ADD:g} times adding two arrays"
        found.append(Goal(name, _verdict(ratio.high <= MOST_OF_ADD, ratio.low > MOST_OF_ADD), ratio))
    for other, least in FASTER_THAN.items():
        if other in timings:
            ratio = paired_ratio(timings[other], timings[OURS])
            name = f"{measured.title}: {f'at least {least:g} times as fast as' if least > 1 else 'faster than'} {other}"
            found.append(Goal(name, _verdict(ratio.low >= least, ratio.high < least), ratio))
    return found


def _verdict(met: bool, missed: bool) -> Verdict:
    """Undecided where the interval of the ratio lies on both sides of the bound."""
    return "pass" if met else "**miss**" if missed else "undecided"


def markdown(results: Sequence[Measured], tpu: Sequence[Compiled] | None, missing: Iterable[str]) -> str:
    """The whole report."""
    parts = [f"### {measured.title}, {measured.group}\n\n{_grid(HEADER, _rows(measured))}" for measured in results]
    found = [goal for measured in results for goal in goals(measured)]
    lines = [(goal.verdict, goal.name, show_ratio(goal.ratio)) for goal in found]
    parts.append(f"### Goals\n\n{_grid(('', 'goal', 'ratio'), lines)}")
    parts += [f"Not measured: {sentence}" for sentence in missing]
    parts.append(f"### Compiled for a TPU v5p chip\n\n{_tpu_table(tpu) if tpu is not None else MISSING}")
    return "\n\n".join(parts) + "\n"


def show_ratio(ratio: Ratio) -> str:
    """`6.12 [5.80, 6.40]`: the median and its interval."""
    return f"{ratio.value:.3g} [{ratio.low:.3g}, {ratio.high:.3g}]"


def times_figure(results: Sequence[Measured]) -> Figure:
    """Bars of the median time of every implementation, one panel a shape and dtype, on a logarithmic axis."""
    with plot_style():
        figure = new_figure(7.2, 0.9 + sum(0.5 + 0.24 * len(measured.timings) for measured in results))
        panels = figure.subplots(
            len(results), 1, squeeze=False, height_ratios=[len(measured.timings) + 2 for measured in results]
        )
        for axes, measured in zip(panels[:, 0], results, strict=True):
            names = list(measured.timings)[::-1]
            times = [1e3 * measured.timings[name].median for name in names]
            colours = [{OURS: SUCCESS, ADD: FAILURE}.get(name, MUTED) for name in names]
            axes.barh(names, times, color=colours, height=0.7)
            axes.set_xscale("log")
            axes.set_xlim(min(times) / 2, max(times) * 4)
            for height, seconds in enumerate(times):
                axes.text(seconds * 1.08, height, f"{seconds:.3g} ms", va="center", fontsize=8)
            axes.set_title(f"{measured.title}, {measured.group}")
            axes.grid(False)
            axes.set_xticks([])
            axes.minorticks_off()
    return figure


def _rows(measured: Measured) -> list[tuple[str, ...]]:
    timings = measured.timings
    return [
        (
            name,
            f"{1e3 * timing.median:.3g} ms",
            f"{1e3 * timing.quickest:.3g} ms",
            f"{_bytes_moved(name, measured) / timing.median / 1e9:.3g} GB/s",
            f"{1e3 * timing.first:.3g} ms",
            *(
                show_ratio(paired_ratio(timing, timings[reference])) if reference in timings else MISSING_NUMBER
                for reference in (ADD, OURS)
            ),
        )
        for name, timing in timings.items()
    ]


def _bytes_moved(name: str, measured: Measured) -> int:
    """What must be read and written at least: two arrays in and one out, or three in and one out."""
    size = 2 if measured.dtype == "bfloat16" else 4
    elements = int(np.prod(measured.shape))
    return elements * 3 * size if name == ADD else elements * (3 * size + 4)


def _tpu_table(compiled: Sequence[Compiled]) -> str:
    header = ("", "sequential steps", "flops", "bytes accessed", "bytes that must move", "temporaries")
    return _grid(
        header,
        [
            (
                f"[{one.shape[0]}, {one.shape[1]}]",
                f"{one.steps:,}",
                f"{one.flops / 1e6:.3g} M",
                f"{one.bytes_accessed / 1e6:.3g} MB",
                f"{one.least_bytes / 1e6:.3g} MB",
                f"{one.temporaries / 1e6:.3g} MB",
            )
            for one in compiled
        ],
    )


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *rows))
