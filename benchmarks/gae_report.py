"""The figures of the GAE benchmark as text, as a picture, and held against the goals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from gae_implementations import ADD, GROUPS, OURS, OURS_BY_STEP, OWN
from gae_tpu import Compiled
from goals import Goal, Side, goals_table, grid, ratio_goal, show_ratio
from measuring import Timing, paired_ratio

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
    "verl, tokens": 10.0,
    "torchrl": 1.0,
    "numba": 1.0,
    "numba, all cores": 1.0,
}
"""Times as long as ours that every other implementation should take, at least."""
DISCOUNTS_AS_ARRAY = (OURS_BY_STEP, "rlax", "numba", "numba, all cores")
NAME = "gae"
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


def goals(measured: Measured, missing: Mapping[str, str]) -> list[Goal]:
    """Which goals are met.

    Args:
        measured: the timings; goals of implementations that are neither there nor missing were not asked for.
        missing: implementations that could not be measured, and why.
    """
    found = []
    members = [name for name in GROUPS[measured.group] if name in OWN]
    for ours in [name for name in members if name in measured.timings] or members[:1]:
        found += _goals_of(ours, measured, missing)
    return found


def markdown(results: Sequence[Measured], found: Iterable[Goal], tpu: Sequence[Compiled] | str) -> str:
    """The whole report; `tpu` may be the reason why nothing was compiled."""
    parts = [f"### {measured.title}, {measured.group}\n\n{grid(HEADER, _rows(measured))}" for measured in results]
    parts.append(f"### Goals\n\n{goals_table(found)}")
    parts.append(f"### Compiled for a TPU v5p chip\n\n{tpu if isinstance(tpu, str) else _tpu_table(tpu)}")
    return "\n\n".join(parts) + "\n"


def times_figure(results: Sequence[Measured]) -> Figure:
    """Bars of the median time of every implementation, one panel a shape and dtype, on a logarithmic axis.

    Beside each bar stand its time, the bandwidth that it comes to, how many times as long as ours it takes, and the
    time of the first call, compilation included.
    """
    with plot_style():
        figure = new_figure(8.4, 0.9 + sum(0.5 + 0.24 * len(measured.timings) for measured in results))
        panels = figure.subplots(
            len(results), 1, squeeze=False, height_ratios=[len(measured.timings) + 2 for measured in results]
        )
        for axes, measured in zip(panels[:, 0], results, strict=True):
            names = list(measured.timings)[::-1]
            times = [1e3 * measured.timings[name].median for name in names]
            colours = [{**dict.fromkeys(OWN, SUCCESS), ADD: FAILURE}.get(name, MUTED) for name in names]
            axes.barh(names, times, color=colours, height=0.7)
            axes.set_xscale("log")
            axes.set_xlim(min(times) / 2, max(times) * 20000)  # room for what stands beside the longest bar
            for height, (name, time) in enumerate(zip(names, times, strict=True)):
                axes.text(time * 1.08, height, _label(name, measured), va="center", fontsize=8)
            axes.set_title(f"{measured.title}, {measured.group}")
            axes.grid(False)
            axes.set_xticks([])
            axes.minorticks_off()
    return figure


def _label(name: str, measured: Measured) -> str:
    seconds = measured.timings[name].median
    bandwidth = _bytes_moved(name, measured) / seconds / 1e9
    ours = _reference(measured)
    beside = ""
    if ours is not None and name != ours:
        beside = f", {paired_ratio(measured.timings[name], measured.timings[ours]).value:.3g} times ours"
    first = 1e3 * measured.timings[name].first
    return f"{1e3 * seconds:.3g} ms, {bandwidth:.3g} GB/s{beside}; first call {first:,.0f} ms"


def _reference(measured: Measured) -> str | None:
    """Which of ours the others are held against."""
    return next((name for name in OWN if name in measured.timings), None)


def _goals_of(ours: str, measured: Measured, missing: Mapping[str, str]) -> list[Goal]:
    timings, members = measured.timings, GROUPS[measured.group]
    title = measured.title + ours.removeprefix(OURS)
    found = []
    if ADD in timings and ours in timings:
        ratio = paired_ratio(timings[ours], timings[ADD])
        found.append(ratio_goal(NAME, f"{title}, of adding two arrays", "at most", MOST_OF_ADD, ratio))
    for other, least in FASTER_THAN.items():
        side: Side = "at least" if least > 1 else "more than"
        words = f"{title}, as fast as {other}"
        if other in timings and ours in timings:
            found.append(ratio_goal(NAME, words, side, least, paired_ratio(timings[other], timings[ours])))
        elif other in missing and other in members and measured.dtype == "float32":
            found.append(ratio_goal(NAME, words, side, least, missing[other]))
    return found


def _rows(measured: Measured) -> list[tuple[str, ...]]:
    references = (ADD, _reference(measured))
    return [
        (
            name,
            f"{1e3 * timing.median:.3g} ms",
            f"{1e3 * timing.quickest:.3g} ms",
            f"{_bytes_moved(name, measured) / timing.median / 1e9:.3g} GB/s",
            f"{1e3 * timing.first:.3g} ms",
            *(_of(timing, measured.timings.get(reference or "")) for reference in references),
        )
        for name, timing in measured.timings.items()
    ]


def _of(timing: Timing, reference: Timing | None) -> str:
    return MISSING_NUMBER if reference is None else show_ratio(paired_ratio(timing, reference))


def _bytes_moved(name: str, measured: Measured) -> int:
    """What must be read and written at least: rewards, values, discounts unless there is only one, and advantages."""
    size = 2 if measured.dtype == "bfloat16" else 4
    elements = int(np.prod(measured.shape))
    read = 3 if name in DISCOUNTS_AS_ARRAY else 2
    return elements * (read * size + (size if name == ADD else 4))


def _tpu_table(compiled: Sequence[Compiled]) -> str:
    header = ("", "form", "sequential steps", "flops", "bytes accessed", "bytes that must move", "temporaries")
    return grid(
        header,
        [
            (
                f"[{one.shape[0]}, {one.shape[1]}]",
                one.form,
                f"{one.steps:,}",
                f"{one.flops / 1e6:.3g} M",
                f"{one.bytes_accessed / 1e6:.3g} MB",
                f"{one.least_bytes / 1e6:.3g} MB",
                f"{one.temporaries / 1e6:.3g} MB",
            )
            for one in compiled
        ],
    )
