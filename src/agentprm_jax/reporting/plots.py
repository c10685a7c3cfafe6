"""The figures of a report; each function draws one and returns it, `canvas.save_figure` writes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from agentprm_jax.numerics.calibration import ReliabilityBin
from agentprm_jax.reporting.canvas import (
    BAND_ALPHA,
    EndLabel,
    label_ends,
    new_figure,
    plot_style,
    short_decimals,
)
from agentprm_jax.reporting.formatting import MINUS, format_count, format_difference, format_number
from agentprm_jax.reporting.methods import (
    FAILURE,
    INK,
    MUTED,
    SUCCESS,
    MethodStyle,
    method_label,
    method_styles,
)
from agentprm_jax.reporting.paths import PathGroup, promise_groups
from agentprm_jax.reporting.results import Comparison, Curve, Estimate, Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from agentprm_jax.data.trajectory import Trajectory


def best_of_n_curves(
    curves: Sequence[Curve],
    *,
    over: Literal["samples", "tokens"] = "samples",
    beams: Sequence[BeamPoint] = (),
) -> Figure:
    """Outcome of the chosen trajectory over the number of samples, one line per method, controls and bounds.

    Args:
        curves: methods and controls; a curve of a single size is drawn as a horizontal line.
        over: `samples`: N; `tokens`: mean tokens sampled per task (curves without them are left out).
        beams: beam searches to draw beside the curves over tokens, from `beam_points`.

    Returns:
        The figure; bands around methods, and bars at beam searches, are one standard error (tasks and seeds combined).

    Raises:
        ValueError: if no curve can be drawn.
    """
    drawn = [curve for curve in curves if over == "samples" or curve.tokens_sampled or len(curve.sizes) == 1]
    if not any(len(curve.sizes) > 1 for curve in drawn):
        raise ValueError(f"best_of_n_curves needs a curve with two sizes or more over {over}, got none.")
    styles = method_styles(curve.method for curve in drawn)
    with plot_style():
        figure = new_figure(6.6, 5.0 if beams else 4.1)
        axes = figure.subplots()
        _log2_axis(axes, drawn, over)
        for curve in sorted(drawn, key=lambda curve: curve.kind == "method"):
            _draw_curve(axes, curve, styles[curve.method], over)
        _draw_beams(figure, axes, beams)
        figures = [e for curve in drawn for e in curve.estimates] + [point.figure for point in beams]
        axes.set_ylim(*_padded_limits(figures))
        axes.set_ylabel("mean outcome of the chosen trajectory")
        short_decimals(axes, "y")
        label_ends(figure, axes, [_curve_label(curve, styles[curve.method]) for curve in drawn])
    return figure


class BeamPoint(NamedTuple):
    """A beam search in a plot over tokens.

    Attributes:
        method: whose scores it follows.
        size: such as `2x2`.
        tokens: mean tokens sampled per task.
        figure: outcome of the path that it chooses.
    """

    method: str
    size: str
    tokens: float
    figure: Estimate


def beam_points(table: Table, columns: Mapping[str, str]) -> list[BeamPoint]:
    """The beam searches of the methods in a table, where their cost is known.

    Args:
        table: with costs.
        columns: keys of the columns of beam search by size.
    """
    return [
        BeamPoint(row.method, size, row.costs[key].tokens_sampled, row.estimates[key])
        for row in table.rows
        if row.kind == "method"
        for size, key in columns.items()
        if key in row.costs
    ]


def beam_bars(table: Table, columns: Sequence[str] | None = None) -> Figure:
    """Bars of the methods with error bars, grouped by column; controls and bounds as lines across each group.

    Args:
        table: for instance beam search by size.
        columns: keys of the columns to draw, in order; default all.
    """
    keys = list(columns) if columns is not None else [column.key for column in table.columns]
    titles = {column.key: column.title for column in table.columns}
    methods = [row for row in table.rows if row.kind == "method" and any(key in row.estimates for key in keys)]
    others = [row for row in table.rows if row.kind != "method"]
    styles = method_styles(row.method for row in table.rows)
    width = 0.8 / max(len(methods), 1)
    with plot_style():
        figure = new_figure(6.6, 4.0)
        axes = figure.subplots()
        for index, row in enumerate(methods):
            places = [group - 0.4 + width * (index + 0.5) for group, key in enumerate(keys) if key in row.estimates]
            figures = [row.estimates[key] for key in keys if key in row.estimates]
            _draw_bars(axes, places, figures, 0.9 * width, styles[row.method])
        for row in others:
            _draw_levels(axes, row, keys, styles[row.method])
        axes.set_xticks(range(len(keys)), [titles[key] for key in keys])
        axes.set_xlim(-0.6, len(keys) - 0.4)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("mean outcome")
        axes.tick_params(axis="x", length=0)
        short_decimals(axes, "y")
        _legend_above(figure, [(styles[row.method], "bar") for row in methods])
        label_ends(figure, axes, _last_levels(others, keys, styles))
    return figure


def comparison_intervals(comparisons: Sequence[Comparison]) -> Figure:
    """Differences between methods with their intervals, one line each, against zero."""
    styles = method_styles(comparison.a for comparison in comparisons)
    with plot_style():
        figure = new_figure(7.2, 0.9 + 0.36 * len(comparisons))
        axes = figure.subplots()
        axes.grid(False)
        axes.axvline(0, color=MUTED, linewidth=1)
        for place, comparison in enumerate(reversed(comparisons)):
            difference, colour = comparison.difference, styles[comparison.a].colour
            filled = colour if difference.verdict != "undecided" else "none"
            axes.plot([difference.low, difference.high], [place, place], color=colour, solid_capstyle="butt")
            axes.plot(difference.value, place, marker="o", markersize=7, color=colour, markerfacecolor=filled)
            text = format_difference(difference)
            axes.text(1.02, place, text, transform=axes.get_yaxis_transform(), va="center", fontsize=9)
        names = [_difference_name(comparison) for comparison in reversed(comparisons)]
        axes.set_yticks(range(len(comparisons)), names, fontsize=9, linespacing=1.0)
        axes.set_ylim(-0.6, len(comparisons) - 0.4)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("difference in mean outcome\n(hollow: the interval contains zero)")
        short_decimals(axes, "x")
    return figure


def _difference_name(comparison: Comparison) -> str:
    """What is compared, on two lines if it is long."""
    first, second = f"{comparison.metric}: {method_label(comparison.a)}", f"{MINUS} {method_label(comparison.b)}"
    return f"{first} {second}" if len(first) + len(second) < 40 else f"{first}\n{second}"


def training_curves(
    runs: Mapping[str, Sequence[Mapping[str, object]]], metrics: Mapping[str, str], *, x: str = "step"
) -> Figure:
    """Metrics of training runs, a panel per metric and a line per run.

    Args:
        runs: rows of `metrics.jsonl` by method; rows without a metric, and values that are not finite, are gaps.
        metrics: titles of the panels by metric name.
        x: name of the quantity on the horizontal axis.

    Returns:
        The figure; runs of more than 60 rows show their running mean over the values themselves, drawn faintly.

    Raises:
        ValueError: if none of the metrics occurs in any run.
    """
    found = {
        name: title for name, title in metrics.items() if any(name in row for rows in runs.values() for row in rows)
    }
    if not found:
        names = sorted({name for rows in runs.values() for row in rows for name in row})
        raise ValueError(f"None of the metrics {list(metrics)} occurs in the runs, which have {names}.")
    styles = method_styles(runs)
    across = min(2, len(found))
    down = math.ceil(len(found) / across)
    with plot_style():
        figure = new_figure(6.6, 0.5 + 2.3 * down)
        panels = figure.subplots(down, across, squeeze=False).ravel()
        for axes, (name, title) in zip(panels, found.items(), strict=False):
            for method, rows in runs.items():
                _draw_run(axes, *_series(rows, x, name), styles[method])
            axes.set_title(title)
            axes.set_xlabel(x)
            short_decimals(axes, "y")
        for axes in panels[len(found) :]:
            axes.set_visible(False)
        _legend_above(figure, [(styles[method], "line") for method in runs])
    return figure


def promise_paths(trajectories: Sequence[Trajectory], prms: Sequence[str] | None = None, *, least: int = 5) -> Figure:
    """Mean promise by step for successful and failed trajectories, one panel per PRM.

    Args:
        trajectories: with `scores`.
        prms: names of PRMs; default all that scored any of the trajectories.
        least: steps reached by fewer trajectories of a group are left out.

    Returns:
        The figure; bands are one standard error over trajectories.

    Raises:
        ValueError: if no trajectory carries scores of these PRMs.
    """
    groups = promise_groups(trajectories, prms, least=least)
    with plot_style():
        across = min(2, len(groups))
        down = math.ceil(len(groups) / across)
        figure = new_figure(6.6, 0.7 + 2.3 * down)
        panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
        for axes, (prm, (successes, failures)) in zip(panels, groups.items(), strict=False):
            for group, colour, marker in ((successes, SUCCESS, "o"), (failures, FAILURE, "s")):
                _draw_path(axes, group, colour, marker)
            axes.set_title(method_label(prm))
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.set_ylim(-0.03, 1.03)
            short_decimals(axes, "y")
        for axes in panels[len(groups) :]:
            axes.set_visible(False)
        figure.supxlabel("step", fontsize=9.5)
        figure.supylabel("mean promise", fontsize=9.5)
        _legend_above(figure, [(style, "line") for style in _group_styles(list(groups.values()))])
    return figure


def calibration(reliability: Mapping[str, Sequence[ReliabilityBin]]) -> Figure:
    """Reliability diagram: observed outcome over predicted promise, with the number of steps in each bin below.

    Args:
        reliability: bins by PRM; empty bins are left out. No error bars: steps of one trajectory share its outcome.
    """
    styles = method_styles(reliability)
    with plot_style():
        figure = new_figure(6.6, 5.8)
        axes, counts = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [4, 1]})
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="dotted")
        axes.annotate("perfect", (0.9, 0.9), (-4, 8), textcoords="offset points", color=MUTED, fontsize=9, ha="right")
        for name, bins in reliability.items():
            line: dict[str, Any] = {"color": styles[name].colour, "marker": styles[name].marker}
            used = [(b.prediction, b.outcome, b.number) for b in bins if b.number]
            predicted, observed, numbers = np.array(used).reshape(-1, 3).T
            axes.plot(predicted, observed, **line)
            counts.plot(predicted, numbers, linewidth=1, **line)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="observed outcome")
        counts.set(xlabel="predicted promise", ylabel="steps", ylim=(0, None))
        counts.yaxis.set_major_formatter(lambda value, _: format_count(value))
        short_decimals(axes, "y")
        short_decimals(counts, "x")
        _legend_above(figure, [(style, "line") for style in styles.values()])
    return figure


def _log2_axis(axes: Axes, curves: Sequence[Curve], over: str) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    rising = [curve for curve in curves if len(curve.sizes) > 1]
    places = sorted({place for curve in rising for place in _places(curve, over)})
    axes.set_xscale("log", base=2)
    axes.set_xlim(places[0] * 0.93, places[-1] * 1.04)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: format_count(value))
    axes.set_xlabel("tokens sampled per task" if over == "tokens" else "N, trajectories sampled per task")
    if over == "samples":
        axes.xaxis.set_major_locator(FixedLocator(places))


def _places(curve: Curve, over: str) -> tuple[float, ...]:
    """Where the curve's estimates stand on the horizontal axis."""
    return curve.sizes if over == "samples" else curve.tokens_sampled or ()


