"""Scores trajectories, and the growing conversations that they consist of, on meshes and without one.

Prints what came out as JSON. Started by test_any_mesh_scoring.py, and by tests of several processes, on fake devices.
"""

import dataclasses
import json
import pathlib
from functools import partial

import jax
import tyro

from agentprm_jax.data import Message, read_trajectories
from agentprm_jax.models.slot_store import copy_slots
from agentprm_jax.scoring import Prm
from agentprm_jax.training import (
    DistributedConfig,
    MeshConfig,
    initialise_distributed,
    make_constrain,
    make_mesh,
    parameter_shardings,
)

COMPILED = "/jax/core/compile/backend_compile_duration"


@dataclasses.dataclass(frozen=True)
class Options:
    prm: pathlib.Path
    trajectories: pathlib.Path
    meshes: tuple[tuple[int, int, int], ...]
    distributed: DistributedConfig = dataclasses.field(default_factory=DistributedConfig)


def results(options):
    """What every mesh gives."""
    programs = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: programs.append(event) if event == COMPILED else None
    )
    made = read_trajectories(options.trajectories)
    return [scored_on(make_mesh(MeshConfig(*mesh)), options.prm, made, programs) for mesh in options.meshes]


def scored_on(mesh, folder, made, programs):
    shardings, constrain = partial(parameter_shardings, mesh), make_constrain(mesh)
    prm = Prm.load(folder, shardings=shardings, constrain=constrain, tokens_per_batch=256, kept_tokens=1 << 12)
    found, tokens = scored(prm, made)
    kernel, store = prm._params["decoder"]["layers"]["attention"]["query"]["kernel"], prm._reader._store
    place = store.keys.sharding
    prm.forget_conversations()
    before = len(programs)
    again, _ = scored(prm, made)
    return {
        "scores": found,
        "scores again": again,
        "tokens": tokens,
        "programs of copies": copy_slots._cache_size(),
        "compiled": before,
        "compiled again": len(programs) - before,
        "query": [kernel.shape, kernel.sharding.shard_shape(kernel.shape), parts(kernel)],
        "kept": [store.keys.shape, place.shard_shape(store.keys.shape), parts(store.keys)],
    }


def scored(prm, made):
    """Promises of whole trajectories and, round by round, of their actions; tokens that were read and tokens kept."""
    scored, kept = prm.tokens_scored, prm.tokens_kept
    promises = [list(one.promise) for one in prm.score(made)]
    rounds = [prm.score_conversations(said) for said in growing(made)]
    return promises + rounds, [prm.tokens_scored - scored, prm.tokens_kept - kept]


def growing(made):
    """The trajectories up to their first actions, then up to their second ones, each with another action beside it.

    In the round after, some go on from the other action as well, so that slots are copied.
    """
    other = Message("assistant", "a b c", action=True)
    forks = []
    for count in range(1, 1 + max(len(one.rewards) for one in made)):
        longer = [one for one in made if len(one.rewards) >= count]
        ends = [[i for i, message in enumerate(one.messages) if message.action][count - 1] for one in longer]
        taken = [list(one.messages[: end + 1]) for one, end in zip(longer, ends, strict=True)]
        yield [said for path in [*forks, *taken] for said in (path, [*path[:-1], other])]
        forks = [
            [*path[:-1], other, Message("user", "d"), Message("assistant", "e", action=True)] for path in taken[-2:]
        ]


def parts(array):
    """Number of different parts that all devices hold."""
    return len({str(index) for index in array.sharding.devices_indices_map(array.shape).values()})


if __name__ == "__main__":
    given = tyro.cli(Options)
    initialise_distributed(given.distributed)
    print(json.dumps(results(given)))
