from __future__ import annotations

import random

import pytest

from agentprm_jax.actors.textcraft_expert import TextCraftExpert
from agentprm_jax.envs import make_env
from agentprm_jax.envs.textcraft_compact import LARGEST_COUNT, MANY, CompactText, compact_words
from agentprm_jax.envs.textcraft_recipes import recipe_book
from agentprm_jax.envs.textcraft_world import Craft, Get, Look, Unreadable


def started(task="textcraft_3", actions=(), **options):
    env = make_env("textcraft", text="compact", **options)
    env.reset(task)
    for action in actions:
        env.step(action)
    return env


def test_every_word_of_every_task_solved_by_the_expert_is_in_the_vocabulary():
    words = set(compact_words())
    env, expert = make_env("textcraft", text="compact", form="declared"), TextCraftExpert()
    for index in range(len(recipe_book().goals)):
        observation = env.reset(f"textcraft_{index}")
        said = observation.text.split()
        while not observation.done:
            action = expert.act_in(env)
            observation = env.step(action)
            said += action.split() + observation.text.split()
        assert set(said) <= words
        assert observation.reward == 1.0


def test_no_word_stands_twice_in_the_vocabulary_and_none_has_a_blank():
    assert len(compact_words()) == len(set(compact_words()))
    assert all(word.split() == [word] for word in compact_words())


def test_the_first_observation_has_the_goal_and_then_the_recipes():
    assert started().reset("textcraft_3").text == "goal birch planks ; 4 birch planks : 1 birch logs"


def test_two_distractors_are_shown_unless_asked_otherwise():
    tree = len(recipe_book().tree("stick"))
    task = f"textcraft_{recipe_book().goals.index('stick')}"
    for options, limit in (({}, 2), ({"distractors": 0}, 0), ({"distractors": 7}, 7)):
        assert started(**options).reset(task).text.count(":") == tree + limit


def test_answers_say_whether_it_worked_and_what_is_carried():
    env = started()
    texts = [env.step(action).text for action in ("inventory", "get 2 birch logs", "get 1 birch planks", "jump")]
    assert texts == ["ok ; nothing", "ok ; 2 birch logs", "no ; 2 birch logs", "no ; 2 birch logs"]
    assert env.step("craft birch planks : 1 birch logs").text == "ok ; 1 birch logs 4 birch planks"


def test_amounts_above_the_largest_number_read_many():
    env = started(actions=[f"get {LARGEST_COUNT} string"])
    assert env.step("get 1 string").text == f"ok ; {MANY} string"
    assert not env.step(f"get {LARGEST_COUNT + 1} string").info["valid"]


@pytest.mark.parametrize(
    "command",
    [
        Get(3, "dark oak logs"),
        Craft(1, "bow", ((3, "stick"), (3, "string"))),
        Look(),
    ],
)
def test_what_is_written_is_read_again(command):
    assert CompactText().read(CompactText().write(command)) == command


@pytest.mark.parametrize(
    "action",
    [
        "",
        "get",
        "get 1",
        "get stick 1",
        "get 1.5 stick",
        "get 01 string",
        "look",
        "inventory now",
        "craft bow",
        "craft bow :",
        "craft bow : stick",
        "craft bow : 3",
        "craft bow : 3 stick 3",
    ],
)
def test_an_ill_formed_action_is_unreadable(action):
    assert CompactText().read(action) == Unreadable()


def test_both_languages_have_the_same_world_behind_them():
    plain, compact = make_env("textcraft", distractors=2), make_env("textcraft", text="compact")
    for seed in range(20):
        rng = random.Random(seed)
        task = f"textcraft_{rng.randrange(544)}"
        plain.reset(task)
        compact.reset(task)
        for _ in range(30):
            pairs = list(zip(plain.valid_actions(), compact.valid_actions(), strict=True))
            said = rng.choice(pairs)
            first, second = plain.step(said[0]), compact.step(said[1])
            assert plain.world.inventory == compact.world.inventory
            assert (first.reward, first.done, first.info) == (second.reward, second.done, second.info)