def _draw_curve(axes: Axes, curve: Curve, style: MethodStyle, over: str) -> None:
    values, errors = _values_and_errors(curve.estimates)
    line: dict[str, Any] = {"color": style.colour, "linestyle": style.dash}
    if len(curve.sizes) == 1:
        axes.axhline(values[0], linewidth=1.3, **line)
        return
    x = np.asarray(_places(curve, over), dtype=float)
    if curve.kind == "method":
        axes.plot(x, values, marker=style.marker, zorder=3, **line)
        axes.fill_between(x, values - errors, values + errors, color=style.colour, alpha=BAND_ALPHA, linewidth=0)
    else:
        axes.plot(x, values, linewidth=1.3, **line)


def _draw_beams(figure: Figure, axes: Axes, beams: Sequence[BeamPoint]) -> None:
    """Hollow marks with error bars, which the legend names, each with its size beside it."""
    if not beams:
        return
    styles = method_styles(point.method for point in beams)
    for point in beams:
        style, height = styles[point.method], point.figure.value
        look: dict[str, Any] = {"marker": style.marker, "markersize": 6.5, "markerfacecolor": "white", "zorder": 5}
        axes.errorbar(point.tokens, height, point.figure.stderr or 0.0, color=style.colour, elinewidth=0.9, **look)
        axes.annotate(
            point.size,
            (point.tokens, height),
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color=style.colour,
            zorder=6,
        )
    _legend_above(figure, [(style, "hollow") for style in styles.values()])


