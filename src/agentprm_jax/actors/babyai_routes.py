"""Ways through BabyAI's whole grid, of which the actor sees only a part: what a scripted expert finds its way by.

A pose is (column, row, direction). Distances count moves; opening a door counts one more. Locked doors without the key
and things in the way do not stop a route, but cost so much that it uses them only where there is no other way: clearing
them is a task of its own.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from agentprm_jax.envs.babyai_view import STEPS
from agentprm_jax.envs.babyai_world import FORWARD, LEFT, RIGHT, TOGGLE, World

Cell = tuple[int, int]
Pose = tuple[int, int, int]

OBSTACLE_COST = 60
"""Cost of a step onto something that has to be carried away first."""
LOCK_COST = 200
"""Cost of a step through a locked door whose key is not at hand."""
FORBIDDEN_COST = 40
"""Cost of a step through a closed door that had better stay closed."""


@dataclass(frozen=True)
class Obstacle:
    """The first thing on a route that has to be cleared, a locked door or something portable."""

    thing: Any
    cell: Cell


class Routes:
    """Distances from poses to the nearest of some goal poses; those farther than the agent's may be missing.

    Args:
        world: The state.
        goals: The poses to reach.
        shut: Doors that had better not be opened.
    """

    def __init__(self, world: World, goals: Iterable[Pose], shut: Collection[Any] = ()) -> None:
        """Searches backwards from the goals to the agent."""
        self._world = world
        self._shut = {id(door) for door in shut}
        self.distances: dict[Pose, int] = {}
        self._search(goals)

    @property
    def exists(self) -> bool:
        """Whether the agent's pose leads to a goal."""
        return self._world.pose in self.distances

    def obstacle(self) -> Obstacle | None:
        """Returns the first obstacle on a shortest route from the agent's pose."""
        pose = self._world.pose
        while self.distances[pose] > 0:
            after = min(_successors(pose), key=lambda next_pose: self._through(pose, next_pose))
            if after[:2] != pose[:2] and self._step_cost(after[:2]) >= OBSTACLE_COST:
                return Obstacle(self._thing(after[:2]), after[:2])
            pose = after
        return None

    def cells(self) -> set[Cell]:
        """Returns the cells of a shortest route from the agent's pose."""
        pose = self._world.pose
        passed = {pose[:2]}
        while self.distances[pose] > 0:
            pose = min(_successors(pose), key=lambda next_pose: self._through(pose, next_pose))
            passed.add(pose[:2])
        return passed

    def _search(self, goals: Iterable[Pose]) -> None:
        best = {goal: 0 for goal in goals if self._step_cost(goal[:2]) is not None}
        queue = [(0, goal) for goal in best]
        heapq.heapify(queue)
        start = self._world.pose
        while queue:
            distance, pose = heapq.heappop(queue)
            if pose in self.distances:
                continue
            self.distances[pose] = distance
            if pose == start:
                return
            for before, cost in self._predecessors(pose):
                if distance + cost < best.get(before, 1 << 30):
                    best[before] = distance + cost
                    heapq.heappush(queue, (distance + cost, before))

    def _predecessors(self, pose: Pose) -> list[tuple[Pose, int]]:
        x, y, direction = pose
        found = [((x, y, (direction - 1) % 4), 1), ((x, y, (direction + 1) % 4), 1)]
        dx, dy = STEPS[direction]
        cost = self._step_cost((x, y))
        if cost is not None and self._step_cost((x - dx, y - dy)) is not None:
            found.append(((x - dx, y - dy, direction), cost))
        return found

    def _through(self, pose: Pose, after: Pose) -> int:
        """Returns the distance from `pose` by way of `after`."""
        cost = 1 if after[:2] == pose[:2] else self._step_cost(after[:2])
        return 1 << 30 if cost is None else cost + self.distances.get(after, 1 << 29)

    def _step_cost(self, cell: Cell) -> int | None:
        """Returns the cost of stepping onto a cell, or None where a wall is."""
        thing = self._thing(cell)
        if thing is None:
            return 1
        if thing.type == "wall":
            return None
        if thing.type != "door":
            return OBSTACLE_COST
        if thing.is_open:
            return 1
        if thing.is_locked and not _is_key_of(self._world.carried, thing):
            return LOCK_COST
        return FORBIDDEN_COST if id(thing) in self._shut else 2

    def _thing(self, cell: Cell) -> Any:
        grid = self._world.level.grid
        return grid.grid[cell[1] * grid.width + cell[0]]


def poses_facing(cells: Iterable[Cell]) -> list[Pose]:
    """Returns the poses right before any of these cells."""
    return [(x - dx, y - dy, direction) for x, y in cells for direction, (dx, dy) in enumerate(STEPS)]


def cells_of(world: World, things: Collection[Any]) -> list[Cell]:
    """Returns where those of the things lie that are in the grid."""
    wanted = {id(thing) for thing in things}
    width = world.level.grid.width
    return [(i % width, i // width) for i, thing in enumerate(world.level.grid.grid) if id(thing) in wanted]


def walk(world: World, moves: Iterable[int]) -> tuple[Pose, Any]:
    """Returns where moves lead the agent in the true grid, and the last thing that they open.

    Moves other than turning, going forward and toggling are left out; the walk ends where the way is barred.
    """
    grid = world.level.grid
    (x, y, direction), opened = world.pose, None
    for move in moves:
        if move in (LEFT, RIGHT):
            direction = (direction + (1 if move == RIGHT else -1)) % 4
            continue
        dx, dy = STEPS[direction]
        thing = grid.grid[(y + dy) * grid.width + x + dx]
        if move == TOGGLE and thing is not None and thing.type == "door":
            opened = thing
        elif move == FORWARD:
            if not (thing is None or thing is opened or thing.can_overlap()):
                break
            x, y = x + dx, y + dy
    return (x, y, direction), opened


def _successors(pose: Pose) -> tuple[Pose, Pose, Pose]:
    x, y, direction = pose
    dx, dy = STEPS[direction]
    return (x + dx, y + dy, direction), (x, y, (direction - 1) % 4), (x, y, (direction + 1) % 4)


def _is_key_of(thing: Any, door: Any) -> bool:
    return thing is not None and thing.type == "key" and thing.color == door.color
