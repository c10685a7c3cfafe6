"""How numbers read everywhere: terminal, markdown and page."""

import math

from agentprm_jax.reporting.methods import method_label
from agentprm_jax.reporting.results import Comparison, Difference, Estimate

MISSING = "\u2013"  # en dash
MINUS = "\u2212"  # true minus sign


def format_number(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """`value` with fixed decimals, no zero before the point and a true minus sign: `.617`, `−.012`, `1.000`.

    Args:
        value: the number; None and nan give a dash.
        digits: decimals.
        sign: whether positive numbers carry a plus.
    """
    if value is None or math.isnan(value):
        return MISSING
    text = f"{abs(value):,.{digits}f}"
    is_zero = not text.strip("0.,")
    if digits and text.startswith("0."):
        text = text[1:]
    if value < 0 and not is_zero:
        return MINUS + text
    return "+" + text if sign and not is_zero else text


def format_stderr(stderr: float, digits: int = 3) -> str:
    """A standard error with the decimals of its figure; one that would read as zero without being it is `<.001`."""
    unit = 10.0**-digits
    return f"<{format_number(unit, digits)}" if 0 < stderr < unit / 2 else format_number(stderr, digits)


def format_estimate(figure: Estimate | None, digits: int = 3) -> str:
    """`.617 ± .021 ± .006`: the mean, its standard error over tasks, and over seeds where those vary.

    A figure with an error over seeds only marks it as such: `.617 ± .006 (seeds)`.
    """
    if figure is None:
        return MISSING
    parts = [format_number(figure.value, digits)]
    if figure.stderr_tasks is not None:
        parts.append(format_stderr(figure.stderr_tasks, digits))
    if figure.stderr_seeds is not None:
        seeds_only = " (seeds)" if figure.stderr_tasks is None else ""
        parts.append(format_stderr(figure.stderr_seeds, digits) + seeds_only)
    return " ± ".join(parts)


def format_difference(difference: Difference, digits: int = 3) -> str:
    """`+.072 [+.031, +.113]`: the difference and its interval."""
    value, low, high = (
        format_number(x, digits, sign=True) for x in (difference.value, difference.low, difference.high)
    )
    return f"{value} [{low}, {high}]"


def format_count(count: float) -> str:
    """A number of tokens or steps, to the unit: `1,234,567`."""
    return f"{count:,.0f}"


def format_minutes(minutes: float) -> str:
    """A duration: `42 s`, `6.3 min`, `2 h 05 min`."""
    if round(minutes * 60) < 60:
        return f"{minutes * 60:.0f} s"
    if round(minutes, 1) < 60:
        return f"{minutes:.1f} min"
    hours, rest = divmod(round(minutes), 60)
    return f"{hours} h {rest:02d} min"


def describe_comparison(comparison: Comparison) -> str:
    """One sentence that claims exactly what the interval allows."""
    difference = comparison.difference
    a, b = method_label(comparison.a), method_label(comparison.b)
    percent = f"{100 * difference.confidence:g} % interval"
    low, high = (format_number(x, sign=True) for x in (difference.low, difference.high))
    interval = f"{percent} {low} to {high}, {format_sample(difference)}"
    if difference.verdict == "undecided":
        value = format_number(difference.value, sign=True)
        return f"{comparison.metric}: {a} and {b} cannot be told apart (difference {value}; {interval})."
    value = format_number(abs(difference.value))
    return f"{comparison.metric}: {a} is {difference.verdict} {b} by {value} ({interval})."


def format_sample(difference: Difference) -> str:
    """What a difference rests on: `200 tasks, 5 seeds`."""
    seeds = f", {difference.n_seeds} seeds" if difference.n_seeds > 1 else ""
    return f"{difference.n_tasks} tasks{seeds}"
