"""Commands that make sense in a TextCraft state: what a random actor chooses from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

from agentprm_jax.envs.textcraft_recipes import Ingredient, Recipe
from agentprm_jax.envs.textcraft_world import Command, Craft, Get, Look, World, item_words


def possible_commands(world: World, recipes: Iterable[Recipe]) -> list[Command]:
    """Returns commands that would be carried out now, without repetition.

    Args:
        world: The state.
        recipes: The recipes to consider, such as those that the first observation shows.

    Returns:
        In the order of the recipes: a `get` for each base ingredient, in the amount that one batch needs, and a
        `craft` for each way of making a batch from what is carried; `inventory` last.
    """
    found: dict[Command, None] = {}
    for recipe in recipes:
        for ingredient in recipe.inputs:
            if ingredient.name in world.book.base_items:
                found[Get(ingredient.amount, item_words(ingredient.name))] = None
        found.update(dict.fromkeys(_batches(world, recipe)))
    found[Look()] = None
    return list(found)


def _batches(world: World, recipe: Recipe) -> Iterator[Command]:
    for inputs in product(*(_held(world, ingredient) for ingredient in recipe.inputs)):
        yield Craft(recipe.amount, item_words(recipe.output), inputs)


def _held(world: World, ingredient: Ingredient) -> list[tuple[int, str]]:
    """Returns the ways to meet an ingredient from the inventory."""
    names = world.book.members[ingredient.name] if ingredient.is_tag else (ingredient.name,)
    return [
        (ingredient.amount, item_words(name)) for name in names if world.inventory.get(name, 0) >= ingredient.amount
    ]
