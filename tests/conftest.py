"""Fixtures that tests of several rooms share; they import what they need themselves, so that other tests do not pay.

Hand-made BabyAI worlds are a room of eight by eight with only what the test lays into it. The agent stands at (3, 5)
and looks up, so that (3, 4) is before it and (4, 5) to its right.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile

import pytest

# Tests compile far more than they run: what they and the processes that they start compile is not optimised.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
# What one of them has compiled, the others read: it is kept by its program, its flags and the version of JAX.
# The folder lasts as long as the run; workers have it from the process that starts them.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="agentprm-compiled-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
# Tests interrupt themselves and the processes that they start, which a shell's background jobs would ignore.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def babyai_world():
    """Makes a world: `babyai_world(things by cell, instruction, carrying)`; the instruction is made the mission."""
    return _make_world


@pytest.fixture
def babyai_env():
    """Makes an environment in which such a world runs: `babyai_env(things, instruction, carrying, **options)`."""
    return _make_running


@pytest.fixture
def chat_server():
    """A chat server on loopback that can be told to fail; see `tests.chat_server`."""
    from tests.chat_server import ChatServer

    with ChatServer() as server:
        yield server


def _make_world(things, instruction=None, carrying=None):
    from agentprm_jax.envs.babyai_levels import make_level
    from agentprm_jax.envs.babyai_world import World

    level = make_level("GoToRedBallNoDists", 0)
    for x in range(1, 7):
        for y in range(1, 7):
            level.grid.set(x, y, None)
    for (x, y), thing in things.items():
        level.put_obj(thing, x, y)
    level.agent_pos, level.agent_dir, level.carrying = (3, 5), 3, carrying
    if carrying is not None:
        carrying.cur_pos = (-1, -1)
    if instruction is not None:
        level.instrs = instruction
        level.mission = instruction.surface(level)
        instruction.reset_verifier(level)
    return World(level)


def _make_running(things, instruction=None, carrying=None, **options):
    from agentprm_jax.envs import make_env
    from agentprm_jax.envs.babyai_mission import Progress
    from agentprm_jax.envs.babyai_scene import look

    env = make_env("babyai", **options)
    env.reset("babyai_2")
    env.world = _make_world(things, instruction, carrying)
    env.progress = Progress(env.world, strict_order=env.options.strict_order)
    env.scene = look(env.world)
    return env
