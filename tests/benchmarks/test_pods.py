"""Laws of the benchmark of pods."""

from types import SimpleNamespace

from pods import LARGE, NO_LIBTPU, SMALL, UNIT, goals


def plan(gib=10.0, utilisation=0.6, cost=1.0, unhidden=1.0):
    return SimpleNamespace(
        memory=SimpleNamespace(total=gib * 2**30),
        utilisation=utilisation,
        chip_seconds_per_token=cost,
        unhidden_chip_seconds_per_token=unhidden,
    )


def test_every_goal_is_judged_by_its_own_slice():
    best = {SMALL: plan(gib=15.0, utilisation=0.4), UNIT: plan(cost=2.0, unhidden=2.0), LARGE: plan(2.1, 0.1, 2.1, 2.4)}
    assert [round(goal.value, 3) for goal in goals(best)] == [15.0, 40.0, 1.05, 1.2]
    assert [goal.verdict for goal in goals(best)] == ["pass", "**miss**", "pass", "**miss**"]


def test_without_libtpu_every_goal_says_why_it_was_not_measured():
    assert {goal.measured for goal in goals(None)} == {NO_LIBTPU}
