"""Trains the tiny models on given meshes; prints what came out as JSON. Started by test_any_mesh.py on fake devices."""

import json
import sys

import jax
import numpy as np
from tiny_training import LORA, TRAIN_ALL, RandomBatches, pretrained_base, tiny_program

from agentprm_jax.training.loop import place_batch
from agentprm_jax.training.mesh import path_name
from agentprm_jax.training.state import place_frozen

QUERY = "decoder/layers/attention/query/"


def shards(array):
    """Number of different parts that the devices hold."""
    return len({str(shard.index) for shard in array.addressable_shards})


def run(program):
    """Losses and parameters after all updates, and how they lay on the devices."""
    state, batches, losses = program.init(jax.random.key(0), {}), RandomBatches(), []
    frozen = place_frozen(pretrained_base() if program.frozen else {}, program.frozen)
    for index in range(program.total_steps):
        batch = place_batch(program.mesh, batches[index])
        state, metrics = program.train_step(frozen, state, batch, np.int32(index))
        losses.append(float(metrics["loss"]))
    return {
        "losses": losses,
        "params": [np.asarray(leaf).ravel().tolist() for leaf in jax.tree.leaves(state.params)],
        "query": cuts(state.params, QUERY) | cuts(frozen, QUERY),
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


if __name__ == "__main__":
    kind, rule, adapters, *meshes = json.loads(sys.argv[1])
    lora = LORA if adapters else TRAIN_ALL
    print(json.dumps([run(tiny_program(kind, mesh=mesh, rule=rule, lora=lora)) for mesh in meshes]))