def _curve_label(curve: Curve, style: MethodStyle) -> EndLabel:
    return EndLabel(style.label, curve.estimates[-1].value, style.colour)


def _draw_bars(
    axes: Axes, places: Sequence[float], figures: Sequence[Estimate], width: float, style: MethodStyle
) -> None:
    values, errors = _values_and_errors(figures)
    axes.bar(places, values, width, color=style.colour, alpha=0.85, linewidth=0)
    axes.errorbar(places, values, errors, fmt="none", ecolor=INK, elinewidth=1.1, capsize=2)
    for place, value, error in zip(places, values, errors, strict=True):
        axes.annotate(
            format_number(value, 2), (place, value + error), (0, 3), textcoords="offset points", ha="center", fontsize=8
        )


def _draw_levels(axes: Axes, row: Row, keys: Sequence[str], style: MethodStyle) -> None:
    """A control's or bound's figure as a line across each group that has it."""
    line: dict[str, Any] = {"color": style.colour, "linestyle": style.dash, "linewidth": 1.3, "zorder": 4}
    for group, key in enumerate(keys):
        if key in row.estimates:
            height = row.estimates[key].value
            axes.plot([group - 0.46, group + 0.46], [height, height], **line)


def _last_levels(rows: Sequence[Row], keys: Sequence[str], styles: Mapping[str, MethodStyle]) -> list[EndLabel]:
    """Labels beside the last group, for rows that have a figure there."""
    present = [row for row in rows if keys[-1] in row.estimates]
    return [
        EndLabel(styles[row.method].label, row.estimates[keys[-1]].value, styles[row.method].colour) for row in present
    ]


