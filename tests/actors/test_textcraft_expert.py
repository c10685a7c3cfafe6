from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from agentprm_jax.actors.textcraft_expert import TextCraftExpert
from agentprm_jax.actors.textcraft_planner import plan
from agentprm_jax.envs import make_env, task_ids
from agentprm_jax.envs.textcraft_recipes import recipe_book
from agentprm_jax.envs.textcraft_world import Get, World

ALL_TASKS = [f"textcraft_{index}" for index in range(544)]
RECORDED = Path(__file__).parents[1] / "recorded" / "agentgym" / "textcraft_goals_sorted_order.json"


def rounds(env, task, disturb=lambda env: None):
    """Plays a task with the expert; returns the rounds it took and the final reward."""
    observation, expert, count = env.reset(task), TextCraftExpert(), 0
    while not observation.done:
        observation = env.step(disturb(env) or expert.act_in(env))
        count += 1
        assert observation.info["valid"]
    return count, observation.reward


def test_the_expert_solves_every_task_and_no_later_than_the_recorded_plans():
    env = make_env("textcraft")
    recorded = json.loads(RECORDED.read_text())["merged_plan_len"]
    played = [rounds(env, task) for task in ALL_TASKS]
    assert all(reward == 1.0 for _, reward in played)
    assert all(count <= limit for (count, _), limit in zip(played, recorded, strict=True))


@pytest.mark.parametrize(("limit", "solved"), [(20, 94), (30, 99)])
def test_the_expert_solves_this_many_test_tasks_in_so_many_rounds(limit, solved):
    env = make_env("textcraft", max_rounds=limit)
    assert sum(rounds(env, task)[1] for task in task_ids("textcraft", "test")) == solved


def test_the_declared_form_takes_the_expert_one_round_more():
    plain, declared = make_env("textcraft"), make_env("textcraft", form="declared")
    for task in ALL_TASKS[::10]:
        count, _ = rounds(plain, task)
        assert rounds(declared, task) == (count + 1, 1.0)


@pytest.mark.parametrize("text", ["agentgym", "compact"])
def test_random_actions_do_not_keep_the_expert_from_solving_a_task(text):
    env = make_env("textcraft", form="declared", text=text)
    rng = random.Random(5)

    def disturb(env):
        return rng.choice([a for a in env.valid_actions() if a != "finish"]) if rng.random() < 0.3 else None

    assert all(rounds(env, task, disturb)[1] == 1.0 for task in ALL_TASKS[::4])


def test_a_plan_gets_each_base_item_once_and_ends_with_the_goal():
    book = recipe_book()
    for goal in book.goals:
        commands = plan(book, goal, {})
        got = [command.item for command in commands if isinstance(command, Get)]
        assert len(got) == len(set(got))
        world = World(book, goal)
        assert all(world.perform(command).failure is None for command in commands)
        assert world.goal_held


def test_each_planned_command_makes_the_remaining_plan_one_shorter():
    book = recipe_book()
    for goal in book.goals[::9]:
        world = World(book, goal)
        length = len(plan(book, goal, world.inventory))
        for left in range(length, 0, -1):
            commands = plan(book, goal, world.inventory)
            assert len(commands) <= left
            world.perform(commands[0])
        assert world.goal_held


def test_what_is_carried_serves_as_a_generic_ingredient():
    commands = plan(recipe_book(), "stick", {"warped_planks": 2})
    assert commands == ((4, "stick", ((2, "warped planks"),)),)


def test_a_plan_uses_nothing_twice_that_is_carried_once():
    book = recipe_book()
    rng = random.Random(3)
    for goal in book.goals[::2]:
        parts = sorted({recipe.output for recipe in book.tree(goal)} - {goal})
        carried = {item: rng.randrange(1, 4) for item in rng.sample(parts, len(parts) // 2)}
        world = World(book, goal, dict(carried))
        assert all(world.perform(command).failure is None for command in plan(book, goal, carried))
        assert world.goal_held


def test_what_is_carried_need_not_be_got_again():
    assert plan(recipe_book(), "white_wool", {"string": 3})[0] == Get(1, "string")


def test_planning_leaves_the_inventory_alone():
    inventory = {"string": 3, "oak_planks": 2}
    plan(recipe_book(), "bow", inventory)
    assert inventory == {"string": 3, "oak_planks": 2}


def test_what_cannot_be_crafted_has_no_plan():
    with pytest.raises(ValueError, match="no way to craft 'string'"):
        plan(recipe_book(), "string", {})


def test_the_expert_goes_on_after_the_goal_was_crafted_in_agentgyms_form():
    env, expert = make_env("textcraft"), TextCraftExpert()
    env.reset("textcraft_3")
    assert sum(env.step(expert.act_in(env)).reward for _ in range(4)) == 2.0


def test_the_expert_asks_for_a_running_episode():
    with pytest.raises(RuntimeError, match="call reset"):
        TextCraftExpert().act_in(make_env("textcraft"))
