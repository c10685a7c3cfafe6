"""A scripted actor for BabyAI that sees the whole state and makes its plan anew at every action."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from agentprm_jax.actors.babyai_routes import Cell, Obstacle, Pose, Routes, cells_of, poses_facing, walk
from agentprm_jax.envs.babyai import BabyAI
from agentprm_jax.envs.babyai_mission import Clause
from agentprm_jax.envs.babyai_view import STEPS
from agentprm_jax.envs.babyai_world import DROP, PICKUP, TOGGLE, World
from agentprm_jax.envs.base import FINISH

_DEEPEST = 8
"""Tasks within tasks, such as fetching a key for a door behind which a key lies, before a plan is given up."""


class BabyAIExpert:
    """Takes, of the actions that the scene allows, the one that brings it nearest to what is to be done next.

    It looks for the shortest way through the whole grid. Where a locked door or a thing bars it, fetching the key or
    carrying the thing away is done first. It keeps no state, so that other actors' actions cannot confuse it.
    """

    def act_in(self, env: BabyAI) -> str:
        """Returns the next action text for the environment; in declared form `finish` once the mission is fulfilled.

        Raises:
            RuntimeError: The environment was not reset.
        """
        if env.world is None:
            raise RuntimeError("The BabyAI expert needs a running episode: call reset(task) first.")
        progress = env.progress
        if env.options.declared and (progress.failed or progress.fulfilled()):
            return FINISH
        return _Plan(env, env.world).action()


class _Plan:
    """The choice of one action."""

    def __init__(self, env: BabyAI, world: World) -> None:
        self._env = env
        self._world = world
        self._choices: Mapping[str, tuple[int, ...]] = env.language.moves(env.scene)
        last = env.progress.mission.then or env.progress.mission.first
        self._clauses = env.progress.remaining or last
        later = () if env.progress.first_done else env.progress.mission.then
        self._shut = [door for clause in later if clause.kind == "open" for door in clause.things]

    def action(self) -> str:
        """Returns the action that does most for the nearest clause."""
        for clause in self._clauses:
            chosen = self._pursue(clause)
            if chosen is not None:
                return chosen
        return self._first(lambda moves: True)

    def _pursue(self, clause: Clause) -> str | None:
        if clause.kind == "go to":
            return self._go_to(clause.things)
        if clause.kind == "pick up":
            return self._fetch(clause.things, _DEEPEST)
        return self._open(clause.things) if clause.kind == "open" else self._put_next(clause)
