"""Fair times on a busy machine: what is compared takes turns, and ratios are taken within a turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

SHORTEST = 2e-3
"""Seconds that one measurement lasts at least; a quicker function is called several times."""
LONG = 1.0
"""Seconds of a call from which on what ran before no longer matters, so that no call is spent on settling."""
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
        processor: the same in time of all threads on processors, which is less disturbed by other programs; but threads
            that wait for each other count as work.
    """

    first: float
    turns: tuple[float, ...]
    processor: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        """Seconds of a call in the middle turn."""
        return float(np.median(self.turns))

    @property
    def quickest(self) -> float:
        """Seconds of a call in the quickest turn, which others disturbed least."""
        return min(self.turns)


def spend(work: Callable[[], Result]) -> tuple[Spent, Result]:
    """Does a piece of work once; what it took, and its result."""
    clock, processor = time.perf_counter(), time.process_time()
    result = work()
    return Spent(time.perf_counter() - clock, time.process_time() - processor), result


def take_turns(functions: Mapping[str, Callable[[], object]], turns: int, seconds: float) -> dict[str, Timing]:
    """Measures functions against each other.

    Args:
        functions: by name; each returns when its work is done.
        turns: how often each is measured.
        seconds: after which no further turn begins, once there were FEWEST_TURNS.

    Returns:
        The timing of each.
    """
    first = {name: _spent(function, 1).clock for name, function in functions.items()}
    rated = {name: _spent(function, 1).clock for name, function in functions.items()}
    times: dict[str, list[Spent]] = {name: [] for name in functions}
    start = time.perf_counter()
    for turn in range(turns):
        if turn >= FEWEST_TURNS and time.perf_counter() - start > seconds:
            break
        for name, function in functions.items():
            if rated[name] < LONG:
                function()  # not timed: finds caches and threads as the one before left them
            times[name].append(_spent(function, _calls(rated[name])))
    return {
        name: Timing(first[name], tuple(one.clock for one in taken), tuple(one.processor for one in taken))
        for name, taken in times.items()
    }


def paired_ratio(a: Timing, b: Timing) -> Ratio:
    """How many times as long `a` takes as `b`: what slows a whole turn down cancels out."""
    return ratio_of(np.asarray(a.turns) / np.asarray(b.turns))


def processor_ratio(a: Timing, b: Timing) -> Ratio:
    """How many times as much time on processors `a` takes as `b`."""
    return ratio_of(np.asarray(a.processor) / np.asarray(b.processor))


def ratio_of(ratios: Sequence[float] | np.ndarray) -> Ratio:
    """The median of one ratio a turn, and its interval."""
    drawn = np.random.default_rng(0).choice(np.asarray(ratios), (RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return Ratio(float(np.median(ratios)), float(low), float(high))


def _calls(seconds: float) -> int:
    return max(1, round(SHORTEST / max(seconds, 1e-9)))


def _spent(function: Callable[[], object], calls: int) -> Spent:
    clock, processor = time.perf_counter(), time.process_time()
    for _ in range(calls):
        function()
    return Spent((time.perf_counter() - clock) / calls, (time.process_time() - processor) / calls)
