"""What a cell of BabyAI's grid looks like, as one byte, and the facts about each look."""

from __future__ import annotations

from itertools import product
from typing import Any

COLORS = ("red", "green", "blue", "purple", "yellow", "grey")
PORTABLE = ("key", "ball", "box")
DOOR_STATES = ("open", "closed", "locked")

UNSEEN = 0
EMPTY = 1
WALL = 2
_FIRST_THING = 3
_OTHERS = ("goal", "lava", "floor")

_LOOKS: tuple[tuple[str, str, str], ...] = (
    *((kind, color, "") for kind, color in product((*PORTABLE, *_OTHERS), COLORS)),
    *(("door", color, state) for color, state in product(COLORS, DOOR_STATES)),
)
_CODES = {look: code for code, look in enumerate(_LOOKS, start=_FIRST_THING)}

KINDS: tuple[str, ...] = ("unseen", "empty", "wall", *(kind for kind, _, _ in _LOOKS))
"""Kind of thing by code, such as `ball`."""

NAMES: tuple[str, ...] = ("", "", "grey wall", *(" ".join(filter(None, (c, s, k))) for k, c, s in _LOOKS))
"""Name by code, such as `red ball` or `blue locked door`."""

HUES: tuple[str, ...] = ("", "", "grey", *(color for _, color, _ in _LOOKS))
"""Color by code."""

STATES: tuple[str, ...] = ("", "", "", *(state for _, _, state in _LOOKS))
"""`open`, `closed` or `locked` by code, empty for what is no door."""

LISTED = frozenset(code for code, kind in enumerate(KINDS) if kind in ("door", *PORTABLE, "goal", "lava"))
"""Codes of what a description of the view lists."""

BARRIERS = frozenset(code for code, kind in enumerate(KINDS) if kind in ("wall", "box"))
"""Codes that AgentGym calls barriers when they lie straight ahead."""

OBSTACLES = frozenset(code for code, kind in enumerate(KINDS) if kind in ("wall", "lava", *PORTABLE))
"""Codes that the paths of macro actions go around; doors of any state are none."""


def flags(codes: frozenset[int]) -> bytes:
    """Returns a table for `bytes.translate` that gives 1 for these codes and 0 for all others."""
    return bytes(code in codes for code in range(256))


OPAQUE_FLAGS = flags(
    frozenset(c for c, kind in enumerate(KINDS) if kind == "wall" or STATES[c] in ("closed", "locked"))
)
"""Translates codes to 1 where one cannot see what lies behind."""

OBSTACLE_FLAGS = flags(OBSTACLES)
"""Translates codes to 1 at obstacles."""


def cell_code(thing: Any) -> int:
    """Returns the code of a grid cell's content: minigrid's object, or None for an empty cell."""
    if thing is None:
        return EMPTY
    kind = thing.type
    if kind == "wall":
        return WALL
    if kind == "door":
        return _CODES[kind, thing.color, "open" if thing.is_open else "locked" if thing.is_locked else "closed"]
    return _CODES[kind, thing.color, ""]
