"""What BabyAI's agent sees: the seven by seven cells before it, less those behind walls and closed doors.

A view is 49 codes (see `babyai_cells`), row by row from the farthest, each from left to right; the agent looks up from
the middle of the last row. The visible cells and their codes are exactly those of minigrid's own observation image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from operator import itemgetter
from typing import NamedTuple

from agentprm_jax.envs.babyai_cells import BARRIERS, EMPTY, KINDS, LISTED, NAMES, OPAQUE_FLAGS, WALL

SIZE = 7
AGENT = SIZE * SIZE - SIZE // 2 - 1
"""The agent's own cell in a view."""
FRONT = AGENT - SIZE
"""The cell right before the agent."""

STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Change of (x, y) by one step forward, for the directions right, down, left and up of the grid."""

_MIDDLE = SIZE // 2
_AHEAD = range(FRONT, -1, -SIZE)
_NEAR_TO_FAR = sorted(set(range(SIZE * SIZE)) - {AGENT}, key=lambda c: SIZE - 1 - c // SIZE + abs(c % SIZE - _MIDDLE))
_SORTED = itemgetter(*_NEAR_TO_FAR)


class Sighting(NamedTuple):
    """A listed thing in a view.

    Attributes:
        code: Its look.
        cell: Where in the view it is.
        number: 1 for the nearest thing of its name, 2 for the next.
    """

    code: int
    cell: int
    number: int

    @property
    def name(self) -> str:
        """Its name, such as `blue closed door`."""
        return NAMES[self.code]

    @property
    def forward(self) -> int:
        """Steps from the agent ahead, 0 to 6."""
        return SIZE - 1 - self.cell // SIZE

    @property
    def right(self) -> int:
        """Steps from the agent to the right, -3 to 3."""
        return self.cell % SIZE - _MIDDLE


def sightings(view: bytes) -> list[Sighting]:
    """Returns the things in a view from near to far, those at equal distance row by row from the farthest."""
    found = []
    counts: dict[int, int] = {}
    for cell, code in zip(_NEAR_TO_FAR, _SORTED(view), strict=True):
        if code > WALL and code in LISTED:
            number = counts[code] = counts.get(code, 0) + 1
            found.append(Sighting(code, cell, number))
    return found


def barrier_ahead(view: bytes) -> tuple[str, int] | None:
    """Returns the kind and distance of the nearest wall or box straight ahead, or None."""
    for distance, cell in enumerate(_AHEAD, start=1):
        if view[cell] in BARRIERS:
            return KINDS[view[cell]], distance
    return None


def wall_ahead(view: bytes) -> int | None:
    """Returns the distance of the nearest visible wall straight ahead, or None."""
    for distance, cell in enumerate(_AHEAD, start=1):
        if view[cell] == WALL:
            return distance
    return None


def seen(cells: Sequence[int], width: int, x: int, y: int, direction: int, carried: int = EMPTY) -> bytes:
    """Returns the view from a place in the grid.

    Args:
        cells: The grid's codes row by row, and one more `WALL` at the end that stands for all outside the grid.
        width: Columns of the grid.
        x: The agent's column.
        y: The agent's row.
        direction: 0 to 3, as in `STEPS`.
        carried: Code of what the agent carries, which the agent's own cell of the view shows.
    """
    window = bytes(_window(width, len(cells) // width, x, y, direction)(cells))
    shown = _lit(window.translate(OPAQUE_FLAGS))
    visible = (int.from_bytes(window, "little") & shown).to_bytes(SIZE * SIZE, "little")
    return visible[:AGENT] + bytes((carried,)) + visible[AGENT + 1 :]


@lru_cache(maxsize=1 << 16)
def _window(width: int, height: int, x: int, y: int, direction: int) -> Callable[[Sequence[int]], tuple[int, ...]]:
    """Returns a function that picks the 49 cells of a view from the grid."""
    (fx, fy), (rx, ry) = STEPS[direction], STEPS[(direction + 1) % 4]
    outside = width * height
    indices = []
    for forward in range(SIZE - 1, -1, -1):
        for right in range(-_MIDDLE, _MIDDLE + 1):
            i, j = x + forward * fx + right * rx, y + forward * fy + right * ry
            indices.append(j * width + i if 0 <= i < width and 0 <= j < height else outside)
    return itemgetter(*indices)


@lru_cache(maxsize=1 << 16)
def _lit(opaque: bytes) -> int:
    """Returns a mask over the bytes of a view with all bits set where a cell can be seen.

    Sight spreads row by row away from the agent: from a cell that is seen and lets light through to its neighbours in
    the row, and to the three next to it in the row beyond.
    """
    lit = 1 << _MIDDLE
    mask = 0
    for row in range(SIZE - 1, -1, -1):
        clear = sum(1 << column for column in range(SIZE) if not opaque[row * SIZE + column])
        seen_here, lit = _spread(lit, clear)
        mask |= _bytes_mask(seen_here) << (8 * SIZE * row)
    return mask


@cache
def _spread(lit: int, clear: int) -> tuple[int, int]:
    """Returns the columns seen in a row, and those first lit in the row beyond, as bit sets."""
    here, beyond = lit, 0
    for column, side in (*((c, 1) for c in range(SIZE - 1)), *((c, -1) for c in range(SIZE - 1, 0, -1))):
        if here >> column & 1 and clear >> column & 1:
            here |= 1 << (column + side)
            beyond |= 1 << column | 1 << (column + side)
    return here, beyond


@cache
def _bytes_mask(columns: int) -> int:
    return sum(0xFF << (8 * column) for column in range(SIZE) if columns >> column & 1)
