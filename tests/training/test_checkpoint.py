import asyncio
import gc
import subprocess
import sys

import jax
import numpy as np
import pytest
from tiny_training import RandomBatches

from agentprm_jax.training.checkpoint import Checkpointer, CheckpointError
from agentprm_jax.training.loop import place_batch


@pytest.fixture
def state(prm_program):
    return prm_program.init(jax.random.key(5), {})


def assert_equal(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), one, other)


def saved(directory, state, steps, keep=2):
    with Checkpointer(directory, keep) as checkpointer:
        for step in steps:
            checkpointer.save(state, step)
            checkpointer.wait()


def test_what_is_restored_is_what_was_saved_bit_for_bit(tmp_path, prm_program, state):
    saved(tmp_path, state, [7])
    with Checkpointer(tmp_path, 2) as checkpointer:
        restored = checkpointer.restore(prm_program.abstract)
    assert_equal(restored, state)
    assert jax.tree.map(lambda leaf: leaf.sharding, restored) == jax.tree.map(lambda leaf: leaf.sharding, state)


def test_a_checkpoint_holds_its_own_step_although_the_next_update_reuses_the_memory(tmp_path, prm_program, state):
    before = jax.tree.map(lambda leaf: np.array(leaf), state)
    with Checkpointer(tmp_path, 2) as checkpointer:
        checkpointer.save(state, 0)
        for index in range(4):
            batch = place_batch(prm_program.mesh, RandomBatches()[index])
            state, _ = prm_program.train_step({}, state, batch, np.int32(index))
        jax.block_until_ready(state)
        checkpointer.wait()
        assert_equal(checkpointer.restore(prm_program.abstract), before)


def test_the_newest_checkpoints_are_kept(tmp_path, state):
    saved(tmp_path, state, [1, 2, 3, 4], keep=2)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.isdigit()) == ["3", "4"]


def test_what_is_half_written_is_as_if_it_were_not_there(tmp_path, state):
    saved(tmp_path, state, [3])
    (tmp_path / "9" / "default").mkdir(parents=True)
    (tmp_path / "12.orbax-checkpoint-tmp").mkdir()
    with Checkpointer(tmp_path, 2) as checkpointer:
        assert checkpointer.latest_step() == 3
        checkpointer.save(state, 9)
        checkpointer.wait()
        assert checkpointer.latest_step() == 9


def test_restoring_from_an_empty_folder_is_refused_by_its_name(tmp_path, prm_program):
    with (
        Checkpointer(tmp_path, 2) as checkpointer,
        pytest.raises(CheckpointError, match=f"no checkpoint in {tmp_path}"),
    ):
        checkpointer.restore(prm_program.abstract)


def test_a_damaged_checkpoint_is_refused_with_what_to_do(tmp_path, prm_program, state):
    saved(tmp_path, state, [3])
    for path in (tmp_path / "3").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[:10])
    answer = rf"{tmp_path}/3 cannot be read: .* Remove that folder"
    with Checkpointer(tmp_path, 2) as checkpointer, pytest.raises(CheckpointError, match=answer):
        checkpointer.restore(prm_program.abstract)


def test_a_checkpoint_of_another_model_is_refused(tmp_path, prm_program, state):
    saved(tmp_path, state._replace(params=state.params | {"extra": state.step}), [3])
    with Checkpointer(tmp_path, 2) as checkpointer, pytest.raises(CheckpointError, match="cannot be read"):
        checkpointer.restore(prm_program.abstract)


FULL_DISK = """
import pathlib, resource, signal, sys
import numpy as np
from agentprm_jax.training.checkpoint import Checkpointer, CheckpointError
from agentprm_jax.training.state import TrainState
import jax.numpy as jnp
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
noise = lambda seed: TrainState(jnp.int32(seed), {"w": jnp.asarray(np.random.default_rng(seed).random(40_000))}, ())
checkpointer = Checkpointer(pathlib.Path(sys.argv[1]), 2)
checkpointer.save(noise(1), 1)
checkpointer.wait()
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    with checkpointer:
        checkpointer.save(noise(2), 2)
except CheckpointError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
with Checkpointer(pathlib.Path(sys.argv[1]), 2) as again:
    print(again.latest_step())
"""


def test_where_no_more_can_be_written_the_answer_is_one_paragraph_and_the_last_checkpoint_is_whole(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    message, latest = result.stdout.splitlines()
    assert latest == "1"
    assert f"could not be written to {tmp_path}" in message
    assert "the checkpoint of step 1 is whole" in message
    assert "Make room" in message
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("place", "reported"), [("site-packages/orbax/checkpoint/writer.py", 0), ("program.py", 1)])
def test_an_error_of_a_write_nobody_waits_for_is_not_logged_beside_the_answer(tmp_path, caplog, place, reported):
    with Checkpointer(tmp_path, keep=1):
        space = {}
        exec(compile("async def write():\n    raise ValueError('disk full')", place, "exec"), space)

        async def fail():
            task = asyncio.ensure_future(space["write"]())
            await asyncio.wait([task])

        asyncio.run(fail())
        gc.collect()
    assert len([record for record in caplog.records if "never retrieved" in record.message]) == reported
