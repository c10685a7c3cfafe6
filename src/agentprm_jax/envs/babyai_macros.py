"""AgentGym's macro actions in BabyAI: which are listed, the moves of each, and why others are impossible."""

from __future__ import annotations

from dataclasses import dataclass, field

from agentprm_jax.envs.babyai_cells import HUES, KINDS, OBSTACLES, STATES
from agentprm_jax.envs.babyai_paths import Paths, facing, standing
from agentprm_jax.envs.babyai_view import FRONT, Sighting, barrier_ahead
from agentprm_jax.envs.babyai_world import DROP, FORWARD, LEFT, PICKUP, RIGHT, TOGGLE

CHECK = "check available actions"
TURNS = {"turn left": (LEFT,), "turn right": (RIGHT,)}
_NO_PATH = "as there is no path leading to it."


@dataclass
class Macros:
    """The actions of a moment.

    Attributes:
        moves: The moves of each listed action, in the order of listing.
        refusals: What is answered to actions that are known but impossible.
    """

    moves: dict[str, tuple[int, ...]] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)


def macros(
    view: bytes,
    things: list[Sighting],
    carried: int | None,
    paths: Paths,
    *,
    number_reachable: bool = True,
    close_doors: bool = False,
) -> Macros:
    """Returns the macro actions.

    Args:
        view: What the agent sees.
        things: The things in the view.
        carried: Code of what the agent carries, or None.
        paths: All paths in the view.
        number_reachable: Numbers in `pickup` and `go to` count only things that can be reached, as in AgentGym, so that
            they can differ from the numbers in the text.
        close_doors: List `toggle` at an open door, too.
    """
    found = Macros(moves=dict(TURNS))
    _add(found, "move forward", (FORWARD,), forward_refusal(view))
    if carried is None:
        portable = [thing for thing in things if KINDS[thing.code] not in ("door", "goal")]
        _approaches(found, "pickup", portable, paths, (PICKUP,), number_reachable)
    _add(found, "drop", (DROP,), drop_refusal(view, carried))
    counts: dict[str, int] = {}
    for thing in things:
        if KINDS[thing.code] == "door":
            counts[thing.name] = thing.number
            _door(found, thing, carried, paths, counts)
            if thing.cell == FRONT and can_toggle(view, carried, close_doors=close_doors):
                found.moves["toggle"] = (TOGGLE,)
    _approaches(found, "go to", [t for t in things if KINDS[t.code] != "goal"], paths, (), number_reachable)
    found.moves[CHECK] = ()
    return found


def forward_refusal(view: bytes) -> str | None:
    """Returns why `move forward` is impossible, or None; only walls and boxes make it so."""
    barrier = barrier_ahead(view)
    if barrier is not None and barrier[1] == 1:
        return "There is a barrier in front of you, you can't move forward."
    return None


def drop_refusal(view: bytes, carried: int | None) -> str | None:
    """Returns why `drop` is impossible, or None; it is listed before a door, where it changes nothing."""
    if carried is None:
        return "You cannot drop the object, as you are not carrying anything."
    if view[FRONT] in OBSTACLES:
        return "You cannot drop the object, as there is already an object in front of you."
    return None


def lock_refusal(door: int, carried: int | None) -> str | None:
    """Returns why a door with this code cannot be opened with what is carried, or None."""
    if STATES[door] != "locked":
        return None
    if carried is None or KINDS[carried] != "key":
        return "as you are not carrying a key."
    if HUES[carried] != HUES[door]:
        return "as the color of the key you are carrying does not match the color of door."
    return None


def can_toggle(view: bytes, carried: int | None, *, close_doors: bool) -> bool:
    """Returns whether `toggle` is listed: a closed door, a locked one with its key, or an open one is right ahead."""
    state = STATES[view[FRONT]]
    return state != "" and (close_doors or state != "open") and lock_refusal(view[FRONT], carried) is None


def entering(door: Sighting, paths: Paths) -> tuple[int, ...] | None:
    """Returns the moves onto the cell of a door, which is toggled first unless it is open; None without a path."""
    if STATES[door.code] == "open":
        return paths.to(standing(door.cell))
    path = paths.to(facing(door.cell))
    return None if path is None else (*path, TOGGLE, FORWARD)


def _add(found: Macros, action: str, moves: tuple[int, ...], refusal: str | None) -> None:
    if refusal is None:
        found.moves[action] = moves
    else:
        found.refusals[action] = refusal


def _approaches(
    found: Macros, verb: str, things: list[Sighting], paths: Paths, last: tuple[int, ...], number_reachable: bool
) -> None:
    """Adds the actions that walk up to a thing and then make the `last` moves."""
    reached: dict[int, int] = {}
    for thing in things:
        path = paths.to(facing(thing.cell))
        number = reached.get(thing.code, 0) + 1 if number_reachable else thing.number
        action = f"{verb} {thing.name} {number}"
        if path is None:
            found.refusals[action] = f"You cannot {action}, {_NO_PATH}"
        else:
            reached[thing.code] = number
            found.moves[action] = path + last


def _door(found: Macros, door: Sighting, carried: int | None, paths: Paths, counts: dict[str, int]) -> None:
    """Adds the actions on a door; `counts` holds the numbers of the doors so far by name."""
    through = f"go through {door.name} {door.number}"
    moves = entering(door, paths)
    if STATES[door.code] == "open":
        _add(found, through, moves or (), None if moves is not None else f"You cannot {through}, {_NO_PATH}")
        return
    if STATES[door.code] == "closed":
        found.refusals[through] = f"You cannot {through}, as it is closed. You should toggle it first."
    toggle = f"toggle and {through}"
    refusal = lock_refusal(door.code, carried)
    if refusal is not None:
        found.refusals[toggle] = f"You cannot {toggle}, {refusal}"
    elif moves is None:
        # AgentGym prints here its counts of all doors so far in place of the number of this one.
        found.refusals[toggle] = f"You cannot toggle and go through {door.name} {counts}, {_NO_PATH}"
    else:
        found.moves[toggle] = moves
