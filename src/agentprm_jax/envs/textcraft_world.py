"""The world behind TextCraft's texts: an inventory, and the three commands that look at it or change it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from agentprm_jax.envs.textcraft_recipes import Recipe, RecipeBook


class Get(NamedTuple):
    """Takes `amount` of a base item; `item` is spelt with blanks."""

    amount: int
    item: str


class Craft(NamedTuple):
    """Crafts one batch of `output` from counted items; the stated `amount` of the output changes nothing."""

    amount: int
    output: str
    inputs: tuple[tuple[int, str], ...]


class Look(NamedTuple):
    """Asks for the inventory."""


class Unreadable(NamedTuple):
    """An action that is no command; `part` is the piece that could not be read, when the rest could."""

    part: str | None = None


Command = Get | Craft | Look | Unreadable


class Failure(Enum):
    """Why a command changed nothing."""

    UNREADABLE = "unreadable"
    NOT_GETTABLE = "not gettable"
    NOT_ENOUGH = "not enough items"
    NO_RECIPE = "no such recipe"


class Result(NamedTuple):
    """What came of a command: why it failed, or the recipe that was used."""

    failure: Failure | None = None
    recipe: Recipe | None = None


@dataclass
class World:
    """One player's inventory, and the item that is asked for.

    Attributes:
        book: The recipes; shared between worlds and never changed.
        goal: The item to craft.
        inventory: Item to count, in the order in which the items came in. A `get` of 0 leaves an entry of 0.
    """

    book: RecipeBook
    goal: str
    inventory: dict[str, int] = field(default_factory=dict)

    @property
    def goal_held(self) -> bool:
        """Whether the inventory holds the goal, which can only come from crafting it."""
        return self.inventory.get(self.goal, 0) > 0

    def copy(self) -> World:
        """Returns a world in the same state that can be changed on its own."""
        return World(self.book, self.goal, dict(self.inventory))

    def perform(self, command: Command) -> Result:
        """Carries out one command; one that fails changes nothing."""
        if isinstance(command, Get):
            return self._get(command)
        if isinstance(command, Craft):
            return self._craft(command)
        return Result(Failure.UNREADABLE if isinstance(command, Unreadable) else None)

    def _get(self, command: Get) -> Result:
        item = item_name(command.item)
        if item not in self.book.base_items:
            return Result(Failure.NOT_GETTABLE)
        self.inventory[item] = self.inventory.get(item, 0) + command.amount
        return Result()

    def _craft(self, command: Craft) -> Result:
        inputs = [(count, item_name(words)) for count, words in command.inputs]
        # Tags are never in the inventory, so that a generic ingredient fails here.
        if not all(item in self.inventory and self.inventory[item] >= count for count, item in inputs):
            return Result(Failure.NOT_ENOUGH)
        for recipe in self.book.by_item.get(item_name(command.output), ()):
            if uses_exactly(recipe, inputs, self.book):
                self._apply(recipe, inputs)
                return Result(recipe=recipe)
        return Result(Failure.NO_RECIPE)

    def _apply(self, recipe: Recipe, inputs: list[tuple[int, str]]) -> None:
        for count, item in inputs:
            self.inventory[item] -= count
            if self.inventory[item] == 0:
                del self.inventory[item]
        self.inventory[recipe.output] = self.inventory.get(recipe.output, 0) + recipe.amount


def uses_exactly(recipe: Recipe, inputs: list[tuple[int, str]], book: RecipeBook) -> bool:
    """Whether each ingredient is met by one input of exactly its count, and no input is left over."""
    left = list(inputs)
    for ingredient in recipe.inputs:
        for given in left:
            if given[1] == ingredient.name or (ingredient.is_tag and book.tag_of.get(given[1]) == ingredient.name):
                break
        else:
            return False
        if given[0] != ingredient.amount:
            return False
        left.remove(given)
    return not left


def item_name(words: str) -> str:
    """Returns the item name for its words: `oak_planks` for `oak planks`."""
    return words.replace(" ", "_")


def item_words(name: str) -> str:
    """Returns an item name as it is written in texts: `oak planks` for `oak_planks`."""
    return name.replace("_", " ")
