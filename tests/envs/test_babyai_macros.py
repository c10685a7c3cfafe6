from __future__ import annotations

import random

import pytest
from minigrid.core.world_object import Ball, Box, Door, Key, Wall

from agentprm_jax.envs import make_env
from agentprm_jax.envs.babyai import level_tasks
from agentprm_jax.envs.babyai_world import DROP, FORWARD, PICKUP, TOGGLE

# The agent stands at (3, 5) and looks up; the room's cells are 1 to 6, its walls 0 and 7.


def answer(env, action):
    return env.step(action).text.split("\nAvailable actions:")[0]


def listed(env):
    return [action for action in env.valid_actions() if action != "check available actions"]


def test_actions_are_listed_in_agentgyms_order(babyai_env):
    env = babyai_env({(3, 3): Ball("red"), (2, 4): Key("blue"), (3, 0): Door("green")})
    assert listed(env) == [
        *("turn left", "turn right", "move forward"),
        *("pickup red ball 1", "pickup blue key 1"),
        "toggle and go through green closed door 1",
        *("go to red ball 1", "go to blue key 1", "go to green closed door 1"),
    ]


def test_a_path_ends_before_the_thing_and_pickup_adds_one_move(babyai_env):
    env = babyai_env({(3, 2): Ball("red")})
    moves = env.language.moves(env.scene)
    assert moves["go to red ball 1"] == (FORWARD, FORWARD)
    assert moves["pickup red ball 1"] == (FORWARD, FORWARD, PICKUP)


def boxed_in():
    """A red ball at distance 3 that cannot be reached, seen through keys, and one farther away that can."""
    return {(3, 2): Ball("red"), (3, 3): Key("grey"), (2, 2): Key("grey"), (4, 2): Key("grey"), (3, 1): Key("grey")} | {
        (6, 4): Ball("red")
    }


def test_numbers_in_actions_count_reachable_things_only(babyai_env):
    env = babyai_env(boxed_in())
    assert "There is a red ball 1 right in front of you 3 steps away" in env.language.describe(env.scene, 0)
    assert "go to red ball 1" in listed(env)
    assert "go to red ball 2" not in listed(env)
    env.step("go to red ball 1")
    assert env.world.front == (6, 4)


def test_numbers_are_those_of_the_text_without_that_quirk(babyai_env):
    env = babyai_env(boxed_in(), number_reachable=False)
    assert "go to red ball 1" not in listed(env)
    assert answer(env, "go to red ball 1") == "You cannot go to red ball 1, as there is no path leading to it."
    env.step("go to red ball 2")
    assert env.world.front == (6, 4)


@pytest.mark.parametrize(
    ("things", "carrying", "action", "message"),
    [
        ({(3, 4): Box("red")}, None, "move forward", "There is a barrier in front of you, you can't move forward."),
        ({}, None, "drop", "You cannot drop the object, as you are not carrying anything."),
        (
            {(3, 4): Ball("red")},
            Key("blue"),
            "drop",
            "You cannot drop the object, as there is already an object in front of you.",
        ),
        (
            {(3, 0): Door("red")},
            None,
            "go through red closed door 1",
            "You cannot go through red closed door 1, as it is closed. You should toggle it first.",
        ),
        (
            {(3, 0): Door("red", is_locked=True)},
            Ball("red"),
            "toggle and go through red locked door 1",
            "You cannot toggle and go through red locked door 1, as you are not carrying a key.",
        ),
        (
            {(3, 0): Door("red", is_locked=True)},
            Key("blue"),
            "toggle and go through red locked door 1",
            "You cannot toggle and go through red locked door 1, as the color of the key you are carrying does not "
            "match the color of door.",
        ),
        (
            {(3, 0): Door("red"), (4, 0): Door("grey"), (3, 1): Box("grey"), (2, 1): Box("grey"), (4, 1): Box("red")},
            None,
            "toggle and go through red closed door 1",
            "You cannot toggle and go through red closed door {'red closed door': 1}, "
            "as there is no path leading to it.",
        ),
        (
            {(3, 0): Door("red", is_open=True), (3, 1): Ball("grey")},
            None,
            "go through red open door 1",
            "You cannot go through red open door 1, as there is no path leading to it.",
        ),
        ({}, None, "pick up red ball 1", "The action is not recognized. Please check valid actions."),
        ({}, None, "", "No change in state."),
        ({(3, 4): Ball("red")}, None, "go to red ball 1", "No change in state."),
    ],
)
def test_an_impossible_action_is_answered_with_its_reason_and_moves_nothing(
    babyai_env, things, carrying, action, message
):
    env = babyai_env(things, carrying=carrying)
    pose, steps = env.world.pose, env.world.level.step_count
    assert answer(env, action) == message
    assert (env.world.pose, env.world.level.step_count) == (pose, steps)


def test_actions_are_read_without_regard_to_case_and_blanks_around(babyai_env):
    env = babyai_env({})
    env.step("  Move FORWARD ")
    assert env.world.pose == (3, 4, 3)


def test_anything_with_check_in_it_lists_the_actions(babyai_env):
    env = babyai_env({})
    assert answer(env, "Recheck!").startswith(
        "You can take the following actions: turn left, turn right, move forward,"
    )


def test_only_walls_and_boxes_keep_move_forward_off_the_list(babyai_env):
    assert "move forward" in listed(babyai_env({(3, 4): Ball("red")}))
    assert "move forward" not in listed(babyai_env({(3, 4): Wall()}))


def test_pickup_needs_empty_hands(babyai_env):
    env = babyai_env({(3, 3): Ball("red")}, carrying=Key("blue"))
    assert not any(action.startswith("pickup") for action in listed(env))
    assert "drop" in listed(env)


def test_a_key_of_the_doors_color_unlocks_it(babyai_env):
    env = babyai_env({(3, 4): Door("red", is_locked=True)}, carrying=Key("red"))
    moves = env.language.moves(env.scene)
    assert moves["toggle and go through red locked door 1"] == (TOGGLE, FORWARD)
    assert moves["toggle"] == (TOGGLE,)
    env.step("toggle and go through red locked door 1")
    assert env.world.pose == (3, 4, 3)


def test_toggle_is_listed_at_open_doors_in_declared_form_only(babyai_env):
    things = {(3, 4): Door("red", is_open=True)}
    assert "toggle" not in listed(babyai_env(things))
    env = babyai_env(things, form="declared")
    env.step("toggle")
    assert not env.world.front_thing.is_open


def test_drop_before_a_closed_door_is_listed_and_changes_nothing(babyai_env):
    env = babyai_env({(3, 4): Door("red")}, carrying=Key("blue"))
    assert env.language.moves(env.scene)["drop"] == (DROP,)
    env.step("drop")
    assert env.world.carried is not None


def moves_made(world, moves):
    """Returns how many moves are made until one leaves the view as it was."""
    for made, move in enumerate(moves, start=1):
        before = world.view()
        world.move(move)
        if world.view() == before:
            return made
    return len(moves)


def test_a_macro_stops_after_the_first_move_that_leaves_the_view_as_it_was():
    env, rng = make_env("babyai"), random.Random(0)
    interrupted = 0
    for task in level_tasks(["GoToImpUnlock", "SynthSeq", "UnlockPickupDist"], range(6)):
        env.reset(task)
        for _ in range(25):
            action, moves = rng.choice(list(env.language.moves(env.scene).items()))
            expected = moves_made(env.world.copy(), moves)
            steps = env.world.level.step_count
            done = env.step(action).done
            assert env.world.level.step_count - steps == expected
            interrupted += expected < len(moves)
            if done:
                break
    assert interrupted > 0
