"""Laws of the benchmark of environments and experts."""

import pytest
from environments import EnvironmentsConfig, Played, goals, main, spread
from goals import read_goals


def test_a_few_episodes_are_played_and_their_goals_written(tmp_path, capsys):
    main(EnvironmentsConfig(episodes=3, output=tmp_path))
    printed = capsys.readouterr().out
    assert "| BabyAI, compact | 3 |" in printed
    found = read_goals(tmp_path)
    assert len(found) == 5
    assert all(goal.value > 0 for goal in found)


def test_speeds_are_counts_over_the_seconds_of_their_own_part():
    one = Played("", resets=2, steps=10, moves=40, solved=2, resetting=0.004, stepping=0.02, deciding=0.01)
    measured = [goal.value for goal in goals([one, one, one])]
    assert measured == pytest.approx([2000.0, 2.0, 500.0, 2.0, 4000.0])


def test_tasks_are_spread_over_the_whole_list():
    assert spread(list("abcdefghij"), 3) == ["a", "d", "g"]
    assert spread(["a"], 3) == ["a"]
