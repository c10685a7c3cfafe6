"""TextCraft: craft a Minecraft item from what can be fetched, by AgentGym's rules or in declared form."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any, cast

from agentprm_jax.envs.agentgym import opening
from agentprm_jax.envs.base import (
    FINISH,
    FORMS,
    Environment,
    Observation,
    check_choice,
    check_max_rounds,
    data_index,
    is_finish,
    parse_options,
    require_running,
)
from agentprm_jax.envs.textcraft_choices import possible_commands
from agentprm_jax.envs.textcraft_compact import CompactText
from agentprm_jax.envs.textcraft_recipes import DISTRACTOR_SEED, Recipe, recipe_book
from agentprm_jax.envs.textcraft_splits import split_indices
from agentprm_jax.envs.textcraft_text import AgentGymText, TextForm
from agentprm_jax.envs.textcraft_world import World

NAME = "textcraft"

_TEXTS: dict[str, TextForm] = {"agentgym": AgentGymText(), "compact": CompactText()}


@dataclass(frozen=True)
class TextCraftOptions:
    """How TextCraft behaves; the defaults are AgentGym's."""

    form: str = "agentgym"
    """`agentgym`: crafting the goal pays 1 and ends the episode. `declared`: `finish` ends it, and pays 1 if the
    inventory holds the goal at that moment."""
    text: str = "agentgym"
    """`agentgym`: AgentGym's texts. `compact`: few words from a closed vocabulary, see `compact_words`."""
    max_rounds: int | None = None
    """Actions after which the episode is truncated; None for no limit. AgentGym's controller stops after 20."""
    distractors: int | None = None
    """At most so many recipes are shown beside those that may be needed; None for 10, or 2 in compact text."""
    serve_after_done: bool = True
    """AgentGym goes on serving after the goal was crafted, and pays for crafting it again. False refuses. Matters in
    AgentGym's form only."""
    wrap_index: bool = True
    """AgentGym takes a data index modulo the 544 goals, so that every integer names a task. False refuses others."""

    def __post_init__(self) -> None:
        """Raises ValueError for a value that no TextCraft has."""
        check_choice("form", self.form, FORMS)
        check_choice("text", self.text, tuple(_TEXTS))
        check_max_rounds(self.max_rounds)
        if self.distractors is not None and self.distractors < 0:
            raise ValueError(f"Option 'distractors' must be None or at least 0, got {self.distractors}.")

    @property
    def distractor_limit(self) -> int:
        """The greatest number of distractors."""
        if self.distractors is not None:
            return self.distractors
        return 10 if self.text == "agentgym" else 2


class TextCraft(Environment):
    """One player's TextCraft.

    The `info` of an observation has `valid` (the action was carried out) and `goal` (the inventory holds the goal).

    Attributes:
        options: How it behaves.
        text_form: The language of its texts.
        world: The running episode's inventory and goal; None before `reset`.
    """

    name = NAME

    def __init__(self, options: TextCraftOptions | None = None) -> None:
        """Makes an environment without a running episode."""
        self.options = options or TextCraftOptions()
        self.text_form = _TEXTS[self.options.text]
        self.opening = _opening(self.options)
        self.world: World | None = None
        self._rounds = 0
        self._ended = False

    def reset(self, task: str) -> Observation:
        """Starts the episode of a task with an empty inventory; see `Environment.reset`."""
        goal = goal_of(task, wrap=self.options.wrap_index)
        self.world = World(recipe_book(), goal)
        self._rounds = 0
        self._ended = False
        text = _first_text(goal, self.options.text, self.options.distractor_limit)
        return Observation(text, info={"valid": True, "goal": False})

    def step(self, action: str) -> Observation:
        """Takes one action; see `Environment.step`."""
        world = self._running_world()
        self._rounds += 1
        if self.declared and is_finish(action):
            return self._finish(world)
        command = self.text_form.read(action)
        result = world.perform(command)
        text = self.text_form.answer(action, command, result, world)
        crafted_goal = result.recipe is not None and result.recipe.output == world.goal
        terminated = crafted_goal and not self.declared
        truncated = not terminated and self._out_of_rounds()
        self._ended = truncated or (terminated and not self.options.serve_after_done)
        info = {"valid": result.failure is None, "goal": world.goal_held}
        return Observation(text, float(terminated), terminated, truncated, info)

    def valid_actions(self) -> list[str]:
        """Returns actions that would be carried out now: gets for and batches of the recipes shown, and the rest.

        Many more are valid, since `get` takes any amount of any base item.

        Raises:
            RuntimeError: No episode was started, or it has ended.
        """
        world = self._running_world()
        commands = possible_commands(world, _shown(world.goal, self.options.distractor_limit))
        actions = [self.text_form.write(command) for command in commands]
        return [*actions, FINISH] if self.declared else actions

    def fork(self) -> TextCraft:
        """Returns an independent copy; only the inventory is copied, all else is shared and never changed."""
        twin = copy(self)
        if self.world is not None:
            twin.world = self.world.copy()
        return twin

    @property
    def declared(self) -> bool:
        """Whether the actor ends the episode."""
        return self.options.form == "declared"

    def _running_world(self) -> World:
        require_running(NAME, self.world is not None, self._ended)
        return cast("World", self.world)

    def _out_of_rounds(self) -> bool:
        return self.options.max_rounds is not None and self._rounds >= self.options.max_rounds

    def _finish(self, world: World) -> Observation:
        self._ended = True
        held = world.goal_held
        return Observation(self.text_form.farewell(), float(held), terminated=True, info={"valid": True, "goal": held})


def make(**options: Any) -> TextCraft:
    """Makes a TextCraft with these fields of `TextCraftOptions`.

    Raises:
        ValueError: An option is unknown, or its value is refused.
    """
    return TextCraft(parse_options(NAME, TextCraftOptions, options))


def task_ids(split: str) -> list[str]:
    """Returns the 374 `train` or 100 `test` task ids of AgentGym, `textcraft_<data_idx>`.

    `development` is the last 74 of `train`.

    Raises:
        ValueError: There is no such split.
    """
    return [f"{NAME}_{index}" for index in split_indices(split)]


def goal_of(task: str, *, wrap: bool = True) -> str:
    """Returns the item that a task asks for, such as `blue_banner`; recipes are loaded in sorted order of their files.

    Args:
        task: A task id.
        wrap: Take the data index modulo the number of goals.

    Raises:
        ValueError: The id is not TextCraft's, or lies past the last goal and `wrap` is False.
    """
    goals = recipe_book().goals
    index = data_index(NAME, task)
    if not wrap and not 0 <= index < len(goals):
        raise ValueError(f"Unknown task {task!r}: TextCraft's data indices go from 0 to {len(goals) - 1}.")
    return goals[index % len(goals)]


def task_depth(task: str) -> int:
    """Returns how many levels of crafting lie beneath the goal of a task: 1 to 4."""
    return recipe_book().depths[goal_of(task)]


@cache
def _shown(goal: str, distractors: int) -> tuple[Recipe, ...]:
    book = recipe_book()
    recipes = [*book.tree(goal), *book.distractors(goal, distractors)]
    Random(DISTRACTOR_SEED).shuffle(recipes)
    return tuple(recipes)


@cache
def _first_text(goal: str, text: str, distractors: int) -> str:
    return _TEXTS[text].first(goal, _shown(goal, distractors))


@cache
def _opening(options: TextCraftOptions) -> tuple[tuple[str, str], ...]:
    return opening(NAME, declared=options.form == "declared") if options.text == "agentgym" else ()
