from __future__ import annotations

import contextlib
import io

import gymnasium
import numpy as np
import pytest

from agentprm_jax.envs import task_ids
from agentprm_jax.envs.babyai_levels import LEVELS, level_and_seed, level_tasks, make_level


def gymnasium_level(name, seed):
    with contextlib.redirect_stdout(io.StringIO()):  # minigrid prints when it starts a level over
        env = gymnasium.make(f"BabyAI-{'GoToObjS4' if name == 'GoToObjS6' else name}-v0")
        env.reset(seed=seed)
    return env.unwrapped


@pytest.mark.parametrize("name", LEVELS)
def test_a_level_is_the_one_that_gymnasium_makes_from_the_seed(name):
    for seed in (0, 45):
        ours, theirs = make_level(name, seed), gymnasium_level(name, seed)
        assert ours.mission == theirs.mission
        assert ours.max_steps == theirs.max_steps
        assert (*ours.agent_pos, ours.agent_dir) == (*theirs.agent_pos, theirs.agent_dir)
        np.testing.assert_array_equal(ours.grid.encode(), theirs.grid.encode())


def test_making_a_level_prints_nothing(capsys):
    for seed in range(30):
        make_level("PutNextLocalS6N4", seed)
    assert capsys.readouterr().out == ""


def test_splits_have_810_and_90_tasks_on_the_same_18_levels_and_are_disjoint():
    train, test = task_ids("babyai", "train"), task_ids("babyai", "test")
    assert (len(train), len(test), len({*train, *test})) == (810, 90, 900)
    assert {level_and_seed(task)[0] for task in train} == {level_and_seed(task)[0] for task in test}
    assert max(int(task.split("_")[1]) for task in train) < 1800 <= min(int(task.split("_")[1]) for task in test)


def test_development_tasks_are_the_last_90_training_tasks():
    assert task_ids("babyai", "development") == task_ids("babyai", "train")[-90:]


def test_levels_take_turns_in_level_tasks():
    assert level_tasks(["PickupLoc", "ActionObjDoor"], range(2)) == ["babyai_18", "babyai_29", "babyai_58", "babyai_69"]


def test_level_tasks_name_the_level_and_seed_they_were_made_from():
    for task, seed in zip(level_tasks(["GoToDoor"], (0, 7, 10**6)), (0, 7, 10**6), strict=True):
        assert level_and_seed(task) == ("GoToDoor", seed)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: level_tasks(["Nowhere"], range(1)), "Nowhere"),
        (lambda: level_tasks(["GoToDoor"], [-1]), "negative"),
        (lambda: level_and_seed("babyai_-41"), "actual value: -2"),
        (lambda: level_and_seed("textcraft_1"), "textcraft_1"),
        (lambda: task_ids("babyai", "validation"), "validation"),
    ],
)
def test_what_does_not_exist_is_named_in_the_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
