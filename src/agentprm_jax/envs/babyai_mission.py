"""Whether a BabyAI mission holds, as a test of the state and of what was achieved before: the declared form's verdict.

The parts of a mission are clauses. A clause holds in a state when

* go to: a matching thing lies right before the agent (who faces it);
* pick up: the agent carries a matching thing;
* open: a matching door is open;
* put next to: a matching thing lies beside another one that matches the second description, neither being carried.

Which things match is settled when the episode starts ("on your left" means left of where the agent started). Walls are
no things, though for BabyAI's own verifier a grey wall is "a grey object".

A clause *happens* at a move after which it holds for a thing for which it did not hold before; going to a thing also
happens at every move after which the agent faces it. So `open` happens when a door is opened, not while it stands open,
as in BabyAI's own verifier. With these, at `finish`

* a mission of one clause is fulfilled if it holds;
* "A and B" is fulfilled if both have happened and at least one of them still holds (one cannot face two things);
* "A, then B" (or "B after you A") is fulfilled if A has happened, B has happened at that move or later, and B still
  holds. If B happened too early it has to happen again: a door opened too early is closed and opened once more. A part
  that itself is "C and D" has happened when both have, and holds when at least one does.

In strict order, the whole of B happening before the whole of A is a failure for good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minigrid.core.world_object import WorldObj
from minigrid.envs.babyai.core.verifier import (
    AfterInstr,
    AndInstr,
    BeforeInstr,
    GoToInstr,
    ObjDesc,
    OpenInstr,
    PickupInstr,
    PutNextInstr,
)

from agentprm_jax.envs.babyai_world import World

_KINDS = {GoToInstr: "go to", PickupInstr: "pick up", OpenInstr: "open", PutNextInstr: "put next"}


@dataclass(frozen=True, eq=False)
class Clause:
    """One thing to do.

    Attributes:
        kind: `go to`, `pick up`, `open` or `put next`.
        things: The things that match, of which one will do.
        beside: For `put next`, the things beside which it may be put.
    """

    kind: str
    things: tuple[WorldObj, ...]
    beside: tuple[WorldObj, ...] = ()

    def holds(self, world: World) -> bool:
        """Returns whether the clause holds now."""
        return bool(self.holding(world))

    def holding(self, world: World) -> frozenset[int]:
        """Returns the positions in `things` for which the clause holds now."""
        if self.kind == "go to":
            return _same(self.things, world.front_thing)
        if self.kind == "pick up":
            return _same(self.things, world.carried)
        if self.kind == "open":
            return frozenset(i for i, door in enumerate(self.things) if getattr(door, "is_open", False))
        return frozenset(i for i, thing in enumerate(self.things) if _lies_beside(world, thing, self.beside))


@dataclass(frozen=True, eq=False)
class Mission:
    """The clauses of a mission.

    Attributes:
        first: Clauses that come first, in any order among themselves.
        then: Clauses that come after all of these; empty in a mission without order.
    """

    first: tuple[Clause, ...]
    then: tuple[Clause, ...] = ()

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """All clauses."""
        return self.first + self.then


def read_mission(instruction: Any) -> Mission:
    """Returns the mission that minigrid's instruction states, whose verifier has been reset."""
    if isinstance(instruction, BeforeInstr):
        return Mission(_clauses(instruction.instr_a), _clauses(instruction.instr_b))
    if isinstance(instruction, AfterInstr):
        return Mission(_clauses(instruction.instr_b), _clauses(instruction.instr_a))
    return Mission(_clauses(instruction))


