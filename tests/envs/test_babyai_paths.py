from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from agentprm_jax.envs.babyai_cells import EMPTY, KINDS, WALL
from agentprm_jax.envs.babyai_paths import Paths, facing, standing
from agentprm_jax.envs.babyai_view import AGENT, SIZE

BALL = KINDS.index("ball")
DOOR = KINDS.index("door")
AHEAD = {0: (-1, 0), 1: (0, 1), 2: (1, 0), 3: (0, -1)}
MARGINS = {0: (True, False), 1: (True, True), 2: (False, True), 3: (False, False)}

views = st.lists(st.sampled_from((EMPTY, EMPTY, EMPTY, WALL, BALL, DOOR)), min_size=49, max_size=49).map(bytes)


def queue_path(view, direction, arrived, margins=True):
    """The search as a plain queue: states are marked when their turn comes, and the latest parent counts."""
    behind, beside = MARGINS[direction] if margins else (False, False)
    start = (SIZE - 1, SIZE // 2, 0)
    queue, done, parents = [start], set(), {}
    while queue:
        state = queue.pop(0)
        done.add(state)
        row, column, heading = state
        if arrived(state):
            moves = []
            while state != start:
                state, move = parents[state]
                moves.append(move)
            return tuple(reversed(moves))
        down, across = AHEAD[heading]
        after = (
            ((row + down, column + across, heading), 2),
            ((row, column, (heading - 1) % 4), 0),
            ((row, column, (heading + 1) % 4), 1),
        )
        for target, move in after:
            i, j, _ = target
            inside = 0 <= i < SIZE + behind and 0 <= j < SIZE + beside
            seen = i < SIZE and j < SIZE and (i, j) != (SIZE - 1, SIZE // 2)
            if inside and target not in done and not (seen and view[i * SIZE + j] in (WALL, BALL)):
                queue.append(target)
                parents[target] = state, move
    return None


def faces(cell):
    return lambda state: (state[0] + AHEAD[state[2]][0], state[1] + AHEAD[state[2]][1]) == divmod(cell, SIZE)


@settings(deadline=None, max_examples=60)
@given(
    view=views, direction=st.integers(0, 3), cell=st.integers(0, 48).filter(lambda c: c != AGENT), margins=st.booleans()
)
def test_paths_are_those_of_a_queue_with_repeated_entries(view, direction, cell, margins):
    paths = Paths(view, direction, margins=margins)
    assert paths.to(facing(cell)) == queue_path(view, direction, faces(cell), margins)
    on = lambda state: state[:2] == divmod(cell, SIZE)  # noqa: E731
    assert paths.to(standing(cell)) == queue_path(view, direction, on, margins)


@settings(deadline=None, max_examples=60)
@given(view=views, direction=st.integers(0, 3), cell=st.integers(0, 48))
def test_a_search_that_stops_early_finds_the_same_path(view, direction, cell):
    goals = facing(cell)
    assert Paths(view, direction, goals=goals).to(goals) == Paths(view, direction).to(goals)


def test_one_who_already_faces_the_thing_need_not_move():
    assert Paths(bytes([EMPTY]) * 49, 3).to(facing(AGENT - SIZE)) == ()


def test_a_thing_behind_walls_has_no_path():
    view = bytearray([EMPTY]) * 49
    view[SIZE : 2 * SIZE] = bytes([WALL]) * SIZE
    assert Paths(bytes(view), 3).to(facing(3)) is None
    assert Paths(bytes(view), 3).to(facing(SIZE + 3)) is not None


def test_only_with_margins_a_path_leads_around_the_back():
    view = bytearray([EMPTY]) * 49
    view[AGENT - 1] = view[AGENT - SIZE] = view[AGENT + 1] = WALL
    goals = facing(0)
    assert Paths(bytes(view), 0, margins=True).to(goals) is not None
    assert Paths(bytes(view), 0, margins=False).to(goals) is None
