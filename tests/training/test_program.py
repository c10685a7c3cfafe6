import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console
from tiny_training import MODEL, RandomBatches, tiny_program

from agentprm_jax.training import Checkpointer, NonFiniteUpdate, RunMismatch, TrainingInterrupted, train

FOLDER = pathlib.Path(__file__).parent


class Signalling(RandomBatches):
    """Sends this process a signal while the batch of one update is fetched."""

    def __init__(self, index, number):
        super().__init__()
        self.index, self.number = index, number

    def __getitem__(self, index):
        if index == self.index:
            signal.raise_signal(self.number)
        return super().__getitem__(index)


class Poisoned(RandomBatches):
    """The outcome of one batch is not a number."""

    def __init__(self, index):
        super().__init__()
        self.index = index

    def __getitem__(self, index):
        batch = super().__getitem__(index)
        return batch._replace(outcomes=np.full_like(batch.outcomes, np.nan)) if index == self.index else batch


def run(program, output, batches=None, *, seed=0, shown=None, **options):
    console = Console(file=shown or io.StringIO())
    return train(program, batches or RandomBatches(), output, seed=seed, console=console, **options)


def started(script, output):
    command = [sys.executable, str(FOLDER / script), str(output)]
    compiling = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}  # the bits must not depend on who compiled
    return subprocess.run(command, capture_output=True, text=True, check=False, env=compiling)


def on_host(tree):
    return jax.tree.map(np.asarray, tree)


def assert_equal(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), one, other)


def checkpoints(output):
    return sorted(int(path.name) for path in (output / "checkpoints").iterdir() if path.name.isdigit())


@pytest.fixture(scope="module")
def uninterrupted(prm_program, tmp_path_factory):
    output = tmp_path_factory.mktemp("uninterrupted")
    return output, run(prm_program, output)


def test_training_is_a_plain_loop_of_gradient_steps(prm_program, uninterrupted):
    _, params = uninterrupted
    state, step = prm_program.init(jax.random.key(0), {}), prm_program.train_step
    for index in range(6):
        state, _ = step({}, state, RandomBatches()[index], np.int32(index))
    assert_equal(params, state.params)


def test_a_run_leaves_checkpoints_a_row_for_each_update_events_and_its_record(uninterrupted):
    output, _ = uninterrupted
    metrics = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in metrics] == [1, 2, 3, 4, 5, 6]
    expected = {"loss", "promise_loss", "progress_loss", "mean_promise", "mean_target"}
    expected |= {"grad_norm", "learning_rate", "tokens", "steps", "step"}
    assert {*metrics[0]} == expected
    assert checkpoints(output) == [3, 6]
    assert len(list((output / "tensorboard").iterdir())) == 1
    assert json.loads((output / "training.json").read_text())["parameters"]["value_head/kernel"] == "float32[16]"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_was_asked_to_stop_continues_to_the_same_bits(prm_program, uninterrupted, tmp_path, number):
    output, params = uninterrupted
    with pytest.raises(TrainingInterrupted) as caught:
        run(prm_program, tmp_path, Signalling(3, number), shown=(shown := io.StringIO()))
    message = str(caught.value)
    assert re.match(
        rf"Training was stopped by {number.name} after update 4 of 6; .* in {tmp_path}/checkpoints/4\.", message
    )
    assert "Run the same command again" in message
    assert shown.getvalue().splitlines()[-1] == message
    assert "\n" not in message
    assert checkpoints(tmp_path) == [3, 4]
    rest = RandomBatches()
    assert_equal(run(prm_program, tmp_path, rest), params)
    assert rest.seen == [4, 5]
    assert (tmp_path / "metrics.jsonl").read_bytes() == (output / "metrics.jsonl").read_bytes()


def test_a_killed_run_continues_from_its_last_checkpoint_to_the_same_bits(prm_program, uninterrupted, tmp_path):
    output, params = uninterrupted
    result = started("killed_run.py", tmp_path)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert set(checkpoints(tmp_path)) <= {3}
    assert_equal(run(prm_program, tmp_path), params)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (output / "metrics.jsonl").read_bytes()