class Progress:
    """How far the mission of a world has come.

    Args:
        world: The world at the start of the episode.
        strict_order: Doing all of the second part before the first fails for good.
    """

    __slots__ = ("_early", "_happened", "_holding", "failed", "mission", "strict_order", "world")

    def __init__(self, world: World, *, strict_order: bool = False) -> None:
        """Starts at the beginning."""
        self.world = world
        self.mission = read_mission(world.level.instrs)
        self.strict_order = strict_order
        self.failed = False
        self._happened = [False] * len(self.mission.clauses)
        self._early = [False] * len(self.mission.then)
        self._holding = [clause.holding(world) for clause in self.mission.clauses]

    def observe(self) -> None:
        """Takes note of what happened at the last move; call it after each."""
        clauses = self.mission.clauses
        if len(clauses) == 1:
            return
        now = [clause.holding(self.world) for clause in clauses]
        events = [
            bool(new - old) or (clause.kind == "go to" and bool(new))
            for clause, new, old in zip(clauses, now, self._holding, strict=True)
        ]
        self._holding = now
        split = len(self.mission.first)
        self._note(range(split), events)
        if self.first_done:
            self._note(range(split, len(clauses)), events)
        elif self.mission.then:
            self._early = [past or event for past, event in zip(self._early, events[split:], strict=True)]
            self.failed = self.failed or (self.strict_order and all(self._early))

    @property
    def first_done(self) -> bool:
        """Whether the first part of the mission has happened."""
        return all(self._happened[: len(self.mission.first)])

    @property
    def remaining(self) -> tuple[Clause, ...]:
        """The clauses of the part that comes next which have not happened yet (a single one: which does not hold)."""
        clauses = self.mission.clauses
        if len(clauses) == 1:
            return () if clauses[0].holds(self.world) else clauses
        split = len(self.mission.first)
        part = range(split, len(clauses)) if self.first_done else range(split)
        return tuple(clauses[i] for i in part if not self._happened[i])

    def fulfilled(self) -> bool:
        """Returns whether the mission is fulfilled now; see the head of this module."""
        last = self.mission.then or self.mission.first
        holds = any(clause.holds(self.world) for clause in last)
        return holds and not self.failed and (len(self.mission.clauses) == 1 or all(self._happened))

    def copy(self, world: World) -> Progress:
        """Returns the same progress in a copy of the world."""
        twin = Progress.__new__(Progress)
        twin.world = world
        twin.mission = read_mission(world.level.instrs)
        twin.strict_order, twin.failed = self.strict_order, self.failed
        twin._happened, twin._early, twin._holding = self._happened.copy(), self._early.copy(), self._holding.copy()
        return twin

    def _note(self, indices: range, events: list[bool]) -> None:
        for index in indices:
            self._happened[index] = self._happened[index] or events[index]


def _clauses(instruction: Any) -> tuple[Clause, ...]:
    if isinstance(instruction, AndInstr):
        return _clauses(instruction.instr_a) + _clauses(instruction.instr_b)
    kind = _KINDS[type(instruction)]
    if isinstance(instruction, PutNextInstr):
        return (Clause(kind, _matching(instruction.desc_move), _matching(instruction.desc_fixed)),)
    return (Clause(kind, _matching(instruction.desc)),)


def _matching(description: ObjDesc) -> tuple[WorldObj, ...]:
    return tuple(thing for thing in description.obj_set if thing.type != "wall")


def _same(things: tuple[WorldObj, ...], thing: WorldObj | None) -> frozenset[int]:
    return frozenset(i for i, candidate in enumerate(things) if candidate is thing)


def _lies_beside(world: World, thing: WorldObj, others: tuple[WorldObj, ...]) -> bool:
    place = _place(world, thing)
    if place is None:
        return False
    places = [_place(world, other) for other in others if other is not thing]
    return any(abs(place[0] - p[0]) + abs(place[1] - p[1]) == 1 for p in places if p is not None)


def _place(world: World, thing: WorldObj) -> tuple[int, int] | None:
    """Returns column and row of a thing that lies in the grid, or None."""
    if thing.cur_pos is None or thing.cur_pos[0] < 0 or world.level.grid.get(*thing.cur_pos) is not thing:
        return None
    return thing.cur_pos
