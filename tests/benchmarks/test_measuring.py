"""Laws of the times that benchmarks compare."""

import time

import measuring
from measuring import FEWEST_TURNS, Timing, paired_ratio, processor_ratio, spend, take_turns


def test_a_slow_machine_in_some_turns_changes_no_paired_ratio():
    slow = (1.0, 9.0, 1.0, 5.0, 2.0)
    ratio = paired_ratio(Timing(0, tuple(6 * s for s in slow)), Timing(0, tuple(2 * s for s in slow)))
    assert ratio == (3.0, 3.0, 3.0)


def test_the_interval_of_a_ratio_holds_its_median_and_widens_with_the_spread():
    narrow = paired_ratio(Timing(0, (2.0, 2.1, 1.9, 2.0, 2.05)), Timing(0, (1.0,) * 5))
    wide = paired_ratio(Timing(0, (2.0, 9.0, 0.5, 2.0, 4.0)), Timing(0, (1.0,) * 5))
    for ratio in (narrow, wide):
        assert ratio.low <= ratio.value <= ratio.high
    assert wide.high - wide.low > narrow.high - narrow.low


def test_functions_take_turns_and_the_first_call_is_timed_apart():
    calls = []

    def record(name, seconds):
        def function():
            calls.append(name)
            time.sleep(seconds if calls.count(name) > 1 else 0.05)

        return function

    timings = take_turns({"a": record("a", 0.004), "b": record("b", 0.004)}, turns=3, seconds=60)
    assert "".join(calls) == "ab" * 2 + "aabb" * 3  # first call, rating, then a call to settle before each timed one
    for timing in timings.values():
        assert timing.first >= 0.05
        assert len(timing.turns) == 3
        assert 0.004 <= timing.median < 0.05


def test_no_turn_begins_after_the_time_is_up_but_the_fewest_are_always_taken():
    timings = take_turns({"a": lambda: time.sleep(0.01)}, turns=100, seconds=0)
    assert len(timings["a"].turns) == FEWEST_TURNS


def test_a_long_call_is_not_repeated_to_settle(monkeypatch):
    monkeypatch.setattr(measuring, "LONG", 0.001)
    calls = []

    def work():
        calls.append(0)
        time.sleep(0.003)

    take_turns({"a": work}, turns=3, seconds=60)
    assert len(calls) == 2 + 3  # first call, rating, one a turn


def test_sleep_takes_time_on_the_clock_and_none_on_processors():
    spent, result = spend(lambda: time.sleep(0.05) or "done")
    assert result == "done"
    assert spent.clock >= 0.05 > spent.processor


def test_the_processor_ratio_looks_at_time_on_processors_alone():
    a, b = Timing(0, (9.0, 1.0, 5.0), (6.0, 2.0, 4.0)), Timing(0, (1.0, 1.0, 1.0), (3.0, 1.0, 2.0))
    assert processor_ratio(a, b) == (2.0, 2.0, 2.0)
