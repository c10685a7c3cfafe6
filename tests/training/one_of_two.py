"""Trains the tiny model as one of several processes, or alone; the first prints what came out as JSON."""

import json
import pathlib
import sys

import jax
import numpy as np
from tiny_training import ROWS, RandomBatches, tiny_program

from agentprm_jax.training import DistributedConfig, first_goes_first, is_first, join_processes, train, whole


class Share(RandomBatches):
    """This process' rows of every batch."""

    def __getitem__(self, index):
        share = ROWS // jax.process_count()
        start = share * jax.process_index()
        return jax.tree.map(lambda x: x[start : start + share], super().__getitem__(index))


if __name__ == "__main__":
    output, address, count, index = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if count > 1:
        join_processes(DistributedConfig(coordinator=address, count=count, index=index))
    with first_goes_first("folder"):
        was_there = output.exists()
        output.mkdir(exist_ok=True)
    assert was_there != is_first()
    params = whole(train(tiny_program(mesh=(2, 2, 2)), Share(), output, seed=0))
    if is_first():
        print(json.dumps([np.asarray(leaf, float).ravel().tolist() for leaf in jax.tree.leaves(params)]))
