"""TextCraft in few words of a closed vocabulary, for small actors with a word-level tokenizer.

A conversation reads, with `|` between messages (the recipes are the goal's tree and a few others):

    goal stick ; 4 stick : 2 planks ; 4 oak planks : 1 oak logs | get 1 oak logs | ok ; 1 oak logs |
    craft oak planks : 1 oak logs | ok ; 4 oak planks | craft stick : 2 oak planks | ok ; 4 stick 2 oak planks | finish

Each answer says `ok` or `no` and what is carried then, so that it tells all there is to know beside the recipes.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from agentprm_jax.envs.base import FINISH
from agentprm_jax.envs.textcraft_recipes import Recipe, recipe_book
from agentprm_jax.envs.textcraft_world import Command, Craft, Get, Look, Result, Unreadable, World, item_words

LARGEST_COUNT = 64
"""The largest number with a word of its own. No larger one can be asked for; a larger amount carried reads `MANY`."""

MANY = "many"
NOTHING = "nothing"
_COUNTS = {str(count): count for count in range(LARGEST_COUNT + 1)}
_GRAMMAR = ("goal", "get", "craft", "inventory", FINISH, "ok", "no", "over", ":", ";", MANY, NOTHING)


class CompactText:
    """The compact language."""

    largest_count = LARGEST_COUNT

    def first(self, goal: str, recipes: Iterable[Recipe]) -> str:
        """Returns the goal and the recipes."""
        return " ; ".join((f"goal {item_words(goal)}", *map(_recipe, recipes)))

    def read(self, action: str) -> Command:
        """Reads `get <n> <item>`, `craft <item> : <n> <item> …` or `inventory`."""
        match action.split():
            case ["get", count, *item] if count in _COUNTS and item:
                return Get(_COUNTS[count], " ".join(item))
            case ["craft", *words] if ":" in words:
                colon = words.index(":")
                inputs = _read_counted(words[colon + 1 :])
                return Craft(1, " ".join(words[:colon]), inputs) if inputs else Unreadable()
            case ["inventory"]:
                return Look()
        return Unreadable()

    def write(self, command: Command) -> str:
        """Returns the action text of a command; crafting states no count of the output."""
        if isinstance(command, Get):
            return f"get {command.amount} {command.item}"
        if isinstance(command, Craft):
            return f"craft {command.output} : {_counted(command.inputs)}"
        return "inventory" if isinstance(command, Look) else ""

    def answer(self, action: str, command: Command, result: Result, world: World) -> str:
        """Returns whether the command was carried out, and what is carried."""
        carried = _counted((count, item_words(item)) for item, count in sorted(world.inventory.items()) if count > 0)
        return f"{'ok' if result.failure is None else 'no'} ; {carried or NOTHING}"

    def farewell(self) -> str:
        """Returns the text after `finish`."""
        return "over"


@cache
def compact_words() -> tuple[str, ...]:
    """Returns every word that compact observations and well-formed compact actions can have, in a fixed order."""
    book = recipe_book()
    items = {word for name in book.items | book.tags for word in item_words(name).split()}
    return (*_GRAMMAR, *_COUNTS, *sorted(items))


def _recipe(recipe: Recipe) -> str:
    inputs = _counted((ingredient.amount, item_words(ingredient.name)) for ingredient in recipe.inputs)
    return f"{recipe.amount} {item_words(recipe.output)} : {inputs}"


def _counted(items: Iterable[tuple[int, str]]) -> str:
    return " ".join(f"{count if count <= LARGEST_COUNT else MANY} {item}" for count, item in items)


def _read_counted(words: list[str]) -> tuple[tuple[int, str], ...] | None:
    """Splits `1 oak logs 2 string` at its numbers; None when a part lacks its count or its item."""
    parts: list[tuple[int, list[str]]] = []
    for word in words:
        if word in _COUNTS:
            parts.append((_COUNTS[word], []))
        elif parts:
            parts[-1][1].append(word)
        else:
            return None
    if not parts or not all(item for _, item in parts):
        return None
    return tuple((count, " ".join(item)) for count, item in parts)
