"""Laws of playing on from forked states."""

import pytest
from line_world import CyclingActor, LineWorld

from agentprm_jax.actors.base import Action
from agentprm_jax.search import Prefix, play_forks

PREFIXES = [
    Prefix("line_1", ()),
    Prefix("line_1", ("right",)),
    Prefix("line_2", ("right", "stay")),
    Prefix("line_2", ("right",)),
]


class Finisher(CyclingActor):
    """Declares the end at once."""

    def act(self, conversations, **options):
        return [[Action("finish", 1, 0.0)] for _ in super().act(conversations, **options)]


def play(prefixes, actor, **options):
    settings = {"make_environment": LineWorld, "forks": 3, "temperature": 1.0, "seed": 0}
    found = list(play_forks(prefixes, actor=actor, **{**settings, **options}))
    assert len(found) == len(prefixes)
    return {one.prefix: one.outcomes for one in found}


def test_every_fork_goes_on_from_where_the_prefix_has_led():
    prefixes = [Prefix("line_2", ("right",) * count) for count in range(5)]
    expected = {prefix: (float(len(prefix.actions) == 2),) * 3 for prefix in prefixes}
    assert play(prefixes, Finisher()) == expected


@pytest.mark.parametrize(("actions", "outcome"), [(("right", "finish"), 1.0), (("finish",), 0.0), (("stay",) * 6, 0.0)])
def test_after_an_action_that_ends_the_episode_its_outcome_is_known(actions, outcome):
    actor = CyclingActor()
    assert play([Prefix("line_1", actions)], actor) == {Prefix("line_1", actions): (outcome,) * 3}
    assert actor.calls == []


def test_forks_differ_and_do_not_depend_on_what_else_is_played():
    forks = {"forks": 40}
    together = play(PREFIXES, CyclingActor(), **forks)
    assert all(0 < sum(outcomes) < 40 for outcomes in together.values())
    alone = [play([prefix], CyclingActor(), concurrency=1, **forks) for prefix in PREFIXES]
    assert {prefix: outcomes for one in alone for prefix, outcomes in one.items()} == together
    assert play(PREFIXES, CyclingActor(), seed=1, **forks) != together


def test_an_action_behind_the_end_is_refused_with_its_task():
    prefix = Prefix("line_1", ("finish", "right"))
    with pytest.raises(ValueError, match=r"Task line_1: the episode is over after \['finish'\], but .* 'right'"):
        play([prefix], CyclingActor())


def test_less_than_one_fork_is_refused():
    with pytest.raises(ValueError, match="forks >= 1"):
        play(PREFIXES, CyclingActor(), forks=0)
