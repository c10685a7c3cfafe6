"""Trains the tiny reward model and is killed outright at one update. Started by test_program.py."""

import os
import pathlib
import signal
import sys

from tiny_training import RandomBatches, tiny_program

from agentprm_jax.training import train


class DeadlyBatches(RandomBatches):
    def __getitem__(self, index):
        if index == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


if __name__ == "__main__":
    train(tiny_program("prm"), DeadlyBatches(), pathlib.Path(sys.argv[1]), seed=0)
