"""The progress of long work where there is no terminal."""

import pytest

from agentprm_jax.reporting import progress as module
from agentprm_jax.reporting.progress import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    seconds = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: seconds[0])
    return seconds


def shown(clock, capsys, *, seconds, total=4, done=0):
    items = []
    for item in progress(range(total - done), "work", total=total, done=done):
        clock[0] += seconds
        items.append(item)
    return items, capsys.readouterr().err.splitlines()


def test_every_item_comes_through_and_the_last_line_is_the_total(clock, capsys):
    items, lines = shown(clock, capsys, seconds=0.1)
    assert items == [0, 1, 2, 3]
    assert lines == ["work: 4/4, 10/s, 0 s left"]


def test_slow_work_is_counted_by_the_minute_with_its_remaining_time(clock, capsys):
    _, lines = shown(clock, capsys, seconds=30.0)
    assert lines[0] == "work: 1/4, 2.0/min, 90 s left"


def test_what_was_done_before_counts_in_the_total_and_not_in_the_rate(clock, capsys):
    _, lines = shown(clock, capsys, seconds=30.0, done=2)
    assert lines[0] == "work: 3/4, 2.0/min, 30 s left"
