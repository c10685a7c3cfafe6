"""TextCraft's texts as AgentGym writes and reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Protocol

from agentprm_jax.envs.textcraft_recipes import Recipe
from agentprm_jax.envs.textcraft_world import (
    Command,
    Craft,
    Failure,
    Get,
    Look,
    Result,
    Unreadable,
    World,
    item_name,
    item_words,
)

# Longer numbers are no counts: Python refuses to read integers of more than some thousand digits.
_COUNT = r"([0-9]{1,18})"
_CRAFT = re.compile(r"craft (.*) using (.*)")
_GET = re.compile(_COUNT.join(("get ", " (.*)")))
_COUNTED = re.compile(_COUNT + " (.*)")


class TextForm(Protocol):
    """A language in which the world is described and commanded; it holds no state.

    Attributes:
        largest_count: The largest amount that an action can name.
    """

    largest_count: int

    def first(self, goal: str, recipes: Iterable[Recipe]) -> str:
        """Returns the first observation: the goal and the recipes to show, in this order."""
        ...

    def read(self, action: str) -> Command:
        """Returns the command that an action text stands for."""
        ...

    def write(self, command: Command) -> str:
        """Returns the action text for a command, such that `read` gives the command again."""
        ...

    def answer(self, action: str, command: Command, result: Result, world: World) -> str:
        """Returns the observation after a command was carried out; `world` is in the state after it."""
        ...

    def farewell(self) -> str:
        """Returns the observation after `finish`, which does not tell whether the goal was reached."""
        ...


class AgentGymText:
    """The texts of AgentGym's TextCraft, equal to the letter except for which distractors are shown and the order."""

    largest_count = 10**18 - 1

    def first(self, goal: str, recipes: Iterable[Recipe]) -> str:
        """Returns the list of crafting commands and the goal."""
        lines = "\n".join(recipe_text(recipe) for recipe in recipes)
        return f"Crafting commands:\n{lines}\n\nGoal: craft {item_words(goal)}."

    def read(self, action: str) -> Command:
        """Reads `craft`, `get` or `inventory` at the start of the action; what follows `inventory` is ignored."""
        if match := _CRAFT.match(action):
            return _read_craft(*match.groups())
        if match := _GET.match(action):
            return Get(int(match[1]), match[2])
        return Look() if action.startswith("inventory") else Unreadable()

    def write(self, command: Command) -> str:
        """Returns the action text of a command."""
        if isinstance(command, Get):
            return f"get {command.amount} {command.item}"
        if isinstance(command, Craft):
            return f"craft {command.amount} {command.output} using {_counted(command.inputs)}"
        return "inventory" if isinstance(command, Look) else ""

    def answer(self, action: str, command: Command, result: Result, world: World) -> str:
        """Returns what was got, crafted or is carried, or why nothing was."""
        if result.failure is not None:
            return _refusal(action, command, result.failure, world)
        if isinstance(command, Get):
            return f"Got {command.amount} {command.item}"
        if result.recipe is not None:
            return f"Crafted {result.recipe.amount} minecraft:{result.recipe.output}"
        return _inventory(world.inventory)

    def farewell(self) -> str:
        """Returns the text after `finish`."""
        return "The episode is finished."


def recipe_text(recipe: Recipe) -> str:
    """Returns a recipe as a crafting command: `craft 4 stick using 2 planks`."""
    inputs = ((ingredient.amount, item_words(ingredient.name)) for ingredient in recipe.inputs)
    return f"craft {recipe.amount} {item_words(recipe.output)} using {_counted(inputs)}"


def _counted(items: Iterable[tuple[int, str]]) -> str:
    return ", ".join(f"{count} {item}" for count, item in items)


def _read_craft(output: str, inputs: str) -> Command:
    match = _COUNTED.match(output)
    count, item = (int(match[1]), match[2]) if match else (1, output)
    counted = []
    for part in map(str.strip, inputs.split(",")):
        match = _COUNTED.match(part)
        if match is None:
            return Unreadable(part)
        counted.append((int(match[1]), match[2]))
    return Craft(count, item, tuple(counted))


def _refusal(action: str, command: Command, failure: Failure, world: World) -> str:
    if isinstance(command, Get):
        return f"Could not find {command.item}"
    if not isinstance(command, Craft):
        part = command.part if isinstance(command, Unreadable) else None
        return f"Could not execute {action}" if part is None else f"Wrong item format: {part}"
    identifier = f"minecraft:{item_name(command.output)}"
    tag, item = (identifier, None) if item_name(command.output) in world.book.tags else (None, identifier)
    if failure is Failure.NOT_ENOUGH:
        return f"Could not find enough items to craft {item}"
    # AgentGym prints the Python value of its own classes here.
    wanted = f"ItemTagWithCount(item_tag=ItemTag(tag={tag!r}, item_id={item!r}), count={command.amount})"
    return f"Could not find a valid recipe for {wanted}"


def _inventory(inventory: Mapping[str, int]) -> str:
    if not inventory:
        return "Inventory: You are not carrying anything."
    return "Inventory: " + "".join(f"[{item_words(item)}] ({count}) " for item, count in inventory.items())
