"""Trains tiny models as given by the options of `tiny_program`, moving to another mesh in the middle if told to.

Prints what came out as JSON. Started by test_any_mesh.py on fake devices.
"""

import json
import pathlib
import sys
import tempfile

import jax
import numpy as np
from tiny_training import LORA, TRAIN_ALL, RandomBatches, pretrained_base, tiny_program

from agentprm_jax.training import Checkpointer
from agentprm_jax.training.loop import place_batch
from agentprm_jax.training.mesh import path_name
from agentprm_jax.training.state import place_frozen

QUERY = "decoder/layers/attention/query/"


def shards(array):
    """Number of different parts that the devices hold."""
    return len({str(shard.index) for shard in array.addressable_shards})


def run(program, then=None, beginnings=None):
    """Losses and parameters after all updates, and how they lay on the devices.

    Args:
        program: what to train.
        then: the same on another mesh, which goes on from a checkpoint after half of the updates.
        beginnings: pretrained parameters that all training begins with.
    """
    half = program.total_steps if then is None else program.total_steps // 2
    state, losses, batch = updates(program, program.init(jax.random.key(0), beginnings or {}), range(half))
    if then is not None:
        state, more, batch = updates(then, carried_over(state, then), range(half, program.total_steps))
        losses += more
    return {
        "losses": losses,
        "params": [np.asarray(leaf).ravel().tolist() for leaf in jax.tree.leaves(state.params)],
        "query": cuts(state.params, QUERY) | cuts(frozen_base(program if then is None else then), QUERY),
        "query_moments": cuts(state.opt_state, "mu/" + QUERY),
        "batch_shards": shards(batch.tokens),
        "devices": len(batch.tokens.sharding.device_set),
    }


def cuts(tree, within):
    """Of the arrays below a path: shape, shape of a device's part, and number of different parts."""
    leaves = {path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree) if within in path_name(path)}
    return {
        name.rpartition("/")[2]: [list(leaf.shape), list(leaf.addressable_shards[0].data.shape), shards(leaf)]
        for name, leaf in leaves.items()
    }


def updates(program, state, indices):
    """The state after some updates, their losses, and the last batch."""
    batches, losses = RandomBatches(rows=program.loop.rows_per_batch), []
    frozen = frozen_base(program)
    for index in indices:
        batch = place_batch(program.mesh, batches[index])
        state, metrics = program.train_step(frozen, state, batch, np.int32(index))
        losses.append(float(metrics["loss"]))
    return state, losses, batch


def frozen_base(program):
    """What adapters are trained beside, on the devices of the program; nothing where all is trained."""
    return place_frozen(pretrained_base() if program.frozen else {}, program.frozen)


def carried_over(state, program):
    """The state as another program reads it from a checkpoint."""
    with tempfile.TemporaryDirectory() as folder, Checkpointer(pathlib.Path(folder), 1) as checkpointer:
        checkpointer.save(state, 1)
        checkpointer.wait()
        return checkpointer.restore(program.abstract)


def run_as_told(mesh, then=None, adapters=False, **options):
    options["lora"] = LORA if adapters else TRAIN_ALL
    other = None if then is None else tiny_program(mesh=then, **options)
    return run(tiny_program(mesh=mesh, **options), other, pretrained_base() if options.get("extra_blocks") else {})


if __name__ == "__main__":
    print(json.dumps([run_as_told(**options) for options in json.loads(sys.argv[1])]))
