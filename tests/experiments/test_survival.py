"""A training by the real command that is killed again and again, or asked to stop, ends as one that is left alone."""

import math
import signal
import time

import numpy as np
import pytest
from tiny_runs import command, environment, make_inputs, metrics, newest_checkpoint, reported, start

KILLS, STEPS, EVERY = 20, 500, 5
DEADLINE = 400
LOOP = ["--loop.steps", STEPS, "--loop.checkpoint-every", EVERY]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def left_alone(inputs, tmp_path_factory):
    """The folder of a run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("left_alone")
    process = start(command(inputs, folder / "run", *LOOP), folder / "log", environment())
    assert process.wait(DEADLINE) == 0, (folder / "log").read_text()
    return folder / "run"


def wait_for_first_update(process, log, most=math.inf):
    """Waits until the process has reported an update, has ended, or so many seconds are over; gives the seconds."""
    begun = time.monotonic()
    while "step" not in log.read_text() and process.poll() is None and time.monotonic() - begun < most:
        time.sleep(0.002)
    return time.monotonic() - begun


def wait_for_updates(process, output, count):
    """Waits until the process has reported so many more updates, or has ended."""
    first = reported(output)
    while reported(output) < first + count and process.poll() is None:
        time.sleep(0.002)


def assert_same_end(one, other):
    assert (other / "metrics.jsonl").read_bytes() == (one / "metrics.jsonl").read_bytes()
    assert [row["step"] for row in metrics(other)] == list(range(1, STEPS + 1))
    assert (other / "model" / "model.safetensors").read_bytes() == (one / "model" / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_nothing_and_cost_only_what_was_after_the_last_checkpoint(
    inputs, left_alone, tmp_path
):
    output, log, rng = tmp_path / "run", tmp_path / "log", np.random.default_rng(4)
    reached, startup = [], 0.0
    for kill in range(KILLS):
        process = start(command(inputs, output, *LOOP), log, environment())
        if kill % 4 == 3:
            wait_for_first_update(process, log, rng.uniform(0, startup))  # while it starts, restores or compiles
        else:
            startup = wait_for_first_update(process, log)
            wait_for_updates(process, output, int(rng.integers(0, 30)))
            time.sleep(rng.uniform(0, 0.03))  # in the middle of an update, a report or a checkpoint
        assert process.poll() is None, log.read_text()
        process.send_signal(signal.SIGKILL)
        process.wait()
        done, saved = reported(output), newest_checkpoint(output)
        # A checkpoint is written while updates go on; before the next one begins it is whole.
        assert done - saved <= 2 * EVERY
        assert saved >= max(reached, default=0)
        reached.append(saved)
    print("checkpoints after the kills:", reached)
    assert (
        len(set(reached)) > KILLS // 3
    )  # most sessions were killed later than the one before, and some while starting
    process = start(command(inputs, output, *LOOP), log, environment())
    assert process.wait(DEADLINE) == 0, log.read_text()
    assert_same_end(left_alone, output)


@pytest.mark.slow
def test_a_run_that_is_asked_to_stop_saves_exits_with_75_in_seconds_and_goes_on_to_the_same_end(
    inputs, left_alone, tmp_path
):
    output, log = tmp_path / "run", tmp_path / "log"
    process = start(command(inputs, output, *LOOP), log, environment())
    wait_for_first_update(process, log)
    wait_for_updates(process, output, 33)
    process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    assert process.wait(DEADLINE) == 75, log.read_text()
    assert time.monotonic() - begun < 15  # half of the shortest grace time of preemptible machines, 30 seconds
    assert "Traceback" not in log.read_text()
    assert newest_checkpoint(output) == reported(output) > 33
    process = start(command(inputs, output, *LOOP), log, environment())
    assert process.wait(DEADLINE) == 0, log.read_text()
    assert_same_end(left_alone, output)
