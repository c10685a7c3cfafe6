"""Laws of promise along trajectories and of the examples that are shown."""

import numpy as np
import pytest

from agentprm_jax.data.trajectory import Message, Trajectory
from agentprm_jax.reporting.paths import choose_examples, promise_groups


def scored(promises: list[float], *, success: bool, task: str = "t_0", prm: str = "prm") -> Trajectory:
    steps = len(promises)
    return Trajectory(
        id="x",
        env="e",
        task=task,
        split="test",
        messages=tuple(Message("assistant", "go", action=True) for _ in promises),
        rewards=(0.0,) * (steps - 1) + (float(success),),
        ended="terminated",
    ).with_scores(prm, promises, [0.0] * steps)


def test_groups_average_over_the_trajectories_that_reach_a_step():
    trajectories = [
        scored([0.2, 0.4], success=True),
        scored([0.4, 0.8, 1.0], success=True),
        scored([0.1], success=False),
    ]
    successes, failures = promise_groups(trajectories)["prm"]
    np.testing.assert_allclose(successes.mean, [0.3, 0.6, 1.0])
    np.testing.assert_allclose(successes.stderr, [0.1, 0.2, 0.0])
    np.testing.assert_array_equal(successes.counts, [2, 2, 1])
    np.testing.assert_array_equal(successes.steps, [1, 2, 3])
    assert (successes.trajectories, failures.trajectories) == (2, 1)


def test_steps_that_few_trajectories_reach_are_left_out():
    trajectories = [scored([0.2, 0.4], success=True), scored([0.4, 0.8, 1.0], success=True)]
    successes, failures = promise_groups(trajectories, least=2)["prm"]
    np.testing.assert_array_equal(successes.steps, [1, 2])
    assert len(failures.steps) == 0


def test_a_prm_that_scored_nothing_is_refused_by_name():
    with pytest.raises(ValueError, match=r"No trajectory carries scores of 'orm'; there are scores of \['prm'\]"):
        promise_groups([scored([0.5], success=True)], ["orm"])
    with pytest.raises(ValueError, match="None of the 0 trajectories"):
        promise_groups([])


def test_examples_are_a_function_of_the_seed_and_come_from_different_tasks(trajectories):
    chosen = choose_examples(trajectories, successes=5, failures=5, seed=1)
    assert [t.success for t in chosen] == [True] * 5 + [False] * 5
    assert len({t.task for t in chosen}) == 10
    assert chosen == choose_examples(trajectories, successes=5, failures=5, seed=1)
    assert chosen != choose_examples(trajectories, successes=5, failures=5, seed=2)


def test_too_few_examples_are_all_shown_even_of_one_task():
    trajectories = [scored([0.1 * n], success=True, task="only") for n in (1, 2, 3)]
    assert len(choose_examples(trajectories, successes=9, failures=9)) == 3
