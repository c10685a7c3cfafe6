"""Replays recorded exchanges with AgentGym's server; its shown commands are compared as goal, tree and distractors."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from agentprm_jax.envs import make_env
from agentprm_jax.envs.textcraft_recipes import recipe_book
from agentprm_jax.envs.textcraft_text import recipe_text
from agentprm_jax.envs.textcraft_world import item_name

RECORDED = Path(__file__).parents[1] / "recorded" / "agentgym"


def exchanges(name):
    rows = map(json.loads, (RECORDED / name).read_text().splitlines())
    return [
        row
        for row in rows
        if row["status"] == 200 and isinstance(row["response"], dict) and "observation" in row["response"]
    ]


def shown(text):
    """Splits a first observation into its commands and its goal."""
    match = re.fullmatch(r"Crafting commands:\n(.*)\n\nGoal: craft (.*)\.", text, re.DOTALL)
    assert match is not None
    return match[1].split("\n"), match[2]


FIRST_TEXTS = [
    pytest.param(row["response"]["observation"], id=f"{name}-{number}")
    for name in ("textcraft_protocol.jsonl", "textcraft_play.jsonl")
    for number, row in enumerate(exchanges(name))
    if row["path"] in ("/create", "/reset")
]


@pytest.mark.parametrize("recorded", FIRST_TEXTS)
def test_first_observations_show_the_same_goal_and_tree_and_as_many_distractors(recorded):
    book = recipe_book()
    commands, goal = shown(recorded)
    # The protocol was recorded with other load orders, where the index differs, but no recipe does.
    index = book.goals.index(item_name(goal))
    ours, our_goal = shown(make_env("textcraft").reset(f"textcraft_{index}").text)
    assert our_goal == goal
    assert len(ours) == len(set(ours)) == len(commands)
    tree = {recipe_text(recipe) for recipe in book.tree(item_name(goal))}
    assert tree <= set(commands)
    assert tree <= set(ours)


def test_every_recorded_episode_replays_with_equal_texts_rewards_and_ends():
    env = make_env("textcraft")
    compared = 0
    for row in exchanges("textcraft_play.jsonl"):
        expected = row["response"]
        if row["path"] == "/step":
            got = env.step(row["request"]["action"])
            assert got.text == expected["observation"]
            compared += 1
        else:
            got = env.reset(f"textcraft_{row['request'].get('data_idx', 0)}")
            assert shown(got.text)[1] == shown(expected["observation"])[1]
        assert (got.reward, got.done) == (expected["reward"], expected["done"])
    assert compared == 60


def test_a_data_index_wraps_as_recorded():
    env = make_env("textcraft")
    goals = recipe_book().goals
    for index, same in ((100000, 100000 % 544), (-1, 543)):
        assert env.reset(f"textcraft_{index}").text == env.reset(f"textcraft_{same}").text
        assert goals[same] in item_name(env.reset(f"textcraft_{index}").text)
