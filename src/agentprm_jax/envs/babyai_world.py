"""A running BabyAI level: minigrid's objects and verifier, with cheap moves, views and copies of our own."""

from __future__ import annotations

from typing import Any

from minigrid.core.grid import Grid
from minigrid.core.world_object import WorldObj
from minigrid.envs.babyai.core.verifier import Instr, ObjDesc

from agentprm_jax.envs.babyai_cells import EMPTY, WALL, cell_code
from agentprm_jax.envs.babyai_view import STEPS, seen

LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE = range(6)
"""The moves, numbered as in minigrid."""


class World:
    """The state of a level that moves act on.

    Moves change the level's agent, grid and step count as minigrid's own `step` does, without drawing an observation.

    Attributes:
        level: minigrid's level, which holds the state.
        codes: The codes of all cells row by row, and one `WALL` more for what lies outside.
    """

    __slots__ = ("codes", "level")

    def __init__(self, level: Any) -> None:
        """Wraps a level that was just reset."""
        self.level = level
        level.agent_pos = (int(level.agent_pos[0]), int(level.agent_pos[1]))
        level.agent_dir = int(level.agent_dir)
        self.codes = [*map(cell_code, level.grid.grid), WALL]

    @property
    def pose(self) -> tuple[int, int, int]:
        """The agent's column, row and direction."""
        return (*self.level.agent_pos, self.level.agent_dir)

    @property
    def front(self) -> tuple[int, int]:
        """Column and row of the cell before the agent."""
        x, y, direction = self.pose
        dx, dy = STEPS[direction]
        return x + dx, y + dy

    @property
    def front_thing(self) -> WorldObj | None:
        """What lies before the agent."""
        x, y = self.front
        return self.level.grid.grid[y * self.level.grid.width + x]

    @property
    def carried(self) -> WorldObj | None:
        """What the agent carries."""
        return self.level.carrying

    def view(self) -> bytes:
        """Returns what the agent sees, see `babyai_view`; equal exactly when minigrid's images are equal."""
        carried = self.level.carrying
        return seen(self.codes, self.level.grid.width, *self.pose, EMPTY if carried is None else cell_code(carried))

    def move(self, move: int) -> None:
        """Makes one move; it may change nothing but the count of steps."""
        level = self.level
        level.step_count += 1
        if move == LEFT:
            level.agent_dir = (level.agent_dir - 1) % 4
        elif move == RIGHT:
            level.agent_dir = (level.agent_dir + 1) % 4
        elif move == FORWARD:
            thing = self.front_thing
            if thing is None or thing.can_overlap():
                level.agent_pos = self.front
        else:
            self._handle(move)

    def verdict(self, move: int) -> tuple[bool, float]:
        """Returns minigrid's verdict after a move: whether it ends the episode, and its reward."""
        level = self.level
        if move == DROP:
            level.update_objs_poss()
        status = level.instrs.verify(move)
        return status in ("success", "failure"), float(level._reward()) if status == "success" else 0.0

    def copy(self) -> World:
        """Returns an independent copy; walls and what never changes are shared."""
        twin = World.__new__(World)
        twin.level = _copy_level(self.level)
        twin.codes = self.codes.copy()
        return twin

    def _handle(self, move: int) -> None:
        """Picks up, drops or toggles at the cell before the agent."""
        level, (x, y), thing = self.level, self.front, self.front_thing
        if move == TOGGLE and thing is not None:
            thing.toggle(level, (x, y))
        elif move == PICKUP and thing is not None and thing.can_pickup() and level.carrying is None:
            level.carrying = thing
            thing.cur_pos = (-1, -1)
            level.grid.set(x, y, None)
        elif move == DROP and thing is None and level.carrying is not None:
            level.carrying.cur_pos = (x, y)
            level.grid.set(x, y, level.carrying)
            level.carrying = None
        self.codes[y * level.grid.width + x] = cell_code(self.front_thing)


def _copy_level(level: Any) -> Any:
    """Copies a level as far as moves and the verifier can change it or compare by identity."""
    copies: dict[int, Any] = {}
    twin = object.__new__(type(level))
    twin.__dict__.update(level.__dict__)
    twin.grid = Grid.__new__(Grid)
    twin.grid.__dict__.update(level.grid.__dict__)
    twin.grid.grid = [_copy_thing(thing, copies) for thing in level.grid.grid]
    twin.carrying = _copy_thing(level.carrying, copies)
    copies[id(level)] = twin
    twin.instrs = _copy_clause(level.instrs, copies)
    return twin


def _copy_thing(thing: WorldObj | None, copies: dict[int, Any]) -> WorldObj | None:
    if thing is None or thing.type == "wall":
        return thing
    if id(thing) not in copies:
        twin = copies[id(thing)] = object.__new__(type(thing))
        twin.__dict__.update(thing.__dict__, contains=_copy_thing(thing.contains, copies))
    return copies[id(thing)]


def _copy_clause(clause: Any, copies: dict[int, Any]) -> Any:
    """Copies an instruction or a description; things that left the grid for good are copied when first met."""
    if id(clause) not in copies:
        twin = copies[id(clause)] = object.__new__(type(clause))
        twin.__dict__.update({name: _copy_value(value, copies) for name, value in clause.__dict__.items()})
    return copies[id(clause)]


def _copy_value(value: Any, copies: dict[int, Any]) -> Any:
    if isinstance(value, (Instr, ObjDesc)):
        return _copy_clause(value, copies)
    if isinstance(value, WorldObj):
        return _copy_thing(value, copies)
    if isinstance(value, list):
        return [_copy_value(item, copies) for item in value]
    return copies.get(id(value), value)
