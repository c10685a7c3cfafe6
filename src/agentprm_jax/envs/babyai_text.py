"""BabyAI in AgentGym's sentences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from agentprm_jax.envs.babyai_cells import EMPTY, NAMES
from agentprm_jax.envs.babyai_macros import Macros, macros
from agentprm_jax.envs.babyai_paths import Paths
from agentprm_jax.envs.babyai_scene import Reading, Scene
from agentprm_jax.envs.babyai_view import AGENT, Sighting, barrier_ahead

_LIST = "In front of you in this room, you can see several objects: "
_COMPLETED = "\n The task is completed."
_NO_CHANGE = "No change in state."
_UNKNOWN = "The action is not recognized. Please check valid actions."


class AgentGymText:
    """The texts of AgentGym's BabyAI, equal to the letter.

    Args:
        blur_order: Replace "then" and "after you" in the goal by "and", as AgentGym does.
        number_reachable: See `babyai_macros.macros`.
        margins: See `babyai_paths.Paths`.
        close_doors: See `babyai_macros.macros`.
        further: Further actions to list after all others.
    """

    def __init__(
        self,
        *,
        blur_order: bool = True,
        number_reachable: bool = True,
        margins: bool = True,
        close_doors: bool = False,
        further: tuple[str, ...] = (),
    ) -> None:
        """Sets the options."""
        self._blur_order = blur_order
        self._number_reachable = number_reachable
        self._margins = margins
        self._close_doors = close_doors
        self._further = further
        self._latest: tuple[Scene, Macros] | None = None

    def first(self, level: Any, scene: Scene) -> str:
        """Returns the goal and the scene."""
        return goal_line(level.mission, blur_order=self._blur_order) + self.describe(scene, 0)

    def read(self, action: str, scene: Scene) -> Reading:
        """Reads a listed action; anything that contains "check" asks for the list."""
        name, found = action.lower().strip(), self._macros(scene)
        if "check" in name:
            return Reading(answer=f"You can take the following actions: {', '.join(self._listed(scene))}")
        if name in found.moves:
            return Reading(found.moves[name], answer=_NO_CHANGE)
        if not name:
            return Reading(possible=False, answer=_NO_CHANGE)
        return Reading(possible=False, answer=found.refusals.get(name, _UNKNOWN))

    def describe(self, scene: Scene, rounds: int, *, completed: bool = False) -> str:
        """Returns what is seen and carried, and the actions."""
        return self._with_actions(description(scene) + _COMPLETED * completed, scene)

    def reply(self, reading: Reading, scene: Scene, rounds: int) -> str:
        """Returns the answer and the actions."""
        return self._with_actions(reading.answer, scene)

    def farewell(self) -> str:
        """Returns the text after `finish`."""
        return "The episode is finished."

    def moves(self, scene: Scene) -> Mapping[str, tuple[int, ...]]:
        """Returns the moves of the actions in AgentGym's order."""
        return self._macros(scene).moves

    def _listed(self, scene: Scene) -> list[str]:
        return [*self._macros(scene).moves, *self._further]

    def _macros(self, scene: Scene) -> Macros:
        """Returns the macro actions, which a scene is asked for when they are listed and when one is read."""
        if self._latest is None or self._latest[0] is not scene:
            paths = Paths(scene.view, scene.direction, margins=self._margins)
            found = macros(
                scene.view,
                scene.things,
                scene.carried,
                paths,
                number_reachable=self._number_reachable,
                close_doors=self._close_doors,
            )
            self._latest = scene, found
        return self._latest[1]

    def _with_actions(self, text: str, scene: Scene) -> str:
        return f"{text}\nAvailable actions: {json.dumps(self._listed(scene))}"


def goal_line(mission: str, *, blur_order: bool = True) -> str:
    """Returns the line before the first observation; with `blur_order` the order of a sequence is lost in it."""
    if not blur_order:
        return f"Your goal: {mission}\n"
    return f"Your goal: {mission.replace('then', 'and').replace('after you', 'and')}\n"


def description(scene: Scene) -> str:
    """Returns what is seen, what lies straight ahead and what is carried."""
    blank = all(code <= EMPTY for code in scene.view[:AGENT] + scene.view[AGENT + 1 :])
    seen = "You cannot see any objects within sight." if blank else _LIST + "".join(map(_sentence, scene.things))
    barrier = barrier_ahead(scene.view)
    facing = f"You are facing a {barrier[0]} {barrier[1]} steps away. " if barrier else ""
    held = "You are not carrying anything." if scene.carried is None else f"You are carrying a {NAMES[scene.carried]}."
    return f"{seen}The room has walls around you. {facing}{held}"


def _sentence(thing: Sighting) -> str:
    if thing.right == 0:
        place = f"right in front of you {thing.forward} steps away"
    else:
        side = "right" if thing.right > 0 else "left"
        place = f"{thing.forward} steps in front of you and {abs(thing.right)} steps to your {side}"
    return f"There is a {thing.name} {thing.number} {place}.  "
