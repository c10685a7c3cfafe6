"""Runs a training of which one process is killed outright at one update, when a checkpoint is whole.

Arguments are the number of that process, the experiment, and what it is to be told.
"""

import os
import pathlib
import runpy
import signal
import sys
import time

import jax
from tiny_runs import newest_checkpoint

from agentprm_jax.training import PackedBatches


def die_at(update, victim, output, batch_of):
    def batch(self, index):
        if index == update and jax.process_index() == victim:
            while not newest_checkpoint(output):
                time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGKILL)
        return batch_of(self, index)

    return batch


if __name__ == "__main__":
    victim, script = sys.argv[1:3]
    sys.argv = sys.argv[2:]
    output = pathlib.Path(sys.argv[sys.argv.index("--output") + 1])
    PackedBatches.__getitem__ = die_at(13, int(victim), output, PackedBatches.__getitem__)
    runpy.run_path(script, run_name="__main__")
