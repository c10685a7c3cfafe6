"""Fair times on a busy machine: what is compared takes turns, and ratios are taken within a turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np

SHORTEST = 2e-3
"""Seconds that one measurement lasts at least; a quicker function is called several times."""
FEWEST_TURNS = 5
RESAMPLES = 2000


Result = TypeVar("Result")


class Spent(NamedTuple):
    """Seconds that a piece of work took, on the clock and on all processors."""

    clock: float
    processor: float


class Ratio(NamedTuple):
    """Median of the ratios of all turns, and its 95 % interval from resampling the turns."""

    value: float
    low: float
    high: float


class Timing(NamedTuple):
    """Seconds of one implementation.

    Attributes:
        first: of the first call, compilation included.
        turns: of a call, one figure a turn.
    """

    first: float
    turns: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds of a call in the middle turn."""
        return float(np.median(self.turns))

    @property
    def quickest(self) -> float:
        """Seconds of a call in the quickest turn, which others disturbed least."""
        return min(self.turns)


def take_turns(functions: Mapping[str, Callable[[], object]], turns: int, seconds: float) -> dict[str, Timing]:
    """Measures functions against each other.

    Args:
        functions: by name; each returns when its work is done.
        turns: how often each is measured.
        seconds: after which no further turn begins, once there were FEWEST_TURNS.

    Returns:
        The timing of each.
    """
    first = {name: _seconds(function, 1) for name, function in functions.items()}
    calls = {name: _calls(_seconds(function, 1)) for name, function in functions.items()}
    times: dict[str, list[float]] = {name: [] for name in functions}
    start = time.perf_counter()
    for turn in range(turns):
        if turn >= FEWEST_TURNS and time.perf_counter() - start > seconds:
            break
        for name, function in functions.items():
            function()  # not timed: finds caches and threads as the one before left them
            times[name].append(_seconds(function, calls[name]))
    return {name: Timing(first[name], tuple(times[name])) for name in functions}


def paired_ratio(a: Timing, b: Timing) -> Ratio:
    """How many times as long `a` takes as `b`: what slows a whole turn down cancels out."""
    ratios = np.asarray(a.turns) / np.asarray(b.turns)
    drawn = np.random.default_rng(0).choice(ratios, (RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return Ratio(float(np.median(ratios)), float(low), float(high))


def spend(work: Callable[[], Result]) -> tuple[Spent, Result]:
    """Does a piece of work once; what it took, and its result."""
    clock, processor = time.perf_counter(), time.process_time()
    result = work()
    return Spent(time.perf_counter() - clock, time.process_time() - processor), result


def _calls(seconds: float) -> int:
    return max(1, round(SHORTEST / max(seconds, 1e-9)))


def _seconds(function: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls
