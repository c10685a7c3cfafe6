from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentprm_jax.envs.textcraft import task_ids
from agentprm_jax.envs.textcraft_recipes import Ingredient, Recipe, build_book, recipe_book

RECORDED = Path(__file__).parents[1] / "recorded" / "agentgym"


@pytest.fixture(scope="module")
def book():
    return recipe_book()


def shapeless(output, *inputs, group=None, count=None):
    result = {"item": f"minecraft:{output}"} | ({} if count is None else {"count": count})
    ingredients = [
        {"tag" if name.startswith("#") else "item": f"minecraft:{name.removeprefix('#')}"} for name in inputs
    ]
    file = {"type": "minecraft:crafting_shapeless", "ingredients": ingredients, "result": result}
    return file if group is None else file | {"group": group}


def test_all_goals_and_depths_are_those_of_agentgym_in_sorted_order(book):
    recorded = json.loads((RECORDED / "textcraft_goals_sorted_order.json").read_text())["goals"]
    assert [[f"minecraft:{goal}", book.depths[goal]] for goal in book.goals] == recorded


@pytest.mark.parametrize("split", ["train", "test"])
def test_task_ids_are_those_of_agentgym(split):
    recorded = json.loads((RECORDED / "textcraft_item_ids.json").read_text())[split]
    assert task_ids(split) == [f"textcraft_{index}" for index in recorded]


def test_development_tasks_are_the_last_74_training_tasks():
    assert task_ids("development") == task_ids("train")[300:]
    assert len(task_ids("development")) == 74


def test_the_book_has_613_recipes_for_544_items(book):
    assert sum(map(len, book.by_item.values())) == 613
    assert len(book.by_item) == 544


def test_an_item_is_either_craftable_or_a_base_item(book):
    assert book.base_items.isdisjoint(book.by_item)
    assert book.items == book.base_items | book.by_item.keys() | (book.items & (book.tags | book.by_tag.keys()))


def test_a_shaped_recipe_counts_its_symbols_and_takes_the_first_alternative():
    file = {
        "type": "minecraft:crafting_shaped",
        "pattern": ["A A", " B "],
        "key": {"A": [{"item": "minecraft:coal"}, {"item": "minecraft:charcoal"}], "B": {"item": "minecraft:stick"}},
        "result": {"item": "minecraft:thing"},
    }
    inputs = (Ingredient(2, "coal", False), Ingredient(1, "stick", False))
    assert build_book([file]).by_item["thing"] == (Recipe("thing", 1, inputs, None),)


def test_equal_ingredients_of_a_shapeless_recipe_are_merged():
    book = build_book([shapeless("thing", "a", "b", "a", count=3)])
    assert book.by_item["thing"][0] == Recipe("thing", 3, (Ingredient(2, "a", False), Ingredient(1, "b", False)), None)


def test_recipes_that_only_unpack_a_block_are_left_out():
    book = build_book([shapeless("ingot", "iron_block"), shapeless("other", "iron_block", "stick")])
    assert set(book.by_item) == {"other"}


def test_of_two_circular_recipes_the_first_read_stays():
    forth, back = shapeless("nugget", "ingot"), shapeless("ingot", "nugget")
    assert set(build_book([forth, back]).by_item) == {"nugget"}
    assert set(build_book([back, forth]).by_item) == {"ingot"}


def test_a_circle_over_several_recipes_is_cut():
    book = build_book([shapeless("b", "a"), shapeless("c", "b"), shapeless("a", "c")])
    assert set(book.by_item) == {"b", "c"}


def test_a_tag_that_no_craftable_item_carries_becomes_an_item():
    book = build_book([shapeless("oak_planks", "#oak_logs", group="planks"), shapeless("stick", "#planks")])
    assert "oak_logs" in book.base_items
    assert book.tags == {"planks"}
    assert book.by_item["oak_planks"][0].inputs == (Ingredient(1, "oak_logs", False),)
    assert book.by_item["stick"][0].inputs == (Ingredient(1, "planks", True),)


def test_depth_is_the_least_over_recipes_of_the_greatest_over_ingredients():
    book = build_book([shapeless("b", "a"), shapeless("c", "b", "a"), shapeless("d", "c"), shapeless("d", "b")])
    assert book.depths == {"b": 1, "c": 2, "d": 2}


def test_a_tree_holds_all_alternatives_and_all_members_of_tags(book):
    outputs = {recipe.output for recipe in book.tree("stick")}
    assert outputs == {"stick", *book.members["planks"]}
    assert len(book.by_item["stick"]) == 2
    assert set(book.by_item["stick"]) <= set(book.tree("stick"))


def test_distractors_use_an_ingredient_of_the_tree_and_are_not_in_it(book):
    for goal in book.goals[::40]:
        tree = book.tree(goal)
        names = {i.name for recipe in tree for i in recipe.inputs}
        distractors = book.distractors(goal, 10)
        assert len(distractors) == len(set(distractors)) <= 10
        assert all(recipe not in tree and names & {i.name for i in recipe.inputs} for recipe in distractors)


def test_fewer_distractors_come_when_fewer_are_asked_for(book):
    assert len(book.distractors("stick", 10)) == 10
    assert len(book.distractors("stick", 3)) == 3
    assert book.distractors("stick", 0) == ()
