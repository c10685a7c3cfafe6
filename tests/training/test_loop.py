"""Laws of the loop that need no training of their own: when it saves, and what it refuses."""

import functools

import jax
import pytest
from tiny_training import RandomBatches

from agentprm_jax.training.config import LoopConfig
from agentprm_jax.training.loop import fit


class Saves:
    """A checkpointer that remembers the steps."""

    def __init__(self):
        self.steps = []

    def save(self, state, step):
        self.steps.append(step)

    def wait(self):
        pass


class Clock:
    """A clock that goes on by so many seconds whenever it is looked at: once at first, at an update and at a save."""

    def __init__(self, seconds):
        self.now, self.seconds = 0.0, seconds

    def __call__(self):
        self.now += self.seconds
        return self.now


def saved_steps(program, *, every, minutes, seconds):
    checkpointer = Saves()
    fit(
        program.init(jax.random.key(0), {}),
        functools.partial(program.train_step, {}),
        RandomBatches(),
        12,
        mesh=program.mesh,
        loop=LoopConfig(rows_per_batch=8, checkpoint_every=every, checkpoint_minutes=minutes),
        checkpointer=checkpointer,
        writers=[],
        stop=lambda: None,
        clock=Clock(seconds),
    )
    return checkpointer.steps


@pytest.mark.parametrize(
    ("every", "seconds", "expected"),
    [
        (5, 1, [5, 10, 12]),  # the number of steps comes first
        (100, 30, [4, 8, 12]),  # the time comes first
        (5, 30, [4, 8, 12]),
        (3, 30, [3, 6, 9, 12]),
    ],
)
def test_a_checkpoint_is_due_by_steps_or_by_minutes_whichever_comes_first(prm_program, every, seconds, expected):
    assert saved_steps(prm_program, every=every, minutes=2, seconds=seconds) == expected


def test_a_batch_with_another_number_of_rows_is_refused(prm_program):
    with pytest.raises(ValueError, match=r"should have 8 rows, the share of process 0 in the 8 .* got \[4\]"):
        fit(
            prm_program.init(jax.random.key(0), {}),
            functools.partial(prm_program.train_step, {}),
            RandomBatches(rows=4),
            1,
            mesh=prm_program.mesh,
            loop=LoopConfig(rows_per_batch=8),
            checkpointer=Saves(),
            writers=[],
            stop=lambda: None,
            clock=Clock(0),
        )
