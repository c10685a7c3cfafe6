from __future__ import annotations

import random

import pytest
from minigrid.core.world_object import Ball, Box, Door, Key

from agentprm_jax.envs import make_env
from agentprm_jax.envs.babyai import LEVELS, level_tasks
from agentprm_jax.envs.babyai_compact import COMPACT_WORDS, LAST_ROUND, to_compact


def test_the_vocabulary_has_fewer_than_a_hundred_different_words():
    assert len(set(COMPACT_WORDS)) == len(COMPACT_WORDS) < 100
    assert all(word == word.strip() and " " not in word for word in COMPACT_WORDS)


def test_observations_and_actions_use_no_other_word():
    env, rng, words = make_env("babyai", text="compact", form="declared", max_rounds=25), random.Random(0), set()
    for task in level_tasks(LEVELS, range(3)):
        got = env.reset(task)
        words.update(got.text.split())
        while not got.done:
            actions = [action for action in env.valid_actions() if action != "finish"]
            words.update(word for action in actions for word in action.split())
            got = env.step(rng.choice([*actions, "nonsense"]))
            words.update(got.text.split())
    assert words <= set(COMPACT_WORDS)


@pytest.mark.parametrize("level", ["GoToLocalS8N7", "UnlockPickupDist", "SynthSeq"])
def test_compact_actions_are_agentgyms_under_other_names(level):
    options = {"number_reachable": False, "form": "declared"}
    for task in level_tasks([level], range(4)):
        long, short, rng = (
            make_env("babyai", **options),
            make_env("babyai", text="compact", form="declared"),
            random.Random(1),
        )
        long.reset(task)
        short.reset(task)
        for _ in range(20):
            actions = [action for action in long.valid_actions() if action not in ("check available actions", "finish")]
            assert [to_compact(action) for action in actions] == short.valid_actions()[:-1]
            assert len({to_compact(action) for action in actions}) == len(actions)
            action = rng.choice(actions)
            assert (
                long.language.read(action, long.scene).moves
                == short.language.read(to_compact(action), short.scene).moves
            )
            long.step(action)
            short.step(to_compact(action))
            assert long.world.pose == short.world.pose
            assert long.scene.view == short.scene.view


def test_an_observation_tells_round_things_wall_and_hands(babyai_env):
    env = babyai_env(
        {(3, 3): Ball("red"), (2, 4): Ball("red"), (5, 5): Box("blue"), (3, 0): Door("grey")}, text="compact"
    )
    expected = "red ball 1 a2 c0 red ball 2 a1 l1 blue box 1 a0 r2 grey closed 1 a5 c0 hold nothing"
    assert env.language.describe(env.scene, 0) == f"t0 {expected}"
    assert env.step("left").text == "t1 red ball 1 a1 r1 red ball 2 a0 r2 wall a3 hold nothing"


def test_what_is_carried_is_told(babyai_env):
    env = babyai_env({(3, 3): Key("red")}, text="compact")
    assert env.step("pickup red key 1").text == "t1 wall a4 hold red key"


def test_no_marks_an_impossible_action_and_the_scene_is_told_again(babyai_env):
    env = babyai_env({(3, 4): Ball("red")}, text="compact")
    for action in ("fly", "go blue ball 1", "go red ball 2", "enter red ball 1", "drop", "toggle", "", "finish"):
        got = env.step(action)
        assert got.text.split()[1:] == ["no", "red", "ball", "1", "a1", "c0", "wall", "a5", "hold", "nothing"]
        assert not got.info["valid"]
    assert "no" not in env.step("go red ball 1").text.split()  # possible, though it changes nothing


def test_rounds_beyond_the_last_word_read_like_the_last(babyai_env):
    env = babyai_env({}, text="compact")
    for _ in range(LAST_ROUND + 3):
        text = env.step("left").text
    assert text.startswith(f"t{LAST_ROUND} ")


def test_only_the_first_observation_states_the_mission():
    task = level_tasks(["OpenDoorsOrderN4Debug"], [0])[0]
    env = make_env("babyai", text="compact")
    assert env.reset(task).text.startswith("goal open purple door after open red door t0 ")
    assert "goal" not in env.step("left").text


def test_the_compact_form_has_no_opening():
    assert make_env("babyai", text="compact").opening == ()
    assert [role for role, _ in make_env("babyai").opening] == ["user", "assistant"]


def test_what_has_no_compact_name_is_refused():
    with pytest.raises(ValueError, match="check available actions"):
        to_compact("check available actions")
