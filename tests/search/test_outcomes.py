"""What an episode is recorded to have come to where an environment pays a success more than once."""

import pytest

from agentprm_jax.actors.base import Action, Usage
from agentprm_jax.data.trajectory import read_trajectories, write_trajectories
from agentprm_jax.envs import make_env
from agentprm_jax.scoring.random_scorer import RandomScorer
from agentprm_jax.search import beam_search, collect

# Level 4, seed 0: a blue key ahead on the right and at most 16 moves, so that it is reached late and pays 0.4375.
BLUE_KEY = "babyai_3"
SCRIPT = ["turn left"] * 8 + ["go to blue key 1"]
PAID, ROUNDS = 0.4375, 20
SETTINGS = {"temperature": 1.0, "seed": 0, "make_environment": lambda: make_env("babyai", max_rounds=ROUNDS)}


class Loiterer:
    """Follows the script, and then says what moves nothing."""

    name = "loiterer"
    usage = Usage()

    def act(self, conversations, *, samples=1, **_):
        said = [sum(message.action for message in messages) for messages in conversations]
        return [[Action(SCRIPT[k] if k < len(SCRIPT) else "fly", 1, 0.0)] * samples for k in said]


@pytest.fixture(params=["collect", "beam"])
def trajectory(request):
    if request.param == "collect":
        return next(collect([BLUE_KEY], actor=Loiterer(), samples=1, **SETTINGS))
    found = beam_search([BLUE_KEY], actor=Loiterer(), scorer=RandomScorer(0), nodes=1, candidates=1, **SETTINGS)
    return found[0].trajectory


def test_a_score_above_1_is_an_outcome_of_1_and_stays_the_sum_of_the_rewards(trajectory, tmp_path):
    assert trajectory.rewards == (0.0,) * 8 + (PAID,) * 12
    assert sum(trajectory.rewards) == 5.25
    assert (trajectory.outcome, trajectory.success, trajectory.ended) == (1.0, True, "truncated")
    write_trajectories(tmp_path / "t.jsonl", [trajectory])
    assert read_trajectories(tmp_path / "t.jsonl") == [trajectory]


@pytest.mark.parametrize("rounds", [9, 10])
def test_a_score_of_at_most_1_is_the_outcome(rounds):
    short = {**SETTINGS, "make_environment": lambda: make_env("babyai", max_rounds=rounds)}
    found = next(collect([BLUE_KEY], actor=Loiterer(), samples=1, **short))
    assert found.outcome == sum(found.rewards) == (rounds - 8) * PAID
