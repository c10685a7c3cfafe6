"""A progress bar around any iterable: rate, remaining time, and quiet lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
_SECONDS_BETWEEN_LINES = 20.0


def progress(items: Iterable[Item], label: str, *, total: int | None, done: int = 0) -> Iterator[Item]:
    """Yields `items` while showing how many have come, `done` of which were there before.

    Args:
        items: what is passed on.
        label: what is done with them.
        total: how many there will be; None where nobody knows before the end.
        done: how many were there before.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from agentprm_jax.training.console import LastingConsole

    console = LastingConsole(stderr=True)
    start = printed = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=total, completed=done, rate="")
        for count, item in enumerate(items, 1):
            yield item
            now = time.monotonic()
            rate = count / max(now - start, 1e-6)
            bar.update(task, completed=done + count, rate=_per_time(rate))
            if not console.is_terminal and (now - printed > _SECONDS_BETWEEN_LINES or done + count == total):
                printed = now
                said = f"{label}: {done + count:,}{_of(total)}, {_per_time(rate)}{_left(total, done + count, rate)}"
                console.print(said, highlight=False)


def _of(total: int | None) -> str:
    return "" if total is None else f"/{total:,}"


def _left(total: int | None, done: int, rate: float) -> str:
    return "" if total is None else f", {(total - done) / rate:.0f} s left"


def _per_time(rate: float) -> str:
    """A rate given a second, in the unit in which it is a number of at least about one."""
    return f"{rate:,.0f}/s" if rate >= 1 else f"{60 * rate:,.1f}/min"
