"""Trains the tiny reward model where no file may grow large from one update on. Started by test_program.py."""

import pathlib
import resource
import signal
import sys
import time

from tiny_training import RandomBatches, tiny_program

from agentprm_jax.training import CheckpointError, train


class FillingBatches(RandomBatches):
    first_checkpoint = pathlib.Path(sys.argv[1]) / "checkpoints" / "3" / "_CHECKPOINT_METADATA"

    def __getitem__(self, index):
        while index == 4 and not self.first_checkpoint.exists():
            time.sleep(0.01)
        if index == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        return super().__getitem__(index)


if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        train(tiny_program("prm"), FillingBatches(), pathlib.Path(sys.argv[1]), seed=0)
    except CheckpointError as error:
        print(error)
