"""Laws of label placement and of saved figures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text

from agentprm_jax.reporting import canvas

heights = st.lists(st.floats(-10, 10), min_size=1, max_size=8)


@given(heights, st.floats(0.01, 3))
def test_spread_labels_keep_their_order_and_distance(wanted, gap):
    placed = canvas.spread(np.array(wanted), gap)
    order = np.argsort(wanted, kind="stable")
    assert np.all(np.diff(placed[order]) >= gap - 1e-9)


@given(heights, st.floats(0.01, 3))
def test_spreading_keeps_the_middle_and_moves_nothing_that_has_room(wanted, gap):
    placed = canvas.spread(np.array(wanted), gap)
    assert np.mean(placed) == pytest.approx(np.mean(wanted), abs=1e-9)
    roomy = np.arange(len(wanted)) * gap * 1.01
    np.testing.assert_allclose(canvas.spread(roomy, gap), roomy, atol=1e-9)


def test_no_placement_at_that_distance_is_closer_to_the_wanted_heights():
    rng = np.random.default_rng(0)
    wanted, gap = np.array([0.0, 0.1, 0.15, 2.0]), 0.5
    best = np.sum((canvas.spread(wanted, gap) - wanted) ** 2)
    for _ in range(2_000):
        other = np.cumsum(np.concatenate([rng.uniform(-1, 1, 1), gap + rng.exponential(0.3, 3)]))
        assert np.sum((other - wanted) ** 2) >= best - 1e-12


def test_a_figure_is_saved_by_its_ending_and_reproducibly(tmp_path):
    for ending, start in ((".svg", b"<?xml"), (".png", b"\x89PNG")):
        first, second = tmp_path / f"a{ending}", tmp_path / f"b{ending}"
        canvas.save_figure(line_figure(), first)
        canvas.save_figure(line_figure(), second)
        assert first.read_bytes().startswith(start)
        assert first.read_bytes() == second.read_bytes()
    with pytest.raises(ValueError, match=r"expected the ending \.svg or \.png, got '\.jpg'"):
        canvas.save_figure(line_figure(), tmp_path / "a.jpg")


def line_figure():
    figure = canvas.new_figure(2, 1)
    figure.subplots().plot([0, 1], [0, 1])
    return figure


def test_the_lines_to_crowded_labels_end_left_of_every_label():
    with canvas.plot_style():
        figure = canvas.new_figure(6.6, 4.1)
        axes = figure.subplots()
        axes.set_ylim(0, 1)
        canvas.label_ends(figure, axes, [canvas.EndLabel(f"the label {n}", 0.2 + n / 100, "black") for n in range(7)])
        figure.draw_without_rendering()
    left = min(Text.get_window_extent(text).x0 for text in axes.texts)
    assert len(axes.texts) == 7
    assert all(text.arrow_patch.get_window_extent().x1 <= left for text in axes.texts)