def test_a_disk_that_is_full_while_training_goes_on_leaves_the_last_checkpoint_and_one_sentence(
    prm_program, uninterrupted, tmp_path
):
    _, params = uninterrupted
    result = started("full_disk.py", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    (message,) = result.stdout.splitlines()
    assert f"could not be written to {tmp_path}/checkpoints" in message
    assert "the checkpoint of step 3 is whole. Make room" in message
    assert_equal(run(prm_program, tmp_path), params)


def test_a_run_that_is_done_gives_its_parameters_without_an_update(prm_program, uninterrupted, tmp_path):
    output, params = uninterrupted
    shutil.copytree(output, tmp_path / "copy")
    untouched = RandomBatches()
    assert_equal(run(prm_program, tmp_path / "copy", untouched), params)
    assert untouched.seen == []


def test_another_seed_gives_other_parameters(prm_program, uninterrupted, tmp_path):
    _, params = uninterrupted
    other = run(prm_program, tmp_path, seed=1)
    assert (np.asarray(other["value_head"]["kernel"]) != np.asarray(params["value_head"]["kernel"])).any()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"batches": RandomBatches(seed=9)}, "data was 'random-0' and is now 'random-9'"),
        ({"settings": {"objective": "pvm"}}, "settings"),
    ],
)
def test_a_run_with_other_settings_is_refused_and_nothing_is_changed(
    prm_program, uninterrupted, tmp_path, options, field
):
    output, _ = uninterrupted
    shutil.copytree(output, tmp_path / "copy")
    with pytest.raises(RunMismatch, match=field):
        run(prm_program, tmp_path / "copy", **options)
    assert (tmp_path / "copy" / "metrics.jsonl").read_bytes() == (output / "metrics.jsonl").read_bytes()
    assert (tmp_path / "copy" / "training.json").read_bytes() == (output / "training.json").read_bytes()


@pytest.mark.parametrize(
    ("index", "left"), [(1, "there is no checkpoint yet"), (4, "the checkpoint of step 3 is kept")]
)
def test_an_update_that_is_not_finite_stops_the_run_and_names_step_and_trajectories(prm_program, tmp_path, index, left):
    with pytest.raises(NonFiniteUpdate) as caught:
        run(prm_program, tmp_path, Poisoned(index))
    message = str(caught.value)
    assert message.startswith(f"Update {index + 1} had loss nan")
    assert left in message
    assert f"batch{index}_row0, batch{index}_row1, " in message
    assert checkpoints(tmp_path) == ([] if index < 3 else [3])
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, index + 1))


def test_a_mended_batch_lets_the_run_go_on_to_the_same_bits(prm_program, uninterrupted, tmp_path):
    _, params = uninterrupted
    with pytest.raises(NonFiniteUpdate):
        run(prm_program, tmp_path, Poisoned(4))
    assert_equal(run(prm_program, tmp_path), params)


def test_a_reward_model_begins_with_the_decoder_it_is_given(prm_program, tmp_path):
    trained = on_host(prm_program.init(jax.random.key(8), {}).params["decoder"])
    with pytest.raises(TrainingInterrupted):
        run(prm_program, tmp_path, Signalling(0, signal.SIGTERM), pretrained={"decoder": trained})
    state = prm_program.init(jax.random.key(0), {"decoder": trained})
    state, _ = prm_program.train_step({}, state, RandomBatches()[0], np.int32(0))
    with Checkpointer(tmp_path / "checkpoints", 2) as checkpointer:
        assert_equal(checkpointer.restore(prm_program.abstract).params, state.params)


class Watching(Signalling):
    """Notes before every update which of the arrays of a tree are gone; asks the run to stop in the middle."""

    def __init__(self, tree, index=None):
        super().__init__(index, signal.SIGTERM)
        self.leaves, self.gone = jax.tree.leaves(tree), []

    def __getitem__(self, index):
        self.gone.append([leaf.is_deleted() for leaf in self.leaves])
        return super().__getitem__(index)


def test_while_training_the_devices_hold_no_second_copy_of_the_model_that_it_began_with(prm_program, tmp_path):
    host = on_host(prm_program.init(jax.random.key(8), {}).params["decoder"])
    expected = run(prm_program, tmp_path / "host", pretrained={"decoder": host})
    first, again = (jax.tree.map(jnp.array, host) for _ in range(2))
    begun, resumed = Watching(first, 3), Watching(again)
    with pytest.raises(TrainingInterrupted):
        run(prm_program, tmp_path / "device", begun, pretrained={"decoder": first})
    assert_equal(run(prm_program, tmp_path / "device", resumed, pretrained={"decoder": again}), expected)
    for watching in (begun, resumed):
        assert watching.gone
        assert all(map(all, watching.gone))


@pytest.mark.slow
def test_sft_learns_to_continue_a_fixed_text():
    program = tiny_program("sft", steps=30, learning_rate=3e-2)
    batch, state = RandomBatches()[0], program.init(jax.random.key(0), {})
    losses = []
    for index in range(30):
        state, metrics = program.train_step({}, state, batch, np.int32(index))
        losses.append(float(metrics["loss"]))
    assert losses[0] == pytest.approx(np.log(MODEL.vocab_size), rel=0.05)
    assert losses[-1] < 0.5 * losses[0]
    assert jnp.isfinite(optax.tree.norm(state.params))
