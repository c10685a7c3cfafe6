"""The look shared by all plots: fonts, axes, direct labels, and saving; matplotlib is imported on first use."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from agentprm_jax.reporting.formatting import format_number
from agentprm_jax.reporting.methods import INK, MUTED, RULE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAND_ALPHA = 0.16
_NEGLIGIBLE = 1e-9
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlepad": 10.0,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "ytick.major.size": 0.0,
    "xtick.minor.size": 0.0,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "agentprm",
}


class EndLabel(NamedTuple):
    """Text beside the end of a line, at its height in data units."""

    text: str
    height: float
    colour: str


@contextmanager
def plot_style() -> Iterator[None]:
    """Apply the look to what is drawn or saved inside."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches that belongs to no window and no global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Save as `.svg` or `.png` (160 dots per inch), by the ending of `path`; figures drawn alike give the same bytes.

    Raises:
        ValueError: for another ending.
    """
    target = Path(path)
    if target.suffix == ".svg":
        target.write_text(figure_svg(figure), encoding="utf-8")
    elif target.suffix == ".png":
        with plot_style():
            figure.savefig(target, dpi=160, facecolor="white", metadata={"Software": None})
    else:
        raise ValueError(f"Cannot save a figure as {target}: expected the ending .svg or .png, got {target.suffix!r}.")


def figure_svg(figure: Figure) -> str:
    """The figure as SVG text on a transparent ground, with text as text and without metadata or dates."""
    out = io.StringIO()
    with plot_style():
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return re.sub(r"\s*<metadata>.*?</metadata>", "", out.getvalue(), flags=re.DOTALL)


def spread(heights: Float[np.ndarray, " label"], gap: float) -> Float[np.ndarray, " label"]:
    """Move heights as little as possible (least squares) until neighbours are at least `gap` apart, keeping order.

    Args:
        heights: wanted heights, in any order.
        gap: smallest distance allowed, not negative.

    Returns:
        Heights in the order of the argument.
    """
    wanted = np.asarray(heights, dtype=float)
    order = np.argsort(wanted, kind="stable")
    # With the gaps taken out the task is isotonic regression, solved by pooling neighbours that are out of order.
    slack = wanted[order] - gap * np.arange(len(wanted))
    pools: list[tuple[float, int]] = []
    for value in slack:
        pools.append((float(value), 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (mean_b, count_b), (mean_a, count_a) = pools.pop(), pools.pop()
            count = count_a + count_b
            pools.append(((mean_a * count_a + mean_b * count_b) / count, count))
    placed = np.repeat([mean for mean, _ in pools], [count for _, count in pools]) + gap * np.arange(len(wanted))
    out = np.empty_like(placed)
    out[order] = placed
    return out


def label_ends(figure: Figure, axes: Axes, labels: Sequence[EndLabel], *, text_size: float = 9.0) -> None:
    """Write labels to the right of the axes beside the ends of their lines, moved apart where they would overlap.

    Call after the limits of the y axis are final.
    """
    if not labels:
        return
    bottom, top = axes.get_ylim()
    points = 72 * figure.get_figheight() * 0.82  # the axes take about this share of the figure
    gap = (top - bottom) * text_size * 1.3 / points
    placed = spread(np.array([label.height for label in labels]), gap)
    for label, height in zip(labels, placed, strict=True):
        axes.annotate(
            label.text,
            xy=(1, label.height),
            xytext=(1.05, height),
            xycoords=axes.get_yaxis_transform(),
            textcoords=axes.get_yaxis_transform(),
            color=label.colour,
            fontsize=text_size,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": label.colour,
                "linewidth": 0.6,
                "shrinkA": 1,
                "shrinkB": 1,
                "relpos": (0, 0.5),  # to the middle of the left edge, so that no line crosses another label
            },
        )


def short_decimals(axes: Axes, axis: Literal["x", "y"]) -> None:
    """Write ticks as tables do: `.25`, `.50`, not `0.25`, `0.5`."""
    target = axes.xaxis if axis == "x" else axes.yaxis

    def label(value: float, _: float) -> str:
        digits = max((_decimals(tick) for tick in target.get_majorticklocs()), default=0)
        return format_number(value, 0 if abs(value - round(value)) < _NEGLIGIBLE else digits)

    target.set_major_formatter(label)


def _decimals(value: float) -> int:
    """How many decimals a tick needs, at most four."""
    return next((digits for digits in range(4) if abs(value - round(value, digits)) < _NEGLIGIBLE), 4)
