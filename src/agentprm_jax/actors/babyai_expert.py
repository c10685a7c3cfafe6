"""A scripted actor for BabyAI that sees the whole state and makes its plan anew at every action."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from agentprm_jax.actors.babyai_routes import (
    Cell,
    Pose,
    Routes,
    cells_of,
    is_among,
    is_key_of,
    keys_of,
    neighbours,
    poses_facing,
    walk,
)
from agentprm_jax.envs.babyai import BabyAI
from agentprm_jax.envs.babyai_mission import Clause
from agentprm_jax.envs.babyai_view import STEPS
from agentprm_jax.envs.babyai_world import DROP, PICKUP, TOGGLE, World
from agentprm_jax.envs.base import FINISH

_DEEPEST = 8
"""Tasks within tasks, such as fetching a key for a door behind which a key lies, before a plan is given up."""
_FAR = 1 << 30


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
        self._world = world
        self._declared = env.options.declared
        self._choices = env.language.moves(env.scene)
        progress, mission = env.progress, env.progress.mission
        self._clauses = progress.remaining or mission.then or mission.first
        later = () if progress.first_done else mission.then
        self._shut = [door for clause in later if clause.kind == "open" for door in clause.things]
        self._ways: list[Routes] = []

    def action(self) -> str:
        """Returns the action that does most for the first clause for which anything can be done."""
        for clause in self._clauses:
            chosen = self._pursue(clause)
            if chosen is not None:
                return chosen
        return next(iter(self._choices))

    def _pursue(self, clause: Clause) -> str | None:
        if clause.kind == "go to":
            return self._go_to(clause.things)
        if clause.kind == "pick up":
            return self._fetch(clause.things, _DEEPEST)
        return self._open(clause.things, _DEEPEST) if clause.kind == "open" else self._put_next(clause)

    def _go_to(self, things: Sequence[Any]) -> str | None:
        cells = cells_of(self._world, things)
        return self._approach(poses_facing(cells), _DEEPEST) if cells else self._lay_down()

    def _fetch(self, things: Sequence[Any], depth: int) -> str | None:
        """Picks up one of the things; hands are emptied first, but of a key only behind its door."""
        goals = poses_facing(cells_of(self._world, things))
        if self._world.carried is None:
            picking = self._shortest(lambda moves: moves[-1] == PICKUP and self._before(moves[:-1], things))
            return picking or self._approach(goals, depth)
        routes = Routes(self._world, goals, shut=self._shut)
        if not routes.exists:
            return self._lay_down()
        self._ways.append(routes)
        if routes.unlocked() is not None:
            return self._approach(goals, depth)
        obstacle = routes.obstacle()
        if obstacle is not None and obstacle.type == "door" and depth > 0:
            return self._clear(obstacle, depth - 1)
        return self._lay_down()

    def _fetch_for(self, things: Sequence[Any], onward: Sequence[Pose], depth: int) -> str | None:
        """Picks up one of the things to bring it to one of the poses, after clearing the way there."""
        starts = [(*cell, 0) for cell in cells_of(self._world, things)]
        found = (Routes(self._world, onward, shut=self._shut, start=start) for start in starts)
        ways = sorted((way for way in found if way.exists), key=lambda way: way.length)
        if not ways or depth == 0:
            return None
        self._ways.append(ways[0])
        obstacle, unlocked = ways[0].obstacle(), ways[0].unlocked()
        if obstacle is not None:
            return self._clear(obstacle, depth - 1)
        return self._fetch(things, depth) if unlocked is None else self._open([unlocked], depth - 1)

    def _open(self, doors: Sequence[Any], depth: int) -> str | None:
        """Opens one of the doors; if all are open, closes one in order to open it again."""
        closed = [door for door in doors if not door.is_open] or doors
        ready = [door for door in closed if not door.is_locked or is_key_of(self._world.carried, door)]
        if not ready:
            return self._clear(closed[0], depth)
        opening = self._shortest(lambda moves: self._opens(moves, ready))
        return opening or self._approach(poses_facing(cells_of(self._world, ready)), depth, shut=ready)

    def _opens(self, moves: tuple[int, ...], doors: Sequence[Any]) -> bool:
        """Returns whether moves toggle one of the doors, in AgentGym's form with the last move, which alone is paid."""
        if TOGGLE not in moves or (moves[-1] != TOGGLE and not self._declared):
            return False
        return self._before(moves[: moves.index(TOGGLE)], doors)

    def _put_next(self, clause: Clause) -> str | None:
        others = [thing for thing in clause.beside if thing is not self._world.carried]
        spots = [spot for cell in cells_of(self._world, others) for spot in neighbours(cell) if self._is_free(spot)]
        if is_among(self._world.carried, clause.things):
            return self._drop_on(spots)
        if not spots and self._world.carried is not None:
            return self._lay_down()  # beside what is carried nothing can be put
        return self._fetch_for(clause.things, poses_facing(spots), _DEEPEST)

    def _lay_down(self) -> str | None:
        """Drops what is carried where it bars no way that is still to be taken."""
        grid = self._world.level.grid
        free = [(x, y) for y in range(grid.height) for x in range(grid.width) if self._is_free((x, y))]
        spots = [cell for cell in free if not (self._is_beside_door(cell) or self._bars_way(cell))]
        return self._drop_on(spots) or self._drop_on(free)

    def _bars_way(self, cell: Cell) -> bool:
        """Returns whether something laid on a cell would have to be carried away again."""
        return any(way.bars(cell) for way in self._ways)

    def _drop_on(self, spots: Sequence[Cell]) -> str | None:
        if self._world.front in spots:
            return self._shortest(lambda moves: moves == (DROP,))
        return self._approach(poses_facing(spots), _DEEPEST)

    def _approach(self, goals: Sequence[Pose], depth: int, shut: Sequence[Any] = ()) -> str | None:
        """Goes to one of the poses, or clears what bars the way there."""
        routes = Routes(self._world, goals, shut=[*self._shut, *shut])
        if not routes.exists or depth == 0:
            return None
        obstacle = routes.obstacle()
        cleared = self._clear(obstacle, depth - 1) if obstacle is not None else None
        return cleared or self._advance(routes, shut)

    def _clear(self, obstacle: Any, depth: int) -> str | None:
        """Fetches the key of a locked door, or carries a thing away."""
        if obstacle.type != "door":
            return self._fetch([obstacle], depth)
        before = poses_facing(cells_of(self._world, [obstacle]))
        return self._fetch_for(keys_of(self._world, obstacle), before, depth)

    def _advance(self, routes: Routes, shut: Sequence[Any]) -> str | None:
        """Takes the action that ends nearest to the goal; of several, the one of fewest moves."""
        best: tuple[int, int] = (routes.distances[self._world.pose], 0)
        chosen = None
        for action, moves in self._choices.items():
            if not moves or moves[-1] in (PICKUP, DROP):
                continue
            pose, opened = walk(self._world, moves)
            rank = routes.distances.get(pose, _FAR), len(moves)
            if rank < best and not is_among(opened, shut):
                best, chosen = rank, action
        return chosen

    def _shortest(self, fits: Callable[[tuple[int, ...]], bool]) -> str | None:
        """Returns the action of fewest moves among those that fit."""
        fitting = [(len(moves), action) for action, moves in self._choices.items() if moves and fits(moves)]
        return min(fitting)[1] if fitting else None

    def _before(self, moves: Sequence[int], things: Sequence[Any]) -> bool:
        """Returns whether moves end right before one of the things."""
        (x, y, direction), _ = walk(self._world, moves)
        dx, dy = STEPS[direction]
        return is_among(self._world.level.grid.get(x + dx, y + dy), things)

    def _is_free(self, cell: Cell) -> bool:
        return self._world.level.grid.get(*cell) is None and cell != self._world.pose[:2]

    def _is_beside_door(self, cell: Cell) -> bool:
        around = (self._world.level.grid.get(*spot) for spot in neighbours(cell))
        return any(thing is not None and thing.type == "door" for thing in around)
