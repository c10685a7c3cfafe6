"""Moves, views, verdicts and copies against minigrid's own step and observation."""

from __future__ import annotations

import contextlib
import io
import random

import gymnasium
import numpy as np
import pytest
from minigrid.core.constants import IDX_TO_COLOR, IDX_TO_OBJECT

from agentprm_jax.envs.babyai_cells import HUES, KINDS, NAMES, STATES
from agentprm_jax.envs.babyai_levels import make_level
from agentprm_jax.envs.babyai_view import SIZE
from agentprm_jax.envs.babyai_world import World

LEVELS = ("GoToLocalS8N7", "PickupLoc", "UnlockPickupDist", "KeyInBox", "PutNextS7N4Carrying", "SynthSeq", "BossLevel")
STATE_NUMBERS = {"": 0, "open": 0, "closed": 1, "locked": 2}


def minigrid_env(name, seed):
    with contextlib.redirect_stdout(io.StringIO()):
        env = gymnasium.make(f"BabyAI-{name}-v0").unwrapped
        env.reset(seed=seed)
    return env


def decoded(image):
    """Returns minigrid's image as (kind, color, state) cell by cell, in the order of our views."""
    cells = []
    for row in range(SIZE):
        for column in range(SIZE):
            kind, color, state = map(int, image[column, row])
            name = IDX_TO_OBJECT[kind]
            cells.append((name, IDX_TO_COLOR[color] if name not in ("unseen", "empty") else "", state))
    return cells


def told(view):
    return [(KINDS[code], HUES[code], STATE_NUMBERS[STATES[code]]) for code in view]


@pytest.mark.parametrize("name", LEVELS)
def test_random_moves_give_minigrids_images_poses_and_verdicts(name):
    for seed in range(3):
        theirs, ours, rng = minigrid_env(name, seed), World(make_level(name, seed)), random.Random(seed)
        for _ in range(150):
            move = rng.choice((0, 1, 2, 2, 2, 3, 4, 5))
            observation, reward, terminated, _, _ = theirs.step(move)
            ours.move(move)
            assert ours.verdict(move) == (terminated, reward)
            assert told(ours.view()) == decoded(observation["image"])
            assert ours.pose == (*theirs.agent_pos, theirs.agent_dir)
            assert ours.level.step_count == theirs.step_count
        np.testing.assert_array_equal(ours.level.grid.encode(), theirs.grid.encode())


@pytest.mark.parametrize("name", LEVELS)
def test_a_copy_goes_on_as_the_original_would_and_leaves_it_alone(name):
    original, rng = World(make_level(name, 1)), random.Random(1)
    for _ in range(40):
        original.move(move := rng.choice((0, 1, 2, 2, 3, 4, 5)))
        original.verdict(move)
    before = (original.view(), original.pose, original.level.grid.encode().tolist())
    moves = [rng.choice((0, 1, 2, 2, 3, 4, 5)) for _ in range(80)]
    traces = []
    for world in (original.copy(), original.copy(), original):
        trace = []
        if world is original:
            assert (original.view(), original.pose, original.level.grid.encode().tolist()) == before
        for move in moves:
            world.move(move)
            trace.append((world.view(), world.pose, world.verdict(move)))
        traces.append(trace)
    assert traces[0] == traces[1] == traces[2]


def test_a_copys_mission_is_about_the_copys_things():
    world = World(make_level("SynthSeq", 3))
    twin = world.copy()
    ours = {id(thing) for thing in world.level.grid.grid if thing is not None and thing.type != "wall"}
    theirs = {id(thing) for thing in twin.level.grid.grid if thing is not None and thing.type != "wall"}
    assert ours.isdisjoint(theirs)
    for clause in (twin.level.instrs.instr_a, twin.level.instrs.instr_b):
        parts = (clause.instr_a, clause.instr_b) if hasattr(clause, "instr_a") else (clause,)
        for part in parts:
            assert part.env is twin.level
            for attribute in ("desc", "desc_move", "desc_fixed"):
                for thing in getattr(getattr(part, attribute, None), "obj_set", []):
                    assert id(thing) in theirs


def test_codes_tell_apart_all_that_minigrids_encoding_tells_apart():
    looks = list(zip(KINDS, HUES, STATES, strict=True))
    assert len(set(looks)) == len(looks) == len(NAMES) < 256
