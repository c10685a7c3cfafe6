"""Places numbered rows on meshes of several processes, whose devices come in a given order; prints what lies where.

Started by tests of several processes, on fake devices.
"""

import dataclasses
import json

import jax
import numpy as np
import tyro

from agentprm_jax.training import DistributedConfig, MeshConfig, initialise_distributed, make_mesh, row_share
from agentprm_jax.training.loop import place_batch

ROWS = np.arange(16)


@dataclasses.dataclass(frozen=True)
class Options:
    meshes: tuple[tuple[str, int, int, int], ...]
    """The process of each device, such as 0101, and the sizes of the axes."""
    distributed: DistributedConfig


def placed(order, *shape):
    """The first row of each part that lies on a device of this process, and the rows that were placed there."""
    own = {process: [d for d in jax.devices() if d.process_index == process] for process in (0, 1)}
    mesh = make_mesh(MeshConfig(*shape), [own[int(process)].pop(0) for process in order])
    share = row_share(mesh)
    given = ROWS.reshape(share.of, -1)[list(share.parts)].ravel()
    shards = place_batch(mesh, given).addressable_shards
    return [[shard.index[0].start or 0, *shard.data.tolist()] for shard in shards]


if __name__ == "__main__":
    options = tyro.cli(Options)
    initialise_distributed(options.distributed)
    print(json.dumps([placed(*mesh) for mesh in options.meshes]))