def _draw_run(axes: Axes, x: np.ndarray, y: np.ndarray, style: MethodStyle) -> None:
    if len(x) <= 60:
        axes.plot(x, y, color=style.colour)
        return
    axes.plot(x, y, color=style.colour, linewidth=0.7, alpha=0.25)
    axes.plot(x, _running_mean(y, span=max(5, len(y) // 30)), color=style.colour)


def _series(rows: Sequence[Mapping[str, object]], x: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Values of a metric over `x` from the rows that have both; what is not a number becomes a gap."""
    present = [row for row in rows if name in row and x in row]
    pairs = np.array([[_as_number(row[x]), _as_number(row[name])] for row in present]).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _as_number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan


def _running_mean(values: Float[np.ndarray, " n"], span: int) -> Float[np.ndarray, " n"]:
    """Mean of the last `span` finite values at each place."""
    sums = np.cumsum(np.concatenate([[0.0], np.nan_to_num(values)]))
    counts = np.cumsum(np.concatenate([[0.0], np.isfinite(values)]))
    start = np.maximum(np.arange(len(values)) + 1 - span, 0)
    total, count = sums[1:] - sums[start], counts[1:] - counts[start]
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


def _draw_path(axes: Axes, group: PathGroup, colour: str, marker: str) -> None:
    axes.plot(group.steps, group.mean, color=colour, marker=marker)
    low, high = group.mean - group.stderr, group.mean + group.stderr
    axes.fill_between(group.steps, low, high, color=colour, alpha=BAND_ALPHA, linewidth=0)


def _group_styles(groups: Sequence[tuple[PathGroup, PathGroup]]) -> list[MethodStyle]:
    """Legend of successes and failures, with their numbers where these are the same for every PRM."""
    numbers = {tuple(group.trajectories for group in pair) for pair in groups}
    counts = [f" ({format_count(number)})" for number in numbers.pop()] if len(numbers) == 1 else ["", ""]
    return [
        MethodStyle(f"successful{counts[0]}", SUCCESS, marker="o"),
        MethodStyle(f"failed{counts[1]}", FAILURE, marker="s"),
    ]


def _values_and_errors(figures: Sequence[Estimate]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([f.value for f in figures]), np.array([f.stderr or 0.0 for f in figures])


def _padded_limits(figures: Sequence[Estimate]) -> tuple[float, float]:
    values, errors = _values_and_errors(figures)
    low, high = float(np.min(values - errors)), float(np.max(values + errors))
    margin = 0.06 * (high - low) or 0.05
    return low - margin, high + margin


def _legend_above(figure: Figure, entries: Sequence[tuple[MethodStyle, Literal["bar", "line", "hollow"]]]) -> None:
    """One line of named marks above all panels."""
    handles = [_legend_mark(style, shape) for style, shape in entries]
    labels = [style.label for style, _ in entries]
    figure.legend(handles, labels, loc="outside upper left", ncols=len(entries), frameon=False, handlelength=1.6)


def _legend_mark(style: MethodStyle, shape: Literal["bar", "line", "hollow"]) -> Any:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if shape == "bar":
        return Patch(color=style.colour, alpha=0.85, linewidth=0)
    if shape == "line":
        return Line2D([], [], color=style.colour, linestyle=style.dash, marker=style.marker)
    return Line2D([], [], color=style.colour, linestyle="none", marker=style.marker, markersize=7, markerfacecolor="w")
