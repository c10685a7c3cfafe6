"""AgentGym's forty BabyAI levels: their names, task ids and splits, and making one from its seed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # minigrid imports pygame, which would greet on stdout

import minigrid  # noqa: F401  registers the levels
from gymnasium.envs.registration import load_env_creator, registry
from minigrid.core.roomgrid import RoomGrid
from minigrid.envs.babyai.core.roomgrid_level import RejectSampling, RoomGridLevel

from agentprm_jax.envs.base import check_choice, data_index

NAME = "babyai"

LEVELS = (
    "GoToRedBallGrey",
    "GoToRedBall",
    "GoToRedBallNoDists",
    "GoToObjS6",
    "GoToLocalS8N7",
    "GoToObjMazeS7",
    "GoToImpUnlock",
    "GoToSeqS5R2",
    "GoToRedBlueBall",
    "GoToDoor",
    "GoToObjDoor",
    "Open",
    "OpenRedDoor",
    "OpenDoorLoc",
    "OpenRedBlueDoorsDebug",
    "OpenDoorsOrderN4Debug",
    "Pickup",
    "UnblockPickup",
    "PickupLoc",
    "PickupDistDebug",
    "PickupAbove",
    "PutNextLocalS6N4",
    "PutNextS7N4Carrying",
    "Unlock",
    "UnlockLocalDist",
    "KeyInBox",
    "UnlockPickupDist",
    "BlockedUnlockPickup",
    "UnlockToUnlock",
    "ActionObjDoor",
    "FindObjS7",
    "KeyCorridorS6R3",
    "OneRoomS20",
    "MoveTwoAcrossS8N9",
    "SynthS5R2",
    "SynthLoc",
    "SynthSeq",
    "MiniBossLevel",
    "BossLevel",
    "BossLevelNoUnlock",
)
"""Level names by AgentGym's level number less one."""

# What minigrid 2.3.1, which AgentGym uses, calls GoToObjS6 was by mistake the level that 3.2.0 calls GoToObjS4.
_RENAMED = {"GoToObjS6": "GoToObjS4"}

SPLIT_LEVELS = (*range(1, 12), 19, 20, 21, 30, 31, 33, 36)
"""Numbers of the 18 levels in AgentGym's train and test sets."""

_SPLIT_SEEDS = {"train": range(45), "test": range(45, 50), "development": range(40, 45)}


def task_ids(split: str) -> list[str]:
    """Returns the 810 `train` or 90 `test` task ids of AgentGym, `babyai_<data_idx>`, in ascending order.

    The lists are inferred from their sizes: 18 levels with 50 seeds each, of which the last five are for testing.
    `development` is the last 90 of `train`.

    Raises:
        ValueError: There is no such split.
    """
    check_choice("split", split, tuple(_SPLIT_SEEDS))
    return _ids(SPLIT_LEVELS, _SPLIT_SEEDS[split])


def level_tasks(levels: Sequence[str], seeds: Iterable[int]) -> list[str]:
    """Returns the task ids of some levels for each seed, the levels taking turns.

    Args:
        levels: Names from `LEVELS`.
        seeds: Seeds of at least 0; there is no greatest one.

    Raises:
        ValueError: A level is unknown or a seed is negative.
    """
    for level in levels:
        check_choice("levels", level, LEVELS)
    return _ids([LEVELS.index(level) + 1 for level in levels], seeds)


def level_and_seed(task: str) -> tuple[str, int]:
    """Returns the level's name and seed of a task id.

    Raises:
        ValueError: The id is not BabyAI's, or its data index is negative.
    """
    index = data_index(NAME, task)
    if index < 0:
        raise ValueError(f"Unknown task {task!r}: Seed must be greater or equal to zero, actual value: {index // 40}")
    return LEVELS[index % len(LEVELS)], index // len(LEVELS)


def make_level(name: str, seed: int) -> Any:
    """Returns a new level, generated from its seed as `gymnasium.make` and `reset(seed=seed)` would."""
    level_class, arguments = _level_class(name)
    level = level_class(**arguments)
    level.reset(seed=seed)
    return level


def _ids(numbers: Sequence[int], seeds: Iterable[int]) -> list[str]:
    indices = [seed * len(LEVELS) + number - 1 for seed in seeds for number in numbers]
    if any(index < 0 for index in indices):
        raise ValueError("Seeds of BabyAI levels must be at least 0, got a negative one.")
    return [f"{NAME}_{index}" for index in indices]


class _Bare(RoomGridLevel):
    """A level that draws no observation, which costs most of minigrid's time, and is silent when it starts over."""

    instrs: Any

    def gen_obs(self) -> dict[str, Any]:
        """Returns nothing: views are taken from the grid."""
        return {}

    def _gen_grid(self, width: int, height: int) -> None:
        """Generates grids until one has a valid mission, with the same random draws as minigrid's own loop."""
        while not self._try_grid(width, height):
            pass
        self.surface = self.mission = self.instrs.surface(self)

    def _try_grid(self, width: int, height: int) -> bool:
        try:
            RoomGrid._gen_grid(self, width, height)
            self.gen_mission()
            self.validate_instrs(self.instrs)
        except (RecursionError, RejectSampling):
            return False
        return True


@cache
def _level_class(name: str) -> tuple[type[Any], dict[str, Any]]:
    spec = registry[f"BabyAI-{_RENAMED.get(name, name)}-v0"]
    level_class: Any = load_env_creator(str(spec.entry_point))
    return type(f"Bare{name}", (_Bare, level_class), {}), dict(spec.kwargs)
