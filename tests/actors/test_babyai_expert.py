from __future__ import annotations

import random

import pytest
from minigrid.core.world_object import Ball, Box, Door, Key
from minigrid.envs.babyai.core.verifier import BeforeInstr, ObjDesc, OpenInstr, PickupInstr, PutNextInstr

from agentprm_jax.actors.babyai_expert import BabyAIExpert
from agentprm_jax.envs import make_env
from agentprm_jax.envs.babyai import level_tasks
from agentprm_jax.envs.babyai_levels import LEVELS, SPLIT_LEVELS

EXPERIMENT_LEVELS = ("ActionObjDoor", "PickupLoc", "GoToLocalS8N7", "OpenDoorsOrderN4Debug")
EXPERT = BabyAIExpert()


def finished(env, task, random_actions=0, seed=0):
    """Lets the expert finish an episode after some random actions, and returns the last observation."""
    rng = random.Random(f"{seed} {task}")
    got = env.reset(task)
    for _ in range(random_actions):
        got = env.step(rng.choice([action for action in env.valid_actions() if action != "finish"]))
    while not got.done:
        got = env.step(EXPERT.act_in(env))
        assert got.info["valid"]
    return got


@pytest.mark.parametrize("level", EXPERIMENT_LEVELS)
def test_it_fulfils_nearly_every_mission_within_eight_rounds(level):
    env = make_env("babyai", text="compact", form="declared", max_rounds=8)
    tasks = level_tasks([level], range(60))
    assert sum(finished(env, task).reward for task in tasks) / len(tasks) >= 0.97


@pytest.mark.parametrize("text", ["agentgym", "compact"])
@pytest.mark.parametrize("level", EXPERIMENT_LEVELS)
def test_random_actions_before_it_do_not_confuse_it(level, text):
    env = make_env("babyai", text=text, form="declared", max_rounds=40)
    for task in level_tasks([level], range(25)):
        assert finished(env, task, random_actions=4).reward == 1


def test_it_does_not_finish_before_the_mission_is_fulfilled():
    env = make_env("babyai", text="compact", form="declared", max_rounds=30)
    for task in level_tasks(EXPERIMENT_LEVELS, range(60, 80)):
        got = finished(env, task)
        assert not got.terminated or got.reward == 1


def test_the_same_state_gives_the_same_action():
    env = make_env("babyai", text="compact", form="declared")
    for task in level_tasks(EXPERIMENT_LEVELS, range(5)):
        env.reset(task)
        assert EXPERT.act_in(env) == EXPERT.act_in(env.fork())


def played(env, rounds=30):
    for _ in range(rounds):
        got = env.step(EXPERT.act_in(env))
        if got.done:
            return got.reward
    return 0


def test_a_thing_in_the_only_way_is_carried_away(babyai_env):
    row = {(x, 3): Box("grey") for x in range(1, 7)}
    env = babyai_env({**row, (3, 1): Ball("red")}, PickupInstr(ObjDesc("ball", "red")), form="declared")
    assert played(env) == 1


def test_a_door_opened_too_early_is_opened_again(babyai_env):
    mission = BeforeInstr(OpenInstr(ObjDesc("door", "red")), OpenInstr(ObjDesc("door", "blue")))
    env = babyai_env({(3, 4): Door("blue"), (4, 5): Door("red")}, mission, form="declared")
    env.step("toggle")
    assert played(env) == 1


def test_a_failure_for_good_is_finished_at_once(babyai_env):
    mission = BeforeInstr(OpenInstr(ObjDesc("door", "red")), OpenInstr(ObjDesc("door", "blue")))
    env = babyai_env({(3, 4): Door("blue"), (4, 5): Door("red")}, mission, form="declared", strict_order=True)
    env.step("toggle")
    assert EXPERT.act_in(env) == "finish"


def test_the_key_of_a_locked_door_is_fetched_and_other_things_are_put_down(babyai_env):
    door = {(0, 3): Door("red", is_locked=True)}
    mission = OpenInstr(ObjDesc("door", "red"))
    env = babyai_env({**door, (6, 6): Key("red")}, mission, carrying=Ball("grey"), form="declared")
    assert played(env) == 1


def test_a_thing_is_put_next_to_another(babyai_env):
    mission = PutNextInstr(ObjDesc("ball", "red"), ObjDesc("key", "blue"))
    env = babyai_env({(1, 1): Ball("red"), (6, 6): Key("blue")}, mission, form="declared")
    assert played(env) == 1


def test_it_needs_a_running_episode():
    with pytest.raises(RuntimeError, match="reset"):
        EXPERT.act_in(make_env("babyai"))


def test_it_solves_agentgyms_levels_within_twenty_rounds():
    env = make_env("babyai", max_rounds=20)
    tasks = level_tasks([LEVELS[number - 1] for number in SPLIT_LEVELS], range(10))
    unsolved = [task for task in tasks if not finished(env, task).terminated]
    assert unsolved == ["babyai_246"]  # its only yellow key lies behind the yellow door


def test_a_uniformly_random_actor_solves_about_half_of_agentgyms_tasks_within_twenty_rounds():
    env, rng = make_env("babyai", max_rounds=20), random.Random(0)
    tasks = level_tasks([LEVELS[number - 1] for number in SPLIT_LEVELS], range(20))
    solved = 0
    for task in tasks:
        got = env.reset(task)
        while not got.done:
            got = env.step(rng.choice(env.valid_actions()))
        solved += got.info["goal"]
    assert 0.4 < solved / len(tasks) < 0.6
