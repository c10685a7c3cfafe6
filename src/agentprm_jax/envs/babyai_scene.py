"""What BabyAI's agent perceives at one moment, and what an action text then stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from agentprm_jax.envs.babyai_cells import cell_code
from agentprm_jax.envs.babyai_view import Sighting, sightings
from agentprm_jax.envs.babyai_world import World


class Scene(NamedTuple):
    """What is perceived.

    Attributes:
        view: The codes of the 49 cells of the view, see `babyai_view`.
        things: The things in the view, from near to far.
        carried: Code of what the agent carries, or None.
        direction: The agent's direction in the grid, which the texts do not tell.
    """

    view: bytes
    things: list[Sighting]
    carried: int | None
    direction: int


class Reading(NamedTuple):
    """What an action stands for.

    Attributes:
        moves: The moves to make; empty when the action is known but changes nothing.
        possible: Whether the action is one of those that the scene allows.
        answer: What to say when no move is made.
    """

    moves: tuple[int, ...] = ()
    possible: bool = True
    answer: str = ""


class Language(Protocol):
    """A language in which scenes are described and actions given; it holds no state of an episode."""

    def first(self, level: Any, scene: Scene) -> str:
        """Returns the first observation, which states the mission of minigrid's level."""
        ...

    def read(self, action: str, scene: Scene) -> Reading:
        """Returns what an action stands for."""
        ...

    def describe(self, scene: Scene, rounds: int, *, completed: bool = False) -> str:
        """Returns the observation after moves were made; `completed` has it announced that the mission ended."""
        ...

    def reply(self, reading: Reading, scene: Scene, rounds: int) -> str:
        """Returns the observation after an action without moves."""
        ...

    def farewell(self) -> str:
        """Returns the observation after `finish`, which does not tell whether the mission was fulfilled."""
        ...

    def moves(self, scene: Scene) -> Mapping[str, tuple[int, ...]]:
        """Returns the actions that the scene allows, `finish` left out, with the moves of each."""
        ...


def look(world: World) -> Scene:
    """Returns what the agent of a world perceives."""
    view = world.view()
    carried = world.carried
    return Scene(view, sightings(view), None if carried is None else cell_code(carried), world.level.agent_dir)
