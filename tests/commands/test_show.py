"""`agentprm show`."""


def test_the_first_trajectory_is_shown_unless_another_is_named(agentprm, file):
    assert "id t0 " in agentprm("show", file)[1]
    assert "id t4 " in agentprm("show", file, "--index", 4)[1]
    assert "id t7 " in agentprm("show", file, "--id", "t7")[1]


def test_a_trajectory_that_is_not_there_is_answered_with_how_many_there_are(agentprm, file):
    status, said = agentprm("show", file, "--id", "none")
    assert (status, "holds 9 trajectories, but no trajectory none" in said) == (1, True)
    assert "no trajectory at place 9" in agentprm("show", file, "--index", 9)[1]


def test_an_id_and_a_place_together_are_refused(agentprm, file):
    status, said = agentprm("show", file, "--id", "t1", "--index", 1)
    assert status != 0
    assert "got both" in said
