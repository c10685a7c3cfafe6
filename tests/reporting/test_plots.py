"""Figures draw the numbers that they are given, and name every line."""

import math
import subprocess
import sys

import msgspec
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle

from agentprm_jax.numerics.calibration import reliability
from agentprm_jax.reporting import plots
from agentprm_jax.reporting.canvas import figure_svg
from agentprm_jax.reporting.methods import method_label, method_styles
from agentprm_jax.reporting.results import Column, Cost, Curve, Estimate, Row, Table


def lines(axes) -> dict[str, list[np.ndarray]]:
    """Heights of the lines of an axes, by colour."""
    found: dict[str, list[np.ndarray]] = {}
    for line in axes.get_lines():
        found.setdefault(line.get_color(), []).append(y_of(line))
    return found


def x_of(line) -> np.ndarray:
    return np.asarray(line.get_xdata(), dtype=float)


def y_of(line) -> np.ndarray:
    return np.asarray(line.get_ydata(), dtype=float)


def test_curves_pass_through_their_estimates_and_every_curve_is_labelled(results):
    figure = plots.best_of_n_curves(results.curves)
    (axes,) = figure.axes
    drawn = lines(axes)
    for curve in results.curves:
        values = [estimate.value for estimate in curve.estimates]
        expected = values * 2 if len(values) == 1 else values
        colour = method_styles([curve.method])[curve.method].colour
        assert any(len(y) == len(expected) and np.allclose(y, expected) for y in drawn[colour]), curve.method
        assert method_label(curve.method) in figure_svg(figure)
    low, high = axes.get_ylim()
    assert all(low < estimate.value < high for curve in results.curves for estimate in curve.estimates)


def test_bands_are_one_combined_standard_error(results):
    (axes,) = plots.best_of_n_curves(results.curves[:1]).axes
    edges = np.asarray(axes.collections[0].get_paths()[0].vertices)[:, 1]
    last = results.curves[0].estimates[-1]
    assert edges.max() == pytest.approx(last.value + last.stderr)


def test_sample_sizes_stand_on_a_doubling_axis(results):
    (axes,) = plots.best_of_n_curves(results.curves).axes
    assert axes.get_xscale() == "log"
    assert axes.get_xticks().tolist() == list(results.curves[0].sizes)
    (tokens,) = plots.best_of_n_curves(results.curves, over="tokens").axes
    assert list(results.curves[0].tokens_sampled) in [x_of(line).tolist() for line in tokens.get_lines()]
    assert tokens.get_xlabel() == "tokens sampled per task"


def test_beam_searches_stand_at_the_tokens_and_outcomes_of_the_table_with_their_errors_and_sizes():
    cells = {"agentprm": (60.0, 0.7, 0.02), "pvm": (70.0, 0.6, 0.03)}
    rows = [
        Row(
            method=name,
            kind="method",
            estimates={"beam_2x2": Estimate(value=value, stderr_tasks=stderr, n_tasks=9)},
            costs={"beam_2x2": Cost(tokens_sampled=tokens)},
        )
        for name, (tokens, value, stderr) in cells.items()
    ]
    rows.append(Row(method="greedy", kind="control", estimates={"beam_2x2": Estimate(value=0.5, n_tasks=9)}))
    table = Table(name="t", columns=(Column(key="beam_2x2", title="beam"),), rows=tuple(rows))
    points = plots.beam_points(table, {"2x2": "beam_2x2"})
    assert {p.method: (p.tokens, p.figure.value, p.figure.stderr) for p in points} == cells
    curve = Curve(
        method="agentprm",
        kind="method",
        sizes=(1, 2),
        estimates=(Estimate(value=0.5, n_tasks=9), Estimate(value=0.55, n_tasks=9)),
        tokens_sampled=(40.0, 80.0),
    )
    figure = plots.best_of_n_curves([curve], over="tokens", beams=points)
    (axes,) = figure.axes
    marks = {(float(x_of(line)[0]), float(y_of(line)[0])) for line in axes.get_lines() if len(x_of(line)) == 1}
    assert marks == {(tokens, value) for tokens, value, _ in cells.values()}
    assert [text.get_text() for text in axes.texts].count("2x2") == 2
    assert axes.get_ylim()[1] > 0.72
    assert "PVM" in figure_svg(figure)


def test_curves_without_sizes_to_draw_are_refused(results):
    with pytest.raises(ValueError, match="two sizes or more over samples"):
        plots.best_of_n_curves(results.curves[-1:])


