"""Laws of the goals that benchmarks hand over."""

import msgspec
import pytest
from goals import FILE, Goal, goals_table, ratio_goal, read_goals, write_goals
from measuring import Ratio

NOT_INSTALLED = ratio_goal("speed", "as fast as rlax", "at least", 2.0, "the package rlax is not installed")


@pytest.mark.parametrize(
    ("side", "below", "across", "above"),
    [
        ("at least", "**miss**", "**miss** (undecided)", "pass"),
        ("more than", "**miss**", "**miss** (undecided)", "pass"),
        ("at most", "pass", "**miss** (undecided)", "**miss**"),
    ],
)
def test_a_goal_is_met_or_missed_by_the_whole_interval_of_its_ratio(side, below, across, above):
    ratios = (Ratio(1.5, 1.4, 1.6), Ratio(1.9, 1.8, 2.2), Ratio(3.0, 2.5, 9.0))
    assert [ratio_goal("b", "n", side, 2.0, ratio).verdict for ratio in ratios] == [below, across, above]


def test_only_a_goal_of_more_is_missed_on_its_limit():
    verdicts = {side: Goal("b", "n", side, 1.0, value=1.0).verdict for side in ("at least", "at most", "more than")}
    assert verdicts == {"at least": "pass", "at most": "pass", "more than": "**miss**"}


def test_what_was_not_measured_stays_in_the_table_with_its_reason():
    line = goals_table([NOT_INSTALLED]).splitlines()[-1]
    assert line == ("| not measured | speed | as fast as rlax: at least 2 times | the package rlax is not installed |")


def test_goals_come_back_from_their_file_as_they_were(tmp_path):
    goals = [
        NOT_INSTALLED,
        ratio_goal("speed", "n", "at most", 2.0, Ratio(1.0, 0.5, 1.5)),
        Goal("m", "peak", "at most", 1.5, " GB", value=1.25),
    ]
    write_goals(tmp_path / "new", goals)
    assert read_goals(tmp_path / "new") == goals


def test_a_file_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / FILE).write_text('[{"benchmark": "b"}]')
    with pytest.raises(msgspec.ValidationError, match="missing required field `name`"):
        read_goals(tmp_path)
