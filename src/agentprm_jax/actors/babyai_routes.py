"""Ways through BabyAI's whole grid, of which the actor sees only a part: what a scripted expert finds its way by.

A pose is (column, row, direction). Distances count moves; opening a door counts one more. Locked doors without the key
and things in the way do not stop a route, but cost so much that it uses them only where there is no other way: clearing
them is a task of its own.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from functools import partial
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


class Routes:
    """Distances from poses to the nearest of some goal poses; those farther than the start's may be missing.

    Args:
        world: The state.
        goals: The poses to reach.
        shut: Doors that had better not be opened.
        start: Where the route starts; None for the agent's pose.
        barred: A cell on which to imagine a wall.
    """

    def __init__(
        self,
        world: World,
        goals: Iterable[Pose],
        *,
        shut: Collection[Any] = (),
        start: Pose | None = None,
        barred: Cell | None = None,
    ) -> None:
        """Searches backwards from the goals to the start."""
        self._world = world
        self._goals = list(goals)
        self._barred = barred
        self._start = world.pose if start is None else start
        self._shut = {id(door) for door in shut}
        self.distances: dict[Pose, int] = {}
        self._cells: list[Cell] | None = None
        self._search()

    @property
    def exists(self) -> bool:
        """Whether the start leads to a goal."""
        return self._start in self.distances

    @property
    def length(self) -> int:
        """The distance from the start."""
        return self.distances[self._start]

    def cells(self) -> list[Cell]:
        """Returns the cells of a shortest route, that of the start first."""
        if self._cells is None:
            self._cells = self._follow()
        return self._cells

    def obstacle(self) -> Any:
        """Returns the first thing on that route to be cleared, a locked door or something portable, or None."""
        for cell in self.cells()[1:]:
            if (self._step_cost(cell) or 0) >= OBSTACLE_COST:
                return self._thing(cell)
        return None

    def unlocked(self) -> Any:
        """Returns the first locked door on that route that the key which the agent carries opens, or None."""
        things = map(self._thing, self.cells())
        return next((t for t in things if getattr(t, "is_locked", False) and is_key_of(self._world.carried, t)), None)

    def bars(self, cell: Cell) -> bool:
        """Returns whether something on a free cell would leave no other way that is about as short."""
        if cell not in self.cells():
            return False
        detour = Routes(self._world, self._goals, start=self._start, barred=cell)
        return not detour.exists or detour.length >= self.length + OBSTACLE_COST // 2

    def _follow(self) -> list[Cell]:
        pose = self._start
        passed = [pose[:2]]
        while self.distances[pose] > 0:
            pose = min(_successors(pose), key=partial(self._by_way_of, pose))
            if pose[:2] != passed[-1]:
                passed.append(pose[:2])
        return passed

    def _search(self) -> None:
        best = {goal: 0 for goal in self._goals if self._step_cost(goal[:2]) is not None}
        queue = [(0, goal) for goal in best]
        heapq.heapify(queue)
        while queue:
            distance, pose = heapq.heappop(queue)
            if pose in self.distances:
                continue
            self.distances[pose] = distance
            if pose == self._start:
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

    def _by_way_of(self, pose: Pose, after: Pose) -> int:
        """Returns the distance from `pose` by way of `after`."""
        cost = 1 if after[:2] == pose[:2] else self._step_cost(after[:2])
        return 1 << 30 if cost is None else cost + self.distances.get(after, 1 << 29)

    def _step_cost(self, cell: Cell) -> int | None:
        """Returns the cost of stepping onto a cell, or None where a wall is."""
        thing = self._thing(cell)
        if cell == self._barred:
            return None
        if thing is None:
            return 1
        if thing.type == "wall":
            return None
        if thing.type != "door":
            return OBSTACLE_COST
        if thing.is_open:
            return 1
        if thing.is_locked and not is_key_of(self._world.carried, thing):
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


def is_key_of(thing: Any, door: Any) -> bool:
    """Returns whether a thing, or None, is a key that fits the door."""
    return thing is not None and thing.type == "key" and thing.color == door.color


def keys_of(world: World, door: Any) -> list[Any]:
    """Returns the keys in the grid that fit the door."""
    return [thing for thing in world.level.grid.grid if is_key_of(thing, door)]


def is_among(thing: Any, things: Iterable[Any]) -> bool:
    """Returns whether a thing, or None, is one of the things and not merely like one."""
    return any(other is thing for other in things)


def neighbours(cell: Cell) -> list[Cell]:
    """Returns the four cells beside a cell that is not on the rim of the grid."""
    return [(cell[0] + dx, cell[1] + dy) for dx, dy in STEPS]
