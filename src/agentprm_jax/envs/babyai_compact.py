"""BabyAI in few words of a closed vocabulary, for small actors with a word-level tokenizer.

A conversation reads, with `|` between messages:

    goal open red door then open blue door t0 red closed 1 a2 l1 grey key 1 a3 c0 wall a5 hold nothing |
    enter red closed 1 | t1 wall a4 hold nothing | left | t2 … | finish

Each observation tells the number of the round, what is seen from near to far (color, kind, number among equals, steps
ahead `a`, steps to the `l`eft or `r`ight, or `c`entre), the distance of a wall straight ahead, and what is carried; the
first one starts with the mission. A door is called by its state: `open`, `closed` or `locked`. `no` after the round
says that the action was impossible. Actions are AgentGym's under shorter names, one to one:

    left, right, forward, drop, toggle        turn left, turn right, move forward, drop, toggle
    go red ball 1, go red closed 1            go to red ball 1, go to red closed door 1
    pickup red ball 1                         pickup red ball 1
    enter red open 1                          go through red open door 1
    enter red closed 1, enter red locked 1    toggle and go through red closed door 1, … locked door 1

Numbers in actions are those of the observation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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

from agentprm_jax.envs.babyai_cells import COLORS, DOOR_STATES, HUES, KINDS, PORTABLE, STATES
from agentprm_jax.envs.babyai_macros import (
    CHECK,
    TURNS,
    can_toggle,
    drop_refusal,
    entering,
    forward_refusal,
    lock_refusal,
    macros,
)
from agentprm_jax.envs.babyai_paths import Paths, facing, standing
from agentprm_jax.envs.babyai_scene import Reading, Scene
from agentprm_jax.envs.babyai_view import SIZE, Sighting, wall_ahead
from agentprm_jax.envs.babyai_world import DROP, FORWARD, PICKUP, TOGGLE
from agentprm_jax.envs.base import FINISH

FAREWELL = "end"
LAST_ROUND = 19
"""The last round with a word of its own; later rounds read like it."""
LARGEST_NUMBER = 9
"""The largest number among equals with a word of its own; further things are not told."""

_SIDES = {0: "c0", **{k: f"r{k}" for k in (1, 2, 3)}, **{-k: f"l{k}" for k in (1, 2, 3)}}
_VERBS = {GoToInstr: "go", PickupInstr: "pickup", OpenInstr: "open"}
_SHORT = {"turn left": "left", "turn right": "right", "move forward": "forward", "drop": "drop", "toggle": "toggle"}
_VERBS_LONG = {"toggle and go through ": "enter ", "go through ": "enter ", "go to ": "go ", "pickup ": "pickup "}

COMPACT_WORDS: tuple[str, ...] = tuple(
    dict.fromkeys(
        (
            *("goal", "then", "after", "and", "put", "next", "object", "door", "left", "right", "front", "behind"),
            *(f"t{count}" for count in range(LAST_ROUND + 1)),
            *COLORS,
            *PORTABLE,
            *DOOR_STATES,
            *map(str, range(1, LARGEST_NUMBER + 1)),
            *(f"a{steps}" for steps in range(SIZE)),
            *_SIDES.values(),
            *("wall", "hold", "nothing", "no", "go", "pickup", "enter", *_SHORT.values(), FINISH, FAREWELL),
        )
    )
)
"""Every word of compact observations and of actions that can be possible."""


class CompactText:
    """The compact language.

    Args:
        margins: See `babyai_paths.Paths`.
        close_doors: See `babyai_macros.macros`.
    """

    def __init__(self, *, margins: bool = True, close_doors: bool = False) -> None:
        """Sets the options."""
        self._margins = margins
        self._close_doors = close_doors

    def first(self, level: Any, scene: Scene) -> str:
        """Returns the mission and the scene."""
        return f"goal {mission_text(level.instrs)} {self.describe(scene, 0)}"

    def read(self, action: str, scene: Scene) -> Reading:
        """Reads a compact action."""
        moves = self._moves(action.split(), scene)
        return Reading(possible=False) if moves is None else Reading(moves)

    def describe(self, scene: Scene, rounds: int, *, completed: bool = False) -> str:
        """Returns what is seen and carried; the compact language announces nothing."""
        return f"t{min(rounds, LAST_ROUND)} {_scene_text(scene)}"

    def reply(self, reading: Reading, scene: Scene, rounds: int) -> str:
        """Returns the scene again, with `no` if the action was impossible."""
        refused = "" if reading.possible else "no "
        return f"t{min(rounds, LAST_ROUND)} {refused}{_scene_text(scene)}"

    def farewell(self) -> str:
        """Returns the text after `finish`."""
        return FAREWELL

    def moves(self, scene: Scene) -> Mapping[str, tuple[int, ...]]:
        """Returns the moves of the macro actions by their compact names."""
        paths = Paths(scene.view, scene.direction, margins=self._margins)
        found = macros(
            scene.view, scene.things, scene.carried, paths, number_reachable=False, close_doors=self._close_doors
        )
        return {to_compact(action): moves for action, moves in found.moves.items() if action != CHECK}

    def _moves(self, words: list[str], scene: Scene) -> tuple[int, ...] | None:
        """Returns the moves of an action, or None when it is impossible now; searches no more paths than it needs."""
        match words:
            case [word]:
                return self._simple_moves(word, scene)
            case [verb, color, noun, number]:
                for thing in scene.things:
                    if _noun(thing.code) == noun and HUES[thing.code] == color and str(thing.number) == number:
                        return self._moves_with(verb, thing, scene)
        return None

    def _simple_moves(self, word: str, scene: Scene) -> tuple[int, ...] | None:
        if word in ("left", "right"):
            return TURNS[f"turn {word}"]
        if word == "forward" and forward_refusal(scene.view) is None:
            return (FORWARD,)
        if word == "drop" and drop_refusal(scene.view, scene.carried) is None:
            return (DROP,)
        if word == "toggle" and can_toggle(scene.view, scene.carried, close_doors=self._close_doors):
            return (TOGGLE,)
        return None

    def _moves_with(self, verb: str, thing: Sighting, scene: Scene) -> tuple[int, ...] | None:
        is_door = KINDS[thing.code] == "door"
        if verb == "enter" and is_door and lock_refusal(thing.code, scene.carried) is None:
            goals = standing(thing.cell) if STATES[thing.code] == "open" else facing(thing.cell)
            return entering(thing, self._paths(scene, goals))
        if verb == "go" or (verb == "pickup" and not is_door and scene.carried is None):
            path = self._paths(scene, facing(thing.cell)).to(facing(thing.cell))
            return path if path is None or verb == "go" else (*path, PICKUP)
        return None

    def _paths(self, scene: Scene, goals: tuple[int, ...]) -> Paths:
        return Paths(scene.view, scene.direction, margins=self._margins, goals=goals)


def mission_text(instruction: Any) -> str:
    """Returns the mission of minigrid's instruction in compact words; the order of a sequence is told."""
    if isinstance(instruction, BeforeInstr):
        return f"{mission_text(instruction.instr_a)} then {mission_text(instruction.instr_b)}"
    if isinstance(instruction, AfterInstr):
        return f"{mission_text(instruction.instr_a)} after {mission_text(instruction.instr_b)}"
    if isinstance(instruction, AndInstr):
        return f"{mission_text(instruction.instr_a)} and {mission_text(instruction.instr_b)}"
    if isinstance(instruction, PutNextInstr):
        return f"put {_described(instruction.desc_move)} next {_described(instruction.desc_fixed)}"
    return f"{_VERBS[type(instruction)]} {_described(instruction.desc)}"


def to_compact(action: str) -> str:
    """Returns the compact name of a macro action.

    Raises:
        ValueError: The action has none, as `check available actions`.
    """
    if action in _SHORT:
        return _SHORT[action]
    for long, short in _VERBS_LONG.items():
        if action.startswith(long):
            return short + action.removeprefix(long).replace(" door", "")
    raise ValueError(f"Action {action!r} has no compact name: expected a macro action of BabyAI on a thing or a move.")


def _scene_text(scene: Scene) -> str:
    parts = [_told(thing) for thing in scene.things if thing.number <= LARGEST_NUMBER]
    wall = wall_ahead(scene.view)
    if wall is not None:
        parts.append(f"wall a{wall}")
    parts.append(f"hold {'nothing' if scene.carried is None else _called(scene.carried)}")
    return " ".join(parts)


def _told(thing: Sighting) -> str:
    return f"{_called(thing.code)} {thing.number} a{thing.forward} {_SIDES[thing.right]}"


def _called(code: int) -> str:
    return f"{HUES[code]} {_noun(code)}"


def _noun(code: int) -> str:
    return STATES[code] or KINDS[code]


def _described(description: ObjDesc) -> str:
    return " ".join(filter(None, (description.color, description.type or "object", description.loc)))
