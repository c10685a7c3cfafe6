"""Runs an experiment with a mesh whose devices belong to processes in a given order, as those of a TPU's torus do.

Arrays come to the hosts in small pieces, as those of a large model do.

Arguments are the numbers of the processes, such as 0101, the experiment, and what it is to be told.
"""

import functools
import runpy
import sys

import numpy as np
from jax.experimental import mesh_utils

from agentprm_jax.training import distributed


def arrange(order, shape, devices, **_):
    own = {process: [device for device in devices if str(device.process_index) == process] for process in order}
    return np.array([own[process].pop(0) for process in order]).reshape(shape)


if __name__ == "__main__":
    order, script = sys.argv[1:3]
    sys.argv = sys.argv[2:]
    mesh_utils.create_device_mesh = functools.partial(arrange, order)
    distributed.GATHERED_BYTES = 256
    runpy.run_path(script, run_name="__main__")
