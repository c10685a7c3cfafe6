"""Loads a folder onto eight devices in two ways, checks every value, and prints how the parameters are cut."""

import json
import sys
from functools import partial

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from agentprm_jax.models import load_pretrained
from agentprm_jax.training import MeshConfig, make_mesh, parameter_shardings
from agentprm_jax.training.mesh import path_name


def by_layers(mesh, axes, shapes):
    """Cuts what is stacked between layers."""
    return jax.tree.map(
        lambda shape, names: NamedSharding(mesh, PartitionSpec("fsdp" if names[0] == "layers" else None)), shapes, axes
    )


def cut(array):
    """Shape of a part, and number of different parts."""
    shards = array.addressable_shards
    return [list(shards[0].data.shape), len({str(shard.index) for shard in shards})]


def main(folder):
    _, expected = load_pretrained(folder)
    ways = {
        "by rules": partial(parameter_shardings, make_mesh(MeshConfig(data=1, fsdp=4, tensor=2))),
        "by layers": partial(by_layers, make_mesh(MeshConfig(data=1, fsdp=2, tensor=4))),
    }
    cuts = {}
    for name, shardings in ways.items():
        _, params = load_pretrained(folder, shardings)
        jax.tree.map(np.testing.assert_array_equal, params, expected)
        cuts[name] = {path_name(path): cut(leaf) for path, leaf in jax.tree.leaves_with_path(params)}
    print(json.dumps(cuts))


if __name__ == "__main__":
    main(sys.argv[1])
