"""Plans for TextCraft: few commands that craft a goal from what an inventory holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil

from agentprm_jax.envs.textcraft_recipes import Ingredient, Recipe, RecipeBook
from agentprm_jax.envs.textcraft_world import Command, Craft, Get, item_words


@dataclass
class _Draft:
    """A plan in the making.

    Attributes:
        stock: Item to the amount that is or will be carried and is not spoken for.
        gets: Base item to the amount to get, all at once.
        crafts: Batches to craft, in order, each with its inputs.
    """

    stock: dict[str, int]
    gets: dict[str, int] = field(default_factory=dict)
    crafts: list[tuple[Recipe, tuple[tuple[int, str], ...]]] = field(default_factory=list)

    @property
    def cost(self) -> int:
        """The number of commands."""
        return len(self.gets) + len(self.crafts)

    def copy(self) -> _Draft:
        return _Draft(dict(self.stock), dict(self.gets), list(self.crafts))


def plan(book: RecipeBook, goal: str, inventory: Mapping[str, int]) -> tuple[Command, ...]:
    """Plans, depth first, to craft one batch of the goal.

    What is carried is used first. Each base item is got once, right before the first batch that uses it. Between
    several recipes or several members of a tag, the one that adds fewest commands is taken; as choices are made one
    after another, the plan can be longer than the shortest.

    Args:
        book: The recipes.
        goal: A craftable item.
        inventory: Item to count.

    Returns:
        The commands, of which the last crafts the goal.

    Raises:
        ValueError: The goal cannot be crafted.
    """
    draft = _made(book, _Draft({item: count for item, count in inventory.items() if count > 0}), goal, 1, frozenset())
    if draft is None:
        raise ValueError(f"TextCraft has no way to craft {goal!r}.")
    return tuple(_commands(draft))


def _commands(draft: _Draft) -> Iterator[Command]:
    to_get = dict(draft.gets)
    for recipe, inputs in draft.crafts:
        for _, item in inputs:
            if item in to_get:
                yield Get(to_get.pop(item), item_words(item))
        yield Craft(
            recipe.amount, item_words(recipe.output), tuple((count, item_words(item)) for count, item in inputs)
        )


def _obtained(book: RecipeBook, draft: _Draft, item: str, need: int, path: frozenset[str]) -> _Draft | None:
    """Sets `need` of an item aside, changing the draft in place where there is no choice; None when it cannot be."""
    taken = min(draft.stock.get(item, 0), need)
    if taken:
        draft.stock[item] -= taken
    missing = need - taken
    if not missing:
        return draft
    if item in book.base_items:
        draft.gets[item] = draft.gets.get(item, 0) + missing
        return draft
    made = None if item in path else _made(book, draft, item, missing, path)
    if made is not None:
        made.stock[item] -= missing
    return made


def _made(book: RecipeBook, draft: _Draft, item: str, need: int, path: frozenset[str]) -> _Draft | None:
    """Adds at least `need` of a craftable item to the stock, by the recipe that adds fewest commands."""
    recipes = book.by_item.get(item, ())
    options = [draft] if len(recipes) == 1 else [draft.copy() for _ in recipes]
    path = path | {item}
    return _shortest(
        _crafted(book, option, recipe, ceil(need / recipe.amount), path)
        for option, recipe in zip(options, recipes, strict=True)
    )


def _crafted(book: RecipeBook, draft: _Draft, recipe: Recipe, batches: int, path: frozenset[str]) -> _Draft | None:
    """Adds so many batches of one recipe and all that they need."""
    inputs = []
    current: _Draft | None = draft
    for ingredient in recipe.inputs:
        current, item = _ingredient_obtained(book, current, ingredient, batches, path)
        if current is None:
            return None
        inputs.append((ingredient.amount, item))
    current.crafts.extend([(recipe, tuple(inputs))] * batches)
    current.stock[recipe.output] = current.stock.get(recipe.output, 0) + recipe.amount * batches
    return current


def _ingredient_obtained(
    book: RecipeBook, draft: _Draft, ingredient: Ingredient, batches: int, path: frozenset[str]
) -> tuple[_Draft | None, str]:
    """Sets an ingredient aside for some batches; for a tag, the member that adds fewest commands."""
    need = ingredient.amount * batches
    if not ingredient.is_tag:
        return _obtained(book, draft, ingredient.name, need, path), ingredient.name
    members = book.members[ingredient.name]
    drafts = [(_obtained(book, draft.copy(), item, need, path), item) for item in members]
    possible = [(option, item) for option, item in drafts if option is not None]
    return min(possible, key=lambda pair: pair[0].cost, default=(None, ""))


def _shortest(drafts: Iterable[_Draft | None]) -> _Draft | None:
    return min((draft for draft in drafts if draft is not None), key=lambda draft: draft.cost, default=None)