def test_bars_have_the_heights_of_the_table_and_controls_are_lines(results):
    table = results.tables[0]
    figure = plots.beam_bars(table, ["beam2x2", "beam4x4"])
    (axes,) = figure.axes
    heights = {round(bar.get_height(), 9) for bar in axes.patches if isinstance(bar, Rectangle)}
    methods = [row for row in table.rows if row.kind == "method"]
    assert heights == {round(row.estimates[key].value, 9) for row in methods for key in ("beam2x2", "beam4x4")}
    levels = {round(float(y[0]), 9) for group in lines(axes).values() for y in group if len(y) == 2}
    for row in table.rows:
        if row.kind != "method" and "beam4x4" in row.estimates:
            assert round(row.estimates["beam4x4"].value, 9) in levels
            assert method_label(row.method) in figure_svg(figure)


def test_intervals_reach_from_low_to_high_and_only_decided_ones_are_filled(results):
    (axes,) = plots.comparison_intervals(results.comparisons).axes
    spans = [tuple(x_of(line)) for line in axes.get_lines() if len(x_of(line)) == 2]
    dots = [line for line in axes.get_lines() if line.get_marker() == "o"]
    for comparison, dot in zip(reversed(results.comparisons), dots, strict=True):
        difference = comparison.difference
        assert (difference.low, difference.high) in spans
        assert x_of(dot)[0] == difference.value
        assert (dot.get_markerfacecolor() == "none") is (difference.verdict == "undecided")


def test_names_and_numbers_of_comparisons_are_inside_the_figure_however_long(results):
    mean = f"{results.comparisons[0].a} mean of 5 seeds without anything else"
    long = [msgspec.structs.replace(results.comparisons[0], metric="mean over beams", a=mean, b=mean)] * 65
    figure = plots.comparison_intervals(long)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (axes,) = figure.axes
    for text in (*axes.get_yticklabels(), *axes.texts):
        place = text.get_window_extent(canvas.get_renderer())
        assert figure.bbox.x0 <= place.x0 < place.x1 <= figure.bbox.x1, text.get_text()
    assert axes.get_position().height > 0.9


def test_training_curves_leave_gaps_where_there_is_no_number():
    lacking = [{"step": 2, "loss": math.nan}, {"step": 3}]
    rows = [{"step": 1, "loss": 1.0}, *lacking, {"step": 4, "loss": 0.5, "other": "text"}]
    figure = plots.training_curves({"orm": rows}, {"loss": "Loss", "absent": "Absent"})
    (axes,) = figure.axes
    (line,) = axes.get_lines()
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 4])
    np.testing.assert_array_equal(line.get_ydata(), [1.0, np.nan, 0.5])
    assert axes.get_title(loc="left") == "Loss"


def test_long_training_curves_show_the_running_mean_over_the_values():
    values = np.random.default_rng(0).uniform(size=300)
    rows = [{"step": step, "loss": float(value)} for step, value in enumerate(values)]
    (axes,) = plots.training_curves({"orm": rows}, {"loss": "Loss"}).axes
    raw, smooth = (y_of(line) for line in axes.get_lines())
    np.testing.assert_array_equal(raw, values)
    for place in (0, 3, 299):
        assert smooth[place] == pytest.approx(values[max(0, place - 9) : place + 1].mean())


def test_metrics_that_no_run_has_are_refused_with_those_that_exist():
    with pytest.raises(ValueError, match=r"\['loss'\] occurs in the runs, which have \['step'\]"):
        plots.training_curves({"orm": [{"step": 1}]}, {"loss": "Loss"})


def test_promise_paths_have_a_panel_for_each_prm_with_both_groups(trajectories):
    figure = plots.promise_paths(trajectories)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == ["AgentPRM", "AgentPRM without L_A", "PVM", "ORM"]
    first = [t.scores["agentprm"].promise[0] for t in trajectories if t.success]
    assert y_of(panels[0].get_lines()[0])[0] == pytest.approx(np.mean(first))
    assert "successful (20)" in figure_svg(figure)
    assert "failed (40)" in figure_svg(figure)


def test_calibration_draws_the_bins_that_hold_steps():
    predictions = np.array([0.05, 0.05, 0.55, 0.95])
    bins = reliability(predictions, np.array([0.0, 1.0, 1.0, 1.0]))
    axes, counts = plots.calibration({"pvm": bins}).axes
    colour = method_styles(["pvm"])["pvm"].colour
    np.testing.assert_allclose(lines(axes)[colour][0], [0.5, 1.0, 1.0])
    np.testing.assert_allclose(lines(counts)[colour][0], [2, 1, 1])


@pytest.mark.parametrize(
    "module",
    ["reporting", "reporting.results", "reporting.statistics", "reporting.tables", "reporting.plots", "reporting.page"],
)
def test_importing_reporting_loads_neither_matplotlib_nor_jax(module):
    heavy = ("jax", "matplotlib", "transformers")
    code = f"import agentprm_jax.{module}, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
