"""Trains the tiny models on given meshes; prints what came out as JSON. Started by test_any_mesh.py on fake devices."""

import json
import sys

import jax
import numpy as np
from tiny_training import RandomBatches, tiny_program

from agentprm_jax.training.loop import place_batch
from agentprm_jax.training.mesh import path_name

QUERY = "decoder/layers/attention/query/kernel"


def shards(array):
    """Number of different parts that the devices hold."""
    return len({str(shard.index) for shard in array.addressable_shards})


def run(program):
    """Losses and parameters after all updates, and how they lay on the devices."""
    state, batches, losses = program.init(jax.random.key(0), {}), RandomBatches(), []
    for index in range(program.total_steps):
        batch = place_batch(program.mesh, batches[index])
        state, metrics = program.train_step({}, state, batch, np.int32(index))
        losses.append(float(metrics["loss"]))
    query, query_moment = (
        next(leaf for path, leaf in jax.tree.leaves_with_path(tree) if path_name(path).endswith(end))
        for tree, end in ((state.params, QUERY), (state.opt_state, "mu/" + QUERY))
    )
    return {
        "losses": losses,
        "params": [np.asarray(leaf).ravel().tolist() for leaf in jax.tree.leaves(state.params)],
        "query_shards": shards(query),
        "moment_shards": shards(query_moment),
        "query_shapes": [list(query.shape), list(query.addressable_shards[0].data.shape)],
        "batch_shards": shards(batch.tokens),
        "devices": len(batch.tokens.sharding.device_set),
    }


if __name__ == "__main__":
    kind, rule, *meshes = json.loads(sys.argv[1])
    print(json.dumps([run(tiny_program(kind, mesh=mesh, rule=rule)) for mesh in meshes]))
