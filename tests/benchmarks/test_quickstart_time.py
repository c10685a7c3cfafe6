"""Laws of the benchmark of the quickstart's time."""

from quickstart_time import goals, stages_table

from agentprm_jax.reporting.results import Stage


def test_half_of_the_former_time_is_a_pass_and_more_a_miss():
    assert [goals("default", minutes)[0].verdict for minutes in (7.0, 7.2)] == ["pass", "**miss**"]


def test_other_presets_have_no_goal():
    assert goals("smoke", 1.0) == []


def test_the_table_gives_every_stage_its_share_and_the_time_on_the_clock():
    table = stages_table([Stage(name="actor", minutes=1.0), Stage(name="trunk", minutes=3.0)], 2.5)
    assert "| trunk | 3.00 | 75% |" in table
    assert "| on the clock | 2.50 |  |" in table
