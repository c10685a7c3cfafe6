"""Paths of macro actions: breadth-first search over (cell, direction) in the agent's view.

Ties between shortest paths are broken as in AgentGym, where they decide what an interrupted path leaves behind.
Cells are those of a view with one more column on the right and one more row behind; in some directions AgentGym's
paths may use these cells, of which nothing is known.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache

from agentprm_jax.envs.babyai_cells import OBSTACLE_FLAGS
from agentprm_jax.envs.babyai_view import AGENT, SIZE

_COLUMNS = SIZE + 1
_HEADINGS = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""Change of (row, column) by one step: ahead, to the right, back, to the left."""

START = (AGENT // SIZE * _COLUMNS + AGENT % SIZE) * 4
"""The agent's state; a state is 4 * cell + heading."""

_LEFT, _RIGHT, _FORWARD = 0, 1, 2
_NO_MARGIN = (False, False)
_MARGINS = (_NO_MARGIN, _NO_MARGIN, _NO_MARGIN, _NO_MARGIN)
_AGENTGYM_MARGINS = ((True, False), (True, True), (False, True), _NO_MARGIN)
"""Whether the row behind and the column on the right may be used, by the agent's direction in the grid."""

Parents = dict[int, tuple[int, int]]


class Paths:
    """The states that can be reached, in the order in which the search finds them.

    Args:
        view: What the agent sees.
        direction: The agent's direction in the grid.
        margins: Allow the unseen cells that AgentGym allows.
        goals: Stop as soon as one of these states is reached; empty searches all.
    """

    def __init__(self, view: bytes, direction: int, *, margins: bool = True, goals: Collection[int] = ()) -> None:
        """Searches."""
        table = _AGENTGYM_MARGINS if margins else _MARGINS
        self._parents, self._ranks = _search(_blocked(view), _successors(*table[direction]), frozenset(goals))

    def to(self, goals: Collection[int]) -> tuple[int, ...] | None:
        """Returns the moves to the first of these states that the search found, or None."""
        reached = [goal for goal in goals if goal in self._ranks]
        if not reached:
            return None
        state, moves = min(reached, key=self._ranks.__getitem__), []
        while state != START:
            state, move = self._parents[state]
            moves.append(move)
        return tuple(reversed(moves))


@cache
def facing(cell: int) -> tuple[int, ...]:
    """Returns the states next to a cell of the view that face it."""
    row, column = divmod(cell, SIZE)
    states = []
    for heading, (down, across) in enumerate(_HEADINGS):
        i, j = row - down, column - across
        if 0 <= i <= SIZE and 0 <= j <= SIZE:
            states.append((i * _COLUMNS + j) * 4 + heading)
    return tuple(states)


@cache
def standing(cell: int) -> tuple[int, ...]:
    """Returns the states on a cell of the view."""
    row, column = divmod(cell, SIZE)
    return tuple((row * _COLUMNS + column) * 4 + heading for heading in range(4))


def _blocked(view: bytes) -> bytes:
    """Returns 1 for each cell with an obstacle; the agent's own cell shows what it carries, and is free."""
    obstacles = view.translate(OBSTACLE_FLAGS)
    obstacles = obstacles[:AGENT] + b"\0" + obstacles[AGENT + 1 :]
    rows = [obstacles[start : start + SIZE] for start in range(0, SIZE * SIZE, SIZE)]
    return b"\0".join((*rows, bytes(_COLUMNS)))


@cache
def _successors(behind: bool, beside: bool) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Returns for each state what forward, left and right lead to, as (state, move), inside the allowed cells."""
    rows, columns = SIZE + behind, SIZE + beside
    table = []
    for state in range(_COLUMNS * _COLUMNS * 4):
        cell, heading = divmod(state, 4)
        row, column = divmod(cell, _COLUMNS)
        down, across = _HEADINGS[heading]
        i, j = row + down, column + across
        turns = ((4 * cell + (heading - 1) % 4, _LEFT), (4 * cell + (heading + 1) % 4, _RIGHT))
        ahead = (((i * _COLUMNS + j) * 4 + heading, _FORWARD),) if 0 <= i < rows and 0 <= j < columns else ()
        table.append((*ahead, *turns))
    return tuple(table)


def _search(
    blocked: bytes, successors: tuple[tuple[tuple[int, int], ...], ...], goals: frozenset[int]
) -> tuple[Parents, dict[int, int]]:
    """Returns each reached state's parent and move, and its rank in the search.

    AgentGym's queue holds a state as often as it was met before its turn came. A state's turn for being a goal is its
    first one, so ranks follow the order of first meetings; but each later meeting puts another parent in its place, and
    its successors are met again in its last turn. So parents follow the order of last meetings.
    """
    parents: Parents = {}
    ranks = {START: 0}
    by_first: list[int] = [START]
    by_last: list[int] = [START]
    while by_first and not (goals and not goals.isdisjoint(by_first)):
        met = [
            state
            for parent in by_first
            for state, _ in successors[parent]
            if state not in ranks and not blocked[state >> 2]
        ]
        last: Parents = {}
        for parent in by_last:
            for state, move in successors[parent]:
                if state not in ranks and not blocked[state >> 2]:
                    last.pop(state, None)
                    last[state] = parent, move
        by_first, by_last = list(dict.fromkeys(met)), list(last)
        parents.update(last)
        for state in by_first:
            ranks[state] = len(ranks)
    return parents, ranks
